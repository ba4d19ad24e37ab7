"""Counting what is in an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny

if TYPE_CHECKING:
    from pathlib import Path


def test_an_inode_counts_once_whatever_names_it_has(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "one").write_bytes(b"x" * 5000)
    (tree / "sub/two").hardlink_to(tree / "one")
    (tree / "sub/three").hardlink_to(tree / "one")
    (tree / "link").symlink_to("one")
    (tree / "empty").touch()
    os.mkfifo(tree / "pipe")
    pyerofs.build(tree, tmp_path / "image.erofs")
    with pyerofs.open(tmp_path / "image.erofs") as image:
        usage = image.usage()
    assert usage._asdict() == {
        "files": 2,
        "compressed": 0,
        "directories": 2,
        "symlinks": 1,
        "others": 1,
        "hard_links": 2,
        "size": 5000,
        "stored": 5000,
    }


def test_an_entry_that_cannot_be_read_is_told_and_not_counted() -> None:
    data = bytearray(tiny.sample())
    with pyerofs.open(bytes(data)) as image:
        before = image.usage()
        nid = (image / "file.txt").nid
    data[nid * 32 + tiny.BLOCK] = 0xFF  # the format of the inode
    with pyerofs.open(bytes(data)) as image:
        with pytest.raises(OSError, match=r"file\.txt"):
            image.usage()
        errors: list[OSError] = []
        after = image.usage(errors.append)
    assert [error.filename for error in errors] == ["/file.txt"]
    assert (after.files, after.directories) == (before.files - 1, before.directories)
