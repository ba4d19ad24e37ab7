"""Decoding whole images, with the output thrown away and written, and the memory it takes."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import systems
from kept import kept
from measure import Bound, Table, Target, alternate, meminfo, weighed

if TYPE_CHECKING:
    from collections.abc import Callable

    from corpus import Corpus
    from peers import Peers

#: mkfs.erofs' own levels: 9 of lz4hc, 1 of deflate, 3 of zstd, 6 of lzma.
CODECS = ("lz4", "lz4hc", "deflate", "zstd", "lzma")
OPTIONS = dict.fromkeys(CODECS, ("-C65536", "-Efragments,dedupe"))
#: With dedupe mkfs.erofs has one thread, and LZMA would take a quarter of an hour.
OPTIONS["lzma"] = ("-C65536", "-Efragments")
MEMORY = Path("/dev/shm")
ONE, TWO, THEIRS = "pyerofs, 1 thread", "pyerofs, 2 threads", "fsck.erofs"
UNSQUASHFS, TAR = "unsquashfs, 2 threads", "tar out of the kernel's mount"
#: MB that reading or extracting may take, the 32 MiB of decoded clusters among them.
MOST_MEMORY = 150 + 32 * 1.048576


def tables(peers: Peers, corpus: Corpus, work: Path) -> list[Table]:
    """Decode the images of all codecs, and write out that of one."""
    images = make_images(peers, corpus)
    memory = Table("Peak memory of extraction", "MB", "VmHWM of the processes measured here")
    made = [discarded(peers, codec, images / f"{codec}.erofs", memory) for codec in CODECS]
    with tempfile.TemporaryDirectory(prefix="pyerofs-bench-", dir=roomy(work)) as place:
        made.append(written(peers, images, Path(place), memory))
    memory.targets = [Bound(row, most=MOST_MEMORY) for row in memory.values if row.startswith("pyerofs")]
    return [*made, memory]


def make_images(peers: Peers, corpus: Corpus) -> Path:
    """The directory of the images; making them takes minutes, so they are kept."""

    def make(directory: Path) -> None:
        for codec in CODECS:
            print(f"  making {codec}.erofs", flush=True)
            peers.mkfs(directory / f"{codec}.erofs", corpus.tree, "--quiet", f"-z{codec}", *OPTIONS[codec])
        squash = ["-comp", "zstd", "-Xcompression-level", "3", "-b", "65536", "-quiet", "-no-progress"]
        peers.run("mksquashfs", corpus.tree, directory / "zstd.squashfs", *squash)

    return kept("bench-images", recipe(peers, corpus), make)


def recipe(peers: Peers, corpus: Corpus) -> str:
    """What the images are made of."""
    version = ".".join(map(str, peers.version))
    return f"{version} {OPTIONS} {corpus.name}"


def roomy(work: Path) -> Path:
    """Where to write to: memory if there is room, since disks vary more than what is measured."""
    is_roomy = MEMORY.is_dir() and min(shutil.disk_usage(MEMORY).free, meminfo("MemAvailable")) > 4 << 30
    return MEMORY if is_roomy else work


def measured(memory: Table, row: str, words: list[str]) -> float:
    """Seconds that a command takes; its memory goes into the other table."""
    seconds, peak = weighed(words)
    memory.values.setdefault(row, []).append(peak / 1e6)
    return seconds


def discarded(peers: Peers, codec: str, image: Path, memory: Table) -> Table:
    """Decode everything and throw it away."""
    print(f"  {codec}", flush=True)
    ways = {
        ONE: ["pyerofs", "extract", "--test", "--threads", "1", str(image)],
        TWO: ["pyerofs", "extract", "--test", "--threads", "2", str(image)],
        THEIRS: peers.command("fsck.erofs", "--extract", image),
    }
    table = Table(
        f"Decode an image of {codec}, output discarded",
        "s",
        f"pyerofs extract --test --threads N IMAGE; fsck.erofs --extract IMAGE (mkfs.erofs -z{codec} "
        f"{' '.join(OPTIONS[codec])}, {image.stat().st_size / 1e6:.0f} MB, page cache warm)",
        targets=[Target(ONE, 1.0, THEIRS), Target(TWO, 1 / 1.7, ONE)],
    )
    image.read_bytes()
    return alternate(table, {row: partial(measured, memory, f"{row}, {codec}", ways[row]) for row in ways})


def written(peers: Peers, images: Path, place: Path, memory: Table) -> Table:
    """Write the tree out into a new directory in `place`."""
    print("  written", flush=True)
    image, squashed = images / "zstd.erofs", images / "zstd.squashfs"
    target = place / "out"
    unsquash = ["-quiet", "-no-progress", "-processors", "2", "-dest", str(target), str(squashed)]
    ways = {
        ONE: ["pyerofs", "extract", "--quiet", "--threads", "1", str(image), str(target)],
        TWO: ["pyerofs", "extract", "--quiet", "--threads", "2", str(image), str(target)],
        THEIRS: peers.command("fsck.erofs", f"--extract={target}", image),
        UNSQUASHFS: peers.command("unsquashfs", *unsquash),
    }
    table = Table(
        "Write out an image of zstd",
        "s",
        "pyerofs extract --threads N IMAGE TARGET; fsck.erofs --extract=TARGET IMAGE (page cache warm, into "
        f"a new directory {'in memory' if place.is_relative_to(MEMORY) else 'on the same disk'})",
        targets=[Target(ONE, 1.0, THEIRS), Target(TWO, 1 / 1.7, ONE), Target(TWO, 1.0, UNSQUASHFS)],
    )

    def anew(once: Callable[[], float]) -> float:
        shutil.rmtree(target, ignore_errors=True)
        os.sync()
        return once()

    def out_of(system: systems.System) -> float:
        at = shlex.quote(str(target))
        return system.seconds(f"mkdir {at} && tar -cf - . | tar -xpf - -C {at}")

    image.read_bytes()
    squashed.read_bytes()
    with systems.ready([systems.kernel(TAR, image)], place) as entered:
        ways_out = {
            row: partial(measured, memory, f"{row}, written", words) for row, words in ways.items()
        } | {system.name: partial(out_of, system) for system in entered}
        alternate(table, {row: partial(anew, once) for row, once in ways_out.items()})
    shutil.rmtree(target, ignore_errors=True)
    return table
