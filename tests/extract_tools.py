"""What the tests of extraction share: images and paths of small trees."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyerofs

if TYPE_CHECKING:
    from pathlib import Path

# One thread does everything in order; several cut large files up and make directories for one another.
THREADS = (1, 3)


def everything(source: Path, image: Path) -> Path:
    """The image of all that a tree has."""
    pyerofs.build(source, image, xattrs="all")
    return image


def of_file(path: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path.write_bytes(data)
    return path


def below(root: Path) -> set[str]:
    """The paths in a directory."""
    return {os.fspath(path.relative_to(root)) for path in root.rglob("*")}


def let_end_early(image: Path, path: str, missing: int) -> None:
    """Have the blocks of a plain file begin so late that the image ends ``missing`` bytes before they do."""
    with pyerofs.open(image) as opened:
        status = (opened / path).stat()
    start = (image.stat().st_size + missing - status.st_size) // 4096
    with open(image, "r+b") as file:
        file.seek(32 * status.st_ino + 16)  # i_u; our images have their inodes counted from block 0
        file.write(start.to_bytes(4, "little"))
