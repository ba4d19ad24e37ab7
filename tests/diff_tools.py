"""What the tests of comparing share: two trees, and changes that leave the times as they were."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHEN = 1_700_000_000_123_456_789


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A tree with some of everything that an ordinary user may make."""
    root = tmp_path / "old"
    for name in ("lib", "lib/deep", "empty"):
        (root / name).mkdir(parents=True)
    for number in range(12):
        (root / "lib" / f"file{number}").write_bytes(b"%d\n" % number * 1000 * number)
    (root / "lib/deep/large").write_bytes(random.Random(1).randbytes(3 << 20))
    (root / "lib/hard").hardlink_to(root / "lib/file3")
    (root / "link").symlink_to("lib/file1")
    os.mkfifo(root / "pipe")
    with (root / "sparse").open("wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(b"in the middle")
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)
    return root


@pytest.fixture
def new(old: Path) -> Path:
    """A copy of the old tree with all that belongs to it, to be changed."""
    copy = old.parent / "new"
    subprocess.run(["cp", "-a", old, copy], check=True)
    return copy


def built(tree: Path, **options: Any) -> Path:
    image = tree.with_suffix(".erofs")
    pyerofs.build(tree, image, force=True, **options)
    return image


def told(a: Any, b: Any, **options: Any) -> set[tuple[Any, ...]]:
    """What differs, as (kind, path, old path, fields)."""
    return {(c.kind, c.path, c.old_path, c.fields) for c in pyerofs.diff(a, b, **options)}


def keeping_times(path: Path, *changes: Callable[[], object]) -> None:
    """Change what is in a directory or about a file, but not when."""
    for change in changes:
        change()
    os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)


def edited(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(WHEN, WHEN))
