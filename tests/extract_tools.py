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
