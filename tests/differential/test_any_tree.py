"""Whatever the tree, an image of it holds exactly that tree, as our reader and the kernel see it."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyerofs
from judges import as_tree, assert_same, kernel_mount, of_directory, of_image

Name = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
Mode = st.integers(0, 0o7777)
Time = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
Xattrs = st.dictionaries(
    st.text("abc.xyz\u00e9", min_size=1, max_size=40).map(lambda name: f"user.{name}"),
    st.binary(max_size=100),
    max_size=4,
)


@dataclass(frozen=True)
class File:
    """A regular file: pieces of data, each after a hole of that many bytes, and a hole at the end."""

    pieces: tuple[tuple[int, bytes], ...]
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


Size = st.sampled_from([0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 12288]) | st.integers(0, 20_000)
Data = st.tuples(st.binary(min_size=1, max_size=8), Size).map(lambda made: (made[0] * made[1])[: made[1]])
Files = st.builds(File, st.lists(st.tuples(Size, Data), max_size=3).map(tuple), Size)
Links = st.builds(Link, st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target))
Specials = st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK])


def nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """A directory of `inner` nodes."""
    return st.builds(Node, st.dictionaries(Name, inner, max_size=6), Mode, Time, Xattrs)


Leaf = st.builds(Node, Files | Links | Specials, Mode, Time, Xattrs)
Tree = st.builds(Node, st.dictionaries(Name, st.recursive(Leaf, nodes, max_leaves=12)), Mode, Time, Xattrs)


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
                    file.write(data)
                file.truncate(file.tell() + end)
        case kind:
            os.mknod(path, kind | 0o600)
    if not isinstance(node.what, int):
        for key, value in node.xattrs.items():
            os.setxattr(path, key, value)
    os.chmod(path, node.mode)
    os.utime(path, ns=(node.time, node.time))


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
@given(tree=Tree, block_size=st.sampled_from([512, 1024, 4096]))
def test_an_image_holds_the_tree_and_the_kernel_agrees(
    tree: Node, block_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        directory = Path(name)
        source, image = directory / "tree", directory / "image"
        make(tree, os.fsencode(source))
        pyerofs.build(source, image, block_size=block_size)
        expected = of_directory(source)
        with pyerofs.open(image) as opened:
            read = of_image(opened)
        assert_same(as_tree(expected), as_tree(read), "our reader")
        with kernel_mount(image, directory / "mnt") as at:
            assert_same(of_directory(at), read, "the kernel")
