"""The one table of trees: corner cases made by hand, and trees drawn from a seed.

Each case makes a tree in an empty directory. Every builder is given every case and every judge sees
every image, so a new corner needs one function here and nothing else. Cases that need root make
device nodes, foreign owners or privileged xattrs; cases marked `memory` need a filesystem that
takes any time and xattrs of any size.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Maker = Callable[[Path], None]

BLOCK = 4096
DAY = 86400 * 10**9


@dataclass(frozen=True)
class Case:
    """One tree: `make` fills the empty directory that it is given."""

    name: str
    make: Maker
    root: bool
    memory: bool

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []


def case(*, root: bool = False, memory: bool = False) -> Callable[[Maker], Maker]:
    """Enter a function into the table under its own name."""

    def enter(make: Maker) -> Maker:
        CASES.append(Case(make.__name__, make, root, memory))
        return make

    return enter


def content(seed: int | str, size: int) -> bytes:
    """Bytes that look like nothing else and are the same each time."""
    return random.Random(seed).randbytes(size)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as the kernel stores it in an xattr: (tag, permissions, id) after a version of 2."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
ACCESS_ACL = acl(
    (1, 7, NOBODY), (2, 5, 1000), (2, 4, 70000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 0, NOBODY)
)
DEFAULT_ACL = acl((1, 7, NOBODY), (4, 5, NOBODY), (32, 1, NOBODY))
# cap_net_raw=ep, as setcap writes it.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@case()
def empty_root(_root: Path) -> None:
    """Nothing at all."""


@case()
def empty_things(root: Path) -> None:
    """An empty file, an empty directory, and one in the other."""
    (root / "file").touch()
    (root / "dir").mkdir()
    (root / "outer/inner").mkdir(parents=True)


@case()
def sizes_around_blocks(root: Path) -> None:
    """Every size at which the layout of data or of its tail changes."""
    sizes = {0, 1, 2, 63, 64, 65}
    for block in (512, 1024, 4096, 16384, 65536):
        for blocks in (1, 2, 3):
            sizes |= {block * blocks + by for by in (-65, -64, -33, -32, -1, 0, 1)}
    for size in sorted(sizes):
        (root / f"{size:06}").write_bytes(content(size, size))


@case()
def a_large_file(root: Path) -> None:
    """More than one read, and a tail."""
    (root / "large").write_bytes(content("large", 5 * 1024 * 1024 + 777))


@case()
def deep_path(root: Path) -> None:
    """A hundred directories in one another, with a file at every tenth."""
    path = root
    for depth in range(100):
        path = path / f"d{depth}"
        path.mkdir()
        if depth % 10 == 0:
            (path / "file").write_text(f"at {depth}\n")


@case()
def long_names(root: Path) -> None:
    """Names of the longest length there is, which differ at the end only."""
    for number in range(40):
        (root / (f"{'n' * 251}{number:04}")).write_text(str(number))
    deep = root / ("d" * 255)
    deep.mkdir()
    (deep / ("e" * 255)).mkdir()


@case()
def odd_names(root: Path) -> None:
    """Bytes that are no UTF-8, control characters, names that sort around the dots, and case."""
    names = [
        b"\xff\xfe",
        b"caf\xe9",
        "caf\u00e9".encode(),
        b"new\nline",
        b"tab\t",
        b" ",
        b"!",
        b"-",
        b"...",
        b"..a",
    ]
    names += [b".hidden", b"~", b"\x01", b"\x7f", b"a", b"A", b"aa", b"a.", b"back\\slash", b"\x1b[31mred"]
    for number, name in enumerate(names):
        with open(os.fsencode(root) + b"/" + name, "wb") as file:
            file.write(bytes([number]) * number)
    os.mkdir(os.fsencode(root) + b"/dir\xff")
    os.symlink(b"../\xff\xfe", os.fsencode(root) + b"/dir\xff/link\xff")


@case()
def names_around_a_block(root: Path) -> None:
    """Directories that just fit into one block, and just don't, at each block size."""
    for block in (512, 1024, 4096):
        # An entry takes 12 bytes and its name; the two dots take 27.
        for by in (-1, 0, 1):
            directory = root / f"{block}{by:+}"
            directory.mkdir()
            left = block - 27 + by
            number = 0
            while left > 0:
                length = min(left - 12, 100)
                if length < 1:
                    break
                name = f"{number:x}".ljust(length, "x")[:length]
                (directory / name).touch()
                left -= 12 + length
                number += 1


