"""How fast files are read and entries listed without a mount, beside mounts and other programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import judges
import pyerofs
from measure import Bound, Table, alternate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corpus import Corpus
    from peers import Peers

    Ways = dict[str, Callable[[], float]]

ROOT = Path(__file__).resolve().parent.parent
#: What is to be reached, in files and entries a second.
FILES, RUST_ENTRIES, PYTHON_ENTRIES = 300_000, 1_000_000, 300_000
MANY, RUST, SCAN = "read_many, paths", "Rust, every step with its inode", "scan() and lstat()"


def tables(peers: Peers, corpus: Corpus, work: Path) -> list[Table]:
    """Read every file of a plain image, and list it, from a warm page cache."""
    image = work / "plain.erofs"
    pyerofs.build(corpus.tree, image)
    with kernel_mount(image, work / "mnt") as mounted:
        return [reading(image, corpus.tree, mounted), listing(image, corpus.tree, mounted, peers)]


@contextlib.contextmanager
def kernel_mount(image: Path, at: Path) -> Iterator[Path | None]:
    """The image mounted by the kernel, or None and a word why not."""
    with contextlib.ExitStack() as stack:
        mounted: Path | None = at
        try:
            stack.enter_context(judges.kernel_mount(image, at))
        except (OSError, AssertionError, subprocess.CalledProcessError) as error:
            print(f"left out: the kernel: {str(error).splitlines()[0]}")
            mounted = None
        yield mounted


def reading(image: Path, tree: Path, mounted: Path | None) -> Table:
    """Every file of the image, whole."""
    table = Table(
        "Read every file of a plain image, warm",
        "files/s",
        "for path, content in image.read_many(PATHS): ... of an image that is open, read once before",
        targets=[Bound(MANY, least=FILES)],
        most_first=True,
    )
    with pyerofs.open(image) as opened, pyerofs.open(image, mmap=True) as mapped:
        entries = [entry for entry in opened.root.scan() if entry.is_file(follow_symlinks=False)]
        paths = [entry.path for entry in entries]

        def many(
            asked: Iterable[str | pyerofs.Entry], opened: pyerofs.Image, threads: int | None = None
        ) -> float:
            return rate(len(paths), (one for _, one in opened.read_many(asked, threads=threads)))

        def anew() -> float:
            with pyerofs.open(image) as opened:
                return many(paths, opened)

        def one_by_one() -> float:
            return rate(len(paths), ((opened / path).read_bytes() for path in paths))

        def by_the_system(root: Path) -> float:
            names = [str(root) + path for path in paths]
            return rate(len(names), map(whole, names))

        ways: Ways = {
            MANY: partial(many, paths, opened),
            "read_many, paths, one thread": partial(many, paths, opened, 1),
            "read_many, entries": partial(many, entries, opened),
            "read_many, paths, mmap=True": partial(many, paths, mapped),
            "read_many, paths, the image opened anew": anew,
            "Entry.read_bytes(), one by one": one_by_one,
            "os.open() and os.read(), the tree itself": partial(by_the_system, tree),
        }
        if mounted:
            ways["os.open() and os.read(), kernel mount"] = partial(by_the_system, mounted)
        for way in ways.values():
            way()  # once unmeasured: what is mounted fills a page cache of its own
        return alternate(table, ways)


def listing(image: Path, tree: Path, mounted: Path | None, peers: Peers | None) -> Table:
    """Every entry of the image with what stat says."""
    build = ["cargo", "build", "--quiet", "--release", "--package", "erofs-image", "--example", "walk"]
    subprocess.run(build, check=True, cwd=ROOT)
    table = Table(
        "List a plain image with stat, warm",
        "entries/s",
        "for entry in pyerofs.open(IMAGE).root.scan(): entry.lstat()",
        targets=[Bound(RUST, least=RUST_ENTRIES), Bound(SCAN, least=PYTHON_ENTRIES)],
        most_first=True,
    )
    with pyerofs.open(image) as opened:
        count = sum(1 for _ in opened.root.scan())

    def rust() -> float:
        walk = [str(ROOT / "target/release/examples/walk"), str(image), "1"]
        return float(subprocess.run(walk, check=True, capture_output=True).stdout.split()[0])

    def scan() -> float:
        with pyerofs.open(image) as opened:
            return rate(count, (entry.lstat() for entry in opened.root.scan()))

    def walk() -> float:
        with pyerofs.open(image) as opened:
            steps = opened.root.walk()
            return rate(
                count, ((here / name).lstat() for here, folders, others in steps for name in folders + others)
            )

    def by_the_system(root: Path) -> float:
        return rate(count, (os.lstat(name) for name in below(root)))

    ways: Ways = {
        RUST: rust,
        SCAN: scan,
        "walk() and lstat()": walk,
        "os.walk() and os.lstat(), the tree itself": partial(by_the_system, tree),
    }
    if mounted:
        ways["os.walk() and os.lstat(), kernel mount"] = partial(by_the_system, mounted)
    if peers:

        def dump() -> float:
            started = time.perf_counter()
            peers.dump(image, "-S")
            return count / (time.perf_counter() - started)

        ways["dump.erofs -S, which reads every inode"] = dump
    for way in ways.values():
        way()
    return alternate(table, ways)


def rate(count: int, found: Iterable[object]) -> float:
    """How many a second; all must be found, and errors in their place are none."""
    started = time.perf_counter()
    good = sum(not isinstance(one, OSError) for one in found)
    took = time.perf_counter() - started
    if good != count:
        sys.exit(f"{good} of {count} could be had")
    return count / took


def below(root: Path) -> Iterator[str]:
    """The path of everything in a tree."""
    for here, folders, others in os.walk(root):
        for name in folders + others:
            yield os.path.join(here, name)


def whole(name: str) -> bytes:
    """The content of a file, with as few system calls as can be."""
    descriptor = os.open(name, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
