"""The trees of the grid: what compression meets, made here and taken from this machine.

The first is small and has a bit of everything, for the short form of the grid; the whole grid takes them all.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from cases import CASES, Case, content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cases import Maker

WORDS = (
    "inode",
    "block",
    "extent",
    "cluster",
    "the",
    "a",
    "of",
    "image",
    "0x1f",
    "42",
    "=",
    "{",
    "}",
    "return",
)
MOST_BYTES = 4 << 20

TREES: list[Case] = []


def tree(make: Maker) -> Maker:
    """Enter a function into the list under its own name."""
    TREES.append(Case(make.__name__, make, root=True, memory=False))
    return make


def prose(seed: int | str, size: int) -> bytes:
    """Text that compresses about threefold."""
    draw = random.Random(seed)
    made = ""
    while len(made) < size:
        made += " ".join(draw.choices(WORDS, k=12)) + f" {draw.randrange(1000)}\n"
    return made[:size].encode()


@tree
def a_bit_of_everything(root: Path) -> None:
    """Every kind of data, at sizes around blocks and clusters, and every kind of inode."""
    sizes = [1, 100, 4000, 4095, 4096, 4097, 8192, 12000, 16384, 32768, 65535, 65537, 131073, 300_000]
    for size in sizes:
        (root / f"prose-{size}.txt").write_bytes(prose(size, size))
    (root / "noise.bin").write_bytes(content("noise", 100_001))
    pieces = [prose(1, 150_000), content(2, 50_000), bytes(200_000), prose(3, 70_000), b"ab" * 40_000]
    (root / "patchwork.dat").write_bytes(b"".join(pieces))
    (root / "zeros.dat").write_bytes(bytes(1_100_003))
    with open(root / "holes.dat", "wb") as file:
        for offset, size in ((0, 10), (70_000, 9000), (400_000, 4096), (600_001, 5)):
            file.seek(offset)
            file.write(prose(offset, size))
        file.truncate(700_000)
    same = prose("same", 90_000)
    for name, data in (("once.txt", same), ("twice.txt", same), ("shifted.txt", b"x" + same)):
        (root / name).write_bytes(data)
    (root / "inserted.txt").write_bytes(same[:30_000] + b"between" + same[30_000:] + same)
    small = root / "small"
    small.mkdir()
    for number in range(120):
        (small / f"{number:03}.txt").write_bytes(prose(number % 50, number * 31 % 3000))
    many = root / "many"
    many.mkdir()
    for number in range(700):
        (many / f"a-name-of-some-length-{number:04}").symlink_to(f"../small/{number % 120:03}.txt")
    os.link(root / "once.txt", many / "link.txt")
    for number, path in enumerate([root / "noise.bin", small, *sorted(small.iterdir())[:40]]):
        os.setxattr(path, "user.com.example.everywhere", b"the same on each")
        os.setxattr(path, f"user.number{number}", prose(number, number * 7))
    (root / "prose-100.txt").chmod(0o4711)
    os.chown(root / "prose-4096.txt", 7000, 8000)
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(8, 300))


@tree
def equals(root: Path) -> None:
    """Files with parts in common at any distance, and ends of every kind at any byte of a block."""
    draw = random.Random("equals")

    def piece(most: int) -> bytes:
        seed, size = draw.random(), draw.randrange(1, most)
        return draw.choice([prose, content])(str(seed), size)

    for number in range(6):
        shared = b"".join(piece(400_000) for _ in range(5)) + piece(6000)
        for copy in range(3):
            (root / f"{number}-{copy}").write_bytes(piece(6000) * min(copy, 1) + shared)
        (root / f"{number}-cut").write_bytes(shared[: len(shared) // 2] + b"cut" + shared[len(shared) // 2 :])
    for number in range(150):
        parts = [draw.choice([piece(300), piece(9000), piece(50_000), bytes(draw.randrange(70_000))])]
        (root / f"end-{number}").write_bytes(b"".join(parts) + piece(6000))


EQUALS = TREES[-1]


@tree
def documents(root: Path) -> None:
    """What packages say of themselves: text and gzip files."""
    copy_some(Path("/usr/share/doc"), root)


@tree
def python_library(root: Path) -> None:
    """Python's own modules, with their compiled forms."""
    copy_some(Path(sysconfig.get_paths()["stdlib"]), root)


@tree
def programs(root: Path) -> None:
    """A few programs and libraries."""
    wanted = ("bash", "tar", "find", "sed", "openssl", "git", "ls")
    found = [Path("/usr/bin") / name for name in wanted]
    copy_files((path for path in found if path.is_file()), Path("/usr/bin"), root)