@case()
def many_entries(root: Path) -> None:
    """A directory of 10,000 entries."""
    directory = root / "many"
    directory.mkdir()
    for number in range(10_000):
        os.close(os.open(directory / f"entry-{number:05}", os.O_CREAT | os.O_WRONLY, 0o644))


@case()
def hard_links(root: Path) -> None:
    """Names of one inode in one directory and in others, for files, symlinks and fifos."""
    (root / "a").write_bytes(content("a", 10_000))
    (root / "b").symlink_to("a")
    os.mkfifo(root / "c")
    (root / "dir").mkdir()
    for name in "abc":
        for number in range(3):
            os.link(root / name, root / f"dir/{name}{number}", follow_symlinks=False)
    for number in range(300):
        os.link(root / "a", root / f"more{number}")


@case()
def symlinks(root: Path) -> None:
    """Targets of one byte up to the longest, absolute, dangling and looping ones."""
    for length in (1, 31, 32, 33, 59, 60, 61, 255, 1000, 3000, 4000, 4095):
        (root / f"long{length:04}").symlink_to(("t" * 200 + "/") * (length // 201) + "t" * (length % 201))
    (root / "dangling").symlink_to("nowhere")
    (root / "absolute").symlink_to("/etc/hostname")
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("..")


@case()
def pipes_and_sockets(root: Path) -> None:
    """Special files that anybody can make."""
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "socket", stat.S_IFSOCK | 0o755)
    directory = os.open(root, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{directory}/bound")
    finally:
        os.close(directory)


@case(root=True)
def devices(root: Path) -> None:
    """Character and block devices with small and large numbers; 0:0 is overlayfs' whiteout."""
    for number, (major, minor) in enumerate(
        [(1, 3), (0, 0), (8, 255), (8, 256), (4095, 1048575), (259, 70000)]
    ):
        os.mknod(root / f"char{number}", stat.S_IFCHR | 0o600, os.makedev(major, minor))
        os.mknod(root / f"block{number}", stat.S_IFBLK | 0o660, os.makedev(major, minor))


@case()
def modes(root: Path) -> None:
    """Every permission bit, and those above them, on files and directories."""
    for mode in (0o000, 0o111, 0o222, 0o444, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777, 0o4000):
        path = root / f"file{mode:04o}"
        path.write_text(oct(mode))
        path.chmod(mode)
    for mode in (0o700, 0o1777, 0o2775, 0o7777, 0o500):
        path = root / f"dir{mode:04o}"
        path.mkdir()
        (path / "inside").write_text("x")
        path.chmod(mode)


@case(root=True)
def owners(root: Path) -> None:
    """Ids that fit into 16 bits, that just don't, and the largest."""
    for owner in (0, 1, 1000, 65534, 65535, 65536, 100_000, 2**31, 2**32 - 2):
        path = root / f"u{owner}"
        path.write_text("x")
        os.chown(path, owner, 0)
        link = root / f"g{owner}"
        link.symlink_to("x")
        os.chown(link, 7, owner, follow_symlinks=False)


@case(memory=True)
def times(root: Path) -> None:
    """Before 1970, after 2038 and 2106, the nanoseconds, and none at all."""
    values = [0, 1, 10**9 - 1, 10**9, -1, -(10**9), -DAY * 365 * 80, 2**31 * 10**9, 2**32 * 10**9 + 5]
    values += [1_700_000_000_123_456_789, DAY * 365 * 300 + 999_999_999, -DAY * 365 * 400 - 1]
    for number, value in enumerate(values):
        path = root / f"t{number}"
        path.write_text(str(value))
        os.utime(path, ns=(value, value))
        link = root / f"l{number}"
        link.symlink_to("x")
        os.utime(link, ns=(value, value), follow_symlinks=False)
    (root / "old").mkdir()
    os.utime(root / "old", ns=(-5 * DAY, -5 * DAY))


@case()
def one_time(root: Path) -> None:
    """All of one time, which compact inodes can leave out."""
    for number in range(20):
        (root / f"f{number}").write_text("same\n" * number)
    (root / "d").mkdir()
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(10**18, 10**18))


@case()
def xattrs(root: Path) -> None:
    """Names of one letter and of the longest, empty values, binary ones, on files and directories."""
    (root / "file").write_bytes(content("xattrs", 5000))
    (root / "dir").mkdir()
    for path in (root / "file", root / "dir"):
        os.setxattr(path, "user.a", b"")
        os.setxattr(path, "user.b", b"\0\xff\n")
        os.setxattr(path, "user." + "n" * 250, b"long name")
        os.setxattr(path, "user.value", content(path.name, 1000))
        os.setxattr(path, "user.overlay.opaque", b"y")
    (root / "empty").touch()
    os.setxattr(root / "empty", "user.only", b"x")


@case()
def shared_xattrs(root: Path) -> None:
    """Equal name and value on many files, a value of their own on each, and one name with two values."""
    for number in range(60):
        path = root / f"f{number:02}"
        path.write_text(str(number))
        os.setxattr(path, "user.all", b"the same everywhere")
        os.setxattr(path, "user.own", str(number).encode())
        os.setxattr(path, "user.parity", b"odd" if number % 2 else b"even")


@case()
def xattrs_with_long_prefixes(root: Path) -> None:
    """Names that a prefix table shortens, one that is a prefix itself, and near misses."""
    for number, name in enumerate(
        ["com.example.build.id", "com.example.build.", "com.example.build", "com.exampl"]
    ):
        path = root / f"f{number}"
        path.write_text(name)
        os.setxattr(path, f"user.{name}", name.encode())
        os.setxattr(path, "user.com.example.build.of", b"all")


@case(memory=True)
def huge_xattrs(root: Path) -> None:
    """The largest value that the format holds, and many small ones beside it."""
    (root / "big").write_text("x")
    os.setxattr(root / "big", "user.big", content("big", 65535))
    (root / "many").write_text("y")
    for number in range(300):
        os.setxattr(root / "many", f"user.n{number:03}", str(number).encode())


@case(root=True)
def acls_and_capabilities(root: Path) -> None:
    """What ls and exec act on: ACLs, default ACLs and file capabilities."""
    (root / "dir").mkdir()
    os.setxattr(root / "dir", "system.posix_acl_access", ACCESS_ACL)
    os.setxattr(root / "dir", "system.posix_acl_default", DEFAULT_ACL)
    (root / "program").write_bytes(content("program", 9000))
    (root / "program").chmod(0o755)
    os.setxattr(root / "program", "security.capability", CAPABILITY)
    (root / "plain").write_text("x")
    os.setxattr(root / "plain", "system.posix_acl_access", ACCESS_ACL)


@case(root=True)
def privileged_xattrs(root: Path) -> None:
    """Names that only root sees; builders leave most of them out unless told otherwise."""
    (root / "file").write_text("x")
    os.setxattr(root / "file", "trusted.overlay.redirect", b"/elsewhere")
    os.setxattr(root / "file", "trusted.md5", b"0" * 32)
    os.setxattr(root / "file", "user.mine", b"kept")


@case()
def sparse_files(root: Path) -> None:
    """Holes at the beginning, in the middle, at the end, everywhere."""

    def make(name: str, size: int, *pieces: tuple[int, int]) -> None:
        with open(root / name, "wb") as file:
            for offset, length in pieces:
                file.seek(offset)
                file.write(content(f"{name}{offset}", length))
            file.truncate(size)

    make("leading", 20 * BLOCK, (16 * BLOCK, 4 * BLOCK))
    make("middle", 300 * BLOCK + 100, (0, BLOCK), (200 * BLOCK, BLOCK), (300 * BLOCK, 100))
    make("trailing", 64 * BLOCK, (0, 5))
    make("all-hole", 10 * 1024 * 1024)
    make("all-hole-odd", 3 * BLOCK + 1)
    make("alternating", 64 * BLOCK, *((number * 2 * BLOCK, BLOCK) for number in range(32)))
    make("large", 1 << 26, (0, 1), (1 << 25, 10), ((1 << 26) - 1, 1))
    (root / "zeros").write_bytes(bytes(5 * BLOCK))


@case()
def equal_files(root: Path) -> None:
    """The same content under names, modes and times of its own."""
    same = content("same", 30_000)
    for number in range(10):
        path = root / f"d{number}/file"
        path.parent.mkdir()
        path.write_bytes(same)
        path.chmod(0o600 + number)
        os.utime(path, ns=(number * DAY, number * DAY))
    (root / "empty1").touch()
    (root / "empty2").touch()


@case()
def wide_tree(root: Path) -> None:
    """Two hundred directories of few files, so that inodes and directories cross many blocks."""
    for number in range(200):
        directory = root / f"dir{number:03}"
        directory.mkdir()
        for inner in range(number % 7):
            (directory / f"file{inner}").write_bytes(content(number * 10 + inner, number * 37 % 6000))


def generated(seed: int) -> Maker:
    """A tree drawn from `seed`: any mixture of all that an ordinary user can make."""

    def make(root: Path) -> None:
        draw = random.Random(seed)
        directories = [root]
        files: list[Path] = []
        for number in range(draw.randint(50, 400)):
            parent = draw.choice(directories)
            name = f"{number}" + "".join(draw.choices("abc.-_ \u00fc", k=draw.randint(0, 30)))
            path = parent / name
            kind = draw.choices(
                ["file", "dir", "symlink", "link", "fifo", "sparse"], weights=[60, 15, 10, 8, 2, 5]
            )[0]
            if kind == "dir":
                path.mkdir()
                directories.append(path)
            elif kind == "symlink":
                path.symlink_to("s" * draw.randint(1, 200))
            elif kind == "link" and files:
                os.link(draw.choice(files), path)
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "sparse":
                with open(path, "wb") as file:
                    for _ in range(draw.randint(0, 4)):
                        file.seek(draw.randint(0, 40) * BLOCK)
                        file.write(draw.randbytes(draw.randint(1, 3 * BLOCK)))
                    file.truncate(max(file.tell(), draw.randint(0, 50) * BLOCK + draw.randint(0, 100)))
            else:
                size = draw.choice([0, draw.randint(1, 200), draw.randint(1, 5000), draw.randint(1, 100_000)])
                path.write_bytes(draw.randbytes(size))
                files.append(path)
                path.chmod(draw.choice([0o644, 0o600, 0o755, 0o4711]))
                for _ in range(draw.choice([0, 0, 0, 1, 3])):
                    os.setxattr(path, f"user.k{draw.randint(0, 5)}", draw.randbytes(draw.randint(0, 40)))
            if draw.random() < 0.5:
                when = draw.randint(-(10**17), 2 * 10**18)
                os.utime(path, ns=(when, when), follow_symlinks=False)

    return make


SEEDS = tuple(int(seed) for seed in os.environ.get("PYEROFS_SEEDS", "1 2 3 4").split())
CASES.extend(Case(f"generated-{seed}", generated(seed), root=False, memory=False) for seed in SEEDS)
