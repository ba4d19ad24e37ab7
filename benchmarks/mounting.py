"""Listing, opening and reading through every way to mount the tree."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import systems
from measure import Table, Target, alternate, drop_caches, meminfo, timed

if TYPE_CHECKING:
    from corpus import Corpus
    from peers import Peers

HERE = Path(__file__).resolve().parent
HELPER = HERE.parent / "target/bench/openread"
DOMAIN = "bench"
OPENS = 200_000
STREAM_BYTES = 256 << 20
FUSE, RUN = "pyerofs fuse", "pyerofs run in a domain"
OPEN_TARGETS = [Target(RUN, 1.1, "overlay of plain directories"), Target(RUN, 2.0, "ext4")]
KERNEL, OURS_IN_KERNEL = "kernel, mkfs.erofs' image", "kernel, our image"
METADATA = "kernel, our image with its data in a blob"


def tables(peers: Peers, corpus: Corpus, work: Path) -> list[Table]:
    """Measure the tree, and then one large file with small ones beside it."""
    HELPER.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rustc", "--edition=2024", "-O", "-o", HELPER, HERE / "openread.rs"], check=True)
    files = list_files(corpus.tree, work)
    images = make_images(peers, corpus.tree, work)
    return mounted_times(peers, corpus.tree, images, work, files) + stream_times(peers, work)


def list_files(tree: Path, work: Path) -> tuple[Path, Path]:
    """Two lists of names between NULs: every regular file, and 20,000 small ones for opening."""
    every, small = [], []
    for folder, _folders, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                relative = os.fsencode(path.relative_to(tree))
                every.append(relative)
                if 0 < path.stat().st_size <= 1 << 16:
                    small.append(relative)
    random.Random(1).shuffle(small)
    lists = (work / "every", work / "small")
    lists[0].write_bytes(b"\0".join(every))
    lists[1].write_bytes(b"\0".join(small[:20_000]))
    return lists


def make_images(peers: Peers, tree: Path, work: Path) -> dict[str, Path]:
    """One image of each kind."""
    images = {name: work / f"{name}.image" for name in ("ours", "mkfs", "squashfs", "metadata", "blob")}
    timed(["pyerofs", "build", str(tree), str(images["ours"])])
    blob = ["--chunk", "4k", "--blob", str(images["blob"])]
    timed(["pyerofs", "build", *blob, str(tree), str(images["metadata"])])
    peers.mkfs(images["mkfs"], tree, "--quiet")
    squash = ["-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"]
    peers.run("mksquashfs", tree, images["squashfs"], *squash)
    return images


def mounted_times(
    peers: Peers, tree: Path, images: dict[str, Path], work: Path, files: tuple[Path, Path]
) -> list[Table]:
    """List, open and read the tree through every way to mount it."""
    ways = [
        systems.plain("ext4", tree),
        systems.overlay("overlay of plain directories", tree),
        systems.kernel(KERNEL, images["mkfs"]),
        systems.kernel(OURS_IN_KERNEL, images["ours"]),
        systems.kernel(METADATA, images["metadata"], images["blob"]),
        systems.running(RUN, images["ours"], "--domain", DOMAIN),
        systems.mounted(FUSE, images["ours"], "--backend", "fuse"),
        systems.fuse_peer("erofsfuse", peers, "erofsfuse", images["mkfs"]),
        systems.squashfs("squashfs, kernel", images["squashfs"]),
        systems.fuse_peer("squashfuse", peers, "squashfuse", images["squashfs"]),
    ]
    every, small = (shlex.quote(str(path)) for path in files)
    helper = shlex.quote(str(HELPER))
    find = "find . -ls >/dev/null"
    cold = Table(
        "find -ls, cold",
        "s",
        f"echo 3 > /proc/sys/vm/drop_caches; {find}",
        targets=[
            Target(FUSE, 0.6, KERNEL),
            Target(FUSE, 0.2, "erofsfuse"),
            Target(OURS_IN_KERNEL, 0.5, KERNEL),
            Target(METADATA, 1 / 6, KERNEL),
        ],
    )
    warm = Table("find -ls, warm", "s", find)
    opens = Table(
        "open + read + close, warm, all over the tree",
        "us per file",
        f"openread open SMALL {OPENS} (20,000 files of up to 64 KiB, random order)",
        targets=OPEN_TARGETS,
    )
    reads = Table(
        "Read every file, cold",
        "s",
        "echo 3 > /proc/sys/vm/drop_caches; openread all EVERY",
        targets=[Target(OURS_IN_KERNEL, 1.0, KERNEL)],
    )
    cache = Table("Page cache after reading every file", "MB", "growth of Cached in /proc/meminfo")
    with systems.ready(ways, work) as entered:

        def cold_find(system: systems.System) -> float:
            drop_caches()
            return system.seconds(find)

        def cold_read(system: systems.System) -> float:
            drop_caches()
            before = meminfo("Cached")
            said = system.tell(f"{helper} all {every}")
            cache.values.setdefault(system.name, []).append((meminfo("Cached") - before) / 1e6)
            return float(said[-1].split()[0])

        def open_files(system: systems.System) -> float:
            return float(system.tell(f"{helper} open {small} {OPENS}")[-1]) / 1000

        for system in entered:
            print(f"  {system.name}", flush=True)
            # Once unmeasured: a domain's objects are made now.
            system.tell(f"{helper} all {every}")
        alternate(cold, {way.name: partial(cold_find, way) for way in entered})
        alternate(warm, {way.name: partial(way.seconds, find) for way in entered})
        # Squashfs takes minutes for what follows, and competes with images for size, not for this.
        entered = [way for way in entered if not way.name.startswith("squash")]
        alternate(opens, {way.name: partial(open_files, way) for way in entered})
        alternate(reads, {way.name: partial(cold_read, way) for way in entered})
    return [cold, warm, opens, reads, cache]


def stream_times(peers: Peers, work: Path) -> list[Table]:
    """Read one large file in order, and open small ones beside it, with no path to walk."""
    tree = work / "stream"
    tree.mkdir()
    draw = random.Random(2)
    names = [f"small{number:04}" for number in range(1000)]
    for name in names:
        (tree / name).write_bytes(draw.randbytes(3000))
    (work / "flat").write_text("\0".join(names))
    with open(tree / "large", "wb") as file:
        file.writelines(draw.randbytes(1 << 20) for _ in range(STREAM_BYTES >> 20))
    ours, theirs = work / "stream.erofs", work / "stream.mkfs"
    timed(["pyerofs", "build", str(tree), str(ours)])
    peers.mkfs(theirs, tree, "--quiet")
    ways = [
        systems.plain("ext4", tree),
        systems.overlay("overlay of plain directories", tree),
        systems.kernel(KERNEL, theirs),
        systems.running(RUN, ours, "--domain", DOMAIN),
        systems.mounted(FUSE, ours, "--backend", "fuse"),
        systems.fuse_peer("erofsfuse", peers, "erofsfuse", theirs),
    ]
    command = "dd if=large of=/dev/null bs=1M status=none"
    cold = Table(f"Read {STREAM_BYTES >> 20} MiB in order, cold", "s", f"drop_caches; {command}")
    warm = Table(f"Read {STREAM_BYTES >> 20} MiB in order, warm", "s", command)
    flat = Table(
        "open + read + close, warm, in one directory",
        "us per file",
        f"openread open FLAT {OPENS} (1,000 files of 3 kB in the root directory, random order)",
        targets=OPEN_TARGETS,
    )
    directory = work / "streams"
    directory.mkdir()
    with systems.ready(ways, directory) as entered:

        def from_disk(system: systems.System) -> float:
            drop_caches()
            return system.seconds(command)

        def open_files(system: systems.System) -> float:
            said = system.tell(f"{shlex.quote(str(HELPER))} open {shlex.quote(str(work / 'flat'))} {OPENS}")
            return float(said[-1]) / 1000

        for system in entered:
            system.seconds(command)
            open_files(system)
        alternate(flat, {way.name: partial(open_files, way) for way in entered})
        alternate(cold, {way.name: partial(from_disk, way) for way in entered})
        alternate(warm, {way.name: partial(way.seconds, command) for way in entered})
    return [flat, cold, warm]
