"""The same tree gives the same bytes: whatever the threads, the day, the order of names or the place."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from cases import CASES, Case

if TYPE_CHECKING:
    from pathlib import Path

    from trees import Trees

BLOCK_SIZES = (512, 4096, 16384)


def image_of(source: Path, target: Path, **options: Any) -> bytes:
    """The bytes of a fresh image of `source`."""
    pyerofs.build(source, target, **options)
    data = target.read_bytes()
    target.unlink()
    return data


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads_and_repetition_change_nothing(
    case: Case, block_size: int, trees: Trees, tmp_path: Path
) -> None:
    source, _snapshot = trees.get(case)
    first = image_of(source, tmp_path / "image", block_size=block_size, threads=1)
    for threads in (1, 2, 8):
        assert image_of(source, tmp_path / "image", block_size=block_size, threads=threads) == first


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_copy_on_another_filesystem_gives_the_same_image(
    case: Case, trees: Trees, tmp_path: Path, memory_path: Path
) -> None:
    source, _snapshot = trees.get(case)
    if case.memory:
        pytest.skip("only a tmpfs holds this tree")
    # A tmpfs lists names in another order than a disk, and numbers inodes otherwise.
    copy = memory_path / "copy"
    subprocess.run(["cp", "--archive", source, copy], check=True)
    expected = image_of(source, tmp_path / "image", xattrs="none")
    assert image_of(copy, tmp_path / "image", xattrs="none") == expected


def test_the_clock_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_text("x")
    os.utime(source / "file", (1, 1))
    os.utime(source, (2, 2))
    first = image_of(source, tmp_path / "image")
    os.utime(source / "file", (9, 1))
    assert image_of(source, tmp_path / "image") == first
    os.environ["SOURCE_DATE_EPOCH"] = "1"
    try:
        clamped = image_of(source, tmp_path / "image")
    finally:
        del os.environ["SOURCE_DATE_EPOCH"]
    assert clamped != first


def test_the_tree_of_another_name_gives_the_same_image(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_text("x")
    first = image_of(source, tmp_path / "image")
    moved = tmp_path / "elsewhere"
    shutil.move(source, moved)
    assert image_of(moved, tmp_path / "other") == first
