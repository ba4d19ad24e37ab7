"""Trees that hypothesis draws, for tests of what holds whatever the tree."""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass
from functools import cache

from hypothesis import strategies as st

MOST_TEXT = 3 << 19

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
MODES = st.integers(0, 0o7777)
TIMES = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
XATTRS = st.dictionaries(
    st.text("abc.xyz\u00e9", min_size=1, max_size=40).map(lambda name: f"user.{name}"),
    st.binary(max_size=100),
    max_size=4,
)


@dataclass(frozen=True)
class Text:
    """Bytes of a kind; the same kind, seed and offset mean the same bytes, so files have parts in common."""

    kind: str
    seed: int
    offset: int
    length: int

    def __bytes__(self) -> bytes:
        return of_kind(self.kind, self.seed)[self.offset : self.offset + self.length]


@cache
def of_kind(kind: str, seed: int) -> bytes:
    """Many bytes: words, noise, zeros, or all of them in turn."""
    chance = random.Random(f"{kind} {seed}")
    match kind:
        case "words":
            words = [chance.randbytes(chance.randrange(2, 9)) for _ in range(500)]
            return b" ".join(chance.choices(words, k=MOST_TEXT // 4))
        case "noise":
            return chance.randbytes(2 * MOST_TEXT)
        case "zeros":
            return bytes(2 * MOST_TEXT)
        case _:
            made = bytearray()
            while len(made) < 2 * MOST_TEXT:
                part = of_kind(chance.choice(["words", "noise", "zeros"]), seed)
                start = chance.randrange(MOST_TEXT)
                made += part[start : start + chance.choice([100, 5000, 70_000])]
            return bytes(made)


@dataclass(frozen=True)
class File:
    """A regular file: pieces of data, each after a hole of that many bytes, and a hole at the end."""

    pieces: tuple[tuple[int, bytes | Text], ...]
    end: int


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: bytes


@dataclass(frozen=True)
class Node:
    """An inode: what it is, and what is known about it; a directory is a dict of names."""

    what: File | Link | dict[bytes, Node] | int
    mode: int
    time: int
    xattrs: dict[str, bytes]


SIZES = st.sampled_from([0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 12288]) | st.integers(0, 20_000)
REPEATED = st.tuples(st.binary(min_size=1, max_size=8), SIZES).map(
    lambda made: (made[0] * made[1])[: made[1]]
)
FILES = st.builds(File, st.lists(st.tuples(SIZES, REPEATED), max_size=3).map(tuple), SIZES)
# Lengths about which a writer of blocks and clusters might be wrong.
EDGES = [
    edge + more for edge in (512, 1024, 4096, 8192, 65536, 131072, 262144, 1 << 20) for more in (-1, 0, 1)
]
LENGTHS = st.sampled_from([1, 100, 3000, *EDGES]) | st.integers(1, 300_000)
TEXTS = st.builds(
    Text,
    st.sampled_from(["words", "words", "noise", "zeros", "all"]),
    st.integers(0, 1),
    st.sampled_from([0, 0, 1, 4096, 70_000]) | st.integers(0, 10_000),
    LENGTHS,
)
HOLES = st.sampled_from([0, 0, 0, 0, 4096, 50_000, 3 << 20])
LARGE_FILES = st.builds(File, st.lists(st.tuples(HOLES, TEXTS), min_size=1, max_size=4).map(tuple), HOLES)
LINKS = st.builds(Link, st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target))
SPECIALS = st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK])


def nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """A directory of `inner` nodes."""
    return st.builds(Node, st.dictionaries(NAMES, inner, max_size=6), MODES, TIMES, XATTRS)


LEAVES = st.builds(Node, FILES | LINKS | SPECIALS, MODES, TIMES, XATTRS)
TREES = st.builds(
    Node, st.dictionaries(NAMES, st.recursive(LEAVES, nodes, max_leaves=12)), MODES, TIMES, XATTRS
)
# Trees whose files are large enough for clusters, and have parts in common.
LARGE_LEAVES = st.builds(Node, LARGE_FILES, MODES, TIMES, XATTRS)
LARGE_TREES = st.builds(
    Node,
    st.dictionaries(
        NAMES, st.recursive(LARGE_LEAVES | LARGE_LEAVES | LEAVES, nodes, max_leaves=12), min_size=1
    ),
    MODES,
    TIMES,
    XATTRS,
)


def make(node: Node, path: bytes) -> None:
    """Make `node` at `path`."""
    match node.what:
        case dict():
            os.mkdir(path)
            for name, inner in node.what.items():
                make(inner, path + b"/" + name)
        case Link(target):
            os.symlink(target, path)
            os.utime(path, ns=(node.time, node.time), follow_symlinks=False)
            return
        case File(pieces, end):
            with open(path, "wb") as file:
                for hole, data in pieces:
                    file.seek(hole, os.SEEK_CUR)
                    file.write(bytes(data))
                file.truncate(file.tell() + end)
        case kind:
            os.mknod(path, kind | 0o600)
    if not isinstance(node.what, int):
        for key, value in node.xattrs.items():
            os.setxattr(path, key, value)
    os.chmod(path, node.mode)
    os.utime(path, ns=(node.time, node.time))