@tree
def text(root: Path) -> None:
    """Files that compress well, one larger than a segment of mkfs.erofs' threads."""
    (root / "log").write_bytes(prose("log", 1 << 20) * 18)
    (root / "words").write_bytes(prose("words", 500_000))
    (root / "letters").write_bytes(bytes(random.Random(1).choices(b"abcdefgh", k=200_000)))
    (root / "one-letter").write_bytes(b"a" * 1_200_000)


@tree
def noise(root: Path) -> None:
    """Files that don't compress at all, or only in parts."""
    (root / "all").write_bytes(content("all", 1_500_000))
    (root / "most").write_bytes(b"".join(content(n, 60_000) + prose(n, 5000) for n in range(12)))
    for size in (4095, 4096, 4097, 65535, 65536, 65537, 1 << 20):
        (root / f"{size}").write_bytes(content(size, size))


@tree
def duplicates(root: Path) -> None:
    """The same data again: whole files, ends, beginnings, shifted, and over and over in one file."""
    base = prose("base", 250_000)
    noise = content("base", 60_000)
    (root / "base").write_bytes(base)
    for number in range(4):
        (root / f"copy{number}").write_bytes(base)
        (root / f"end{number}").write_bytes(base[number * 12_345 :])
        (root / f"beginning{number}").write_bytes(base[: -1 - number * 23_456])
        (root / f"shifted{number}").write_bytes(bytes(number) + base[:150_000] + noise + base[100_000:])
        (root / f"tail{number}").write_bytes(prose(number, 20_000) + noise[: 3000 + number])
    (root / "over-and-over").write_bytes(base[:100_001] * 6)
    (root / "noise-again").write_bytes(noise * 5)


@tree
def holes(root: Path) -> None:
    """Holes and zeros among data, long and short, at every place."""
    for number in range(12):
        with open(root / f"holes{number}", "wb") as file:
            draw = random.Random(number)
            for _ in range(12):
                file.write(prose(draw.random().hex(), draw.choice([1, 100, 5000, 40_000])))
                file.seek(draw.choice([4096, 10_000, 65_536, 300_000]), os.SEEK_CUR)
            file.truncate(file.tell() + draw.choice([0, 1, 4096, 100_000]))
    # Of two files with megabytes of zeros mkfs.erofs 1.9.4 takes minutes to deduplicate one.
    with open(root / "mostly-hole", "wb") as file:
        file.seek(6_000_000)
        file.write(b"end")
    (root / "zeros-then-text").write_bytes(bytes(100_000) + prose(0, 100_000))


@tree
def many_small_files(root: Path) -> None:
    """Three thousand files in directories of many sizes, with xattrs on some."""
    draw = random.Random("small")
    directory = root
    for number in range(3000):
        if number % 170 == 0:
            directory = draw.choice([root, directory]) / f"dir{number}"
            directory.mkdir()
        path = directory / f"{draw.randbytes(draw.randint(2, 20)).hex()}{number}"
        path.write_bytes(prose(number % 1000, draw.randint(0, 1500)))
        if number % 9 == 0:
            os.setxattr(path, f"user.com.example.key{number % 5}", draw.randbytes(draw.choice([3, 3, 50])))


@tree
def corners(root: Path) -> None:
    """The trees of cases.py that a disk holds, each in a directory of its own."""
    for case in CASES:
        # One is all about its 10,000 names, the other about holes, which have a tree of their own.
        if not case.memory and case.name not in ("many_entries", "sparse_files"):
            inner = root / case.name
            inner.mkdir()
            case.make(inner)
    for place, directories, files in os.walk(os.fsencode(root), topdown=False):
        for name in [*directories, *files]:
            path = os.path.join(place, name)
            # mkfs.erofs 1.9.4 stores times before 1970 wrongly in the compact inodes of 48-bit images.
            if os.lstat(path).st_mtime_ns < 0:
                os.utime(path, (0, 0), follow_symlinks=False)
    os.utime(root, (0, 0))


def copy_some(source: Path, target: Path) -> None:
    """Copy files from all over `source`, up to MOST_BYTES."""
    found = [
        Path(place) / name
        for place, _directories, names in os.walk(source)
        for name in names
        if (Path(place) / name).is_symlink() or (Path(place) / name).is_file()
    ]
    found.sort()
    random.Random("which").shuffle(found)
    copy_files(found, source, target)


def copy_files(paths: Iterable[Path], source: Path, target: Path) -> None:
    """Copy files with their directories, times and modes, up to MOST_BYTES."""
    left = MOST_BYTES
    for path in paths:
        size = path.lstat().st_size
        # No file may fill the tree on its own, as one large program would.
        if size > left or size > MOST_BYTES // 2:
            continue
        left -= size
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)
