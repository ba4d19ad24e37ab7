"""Manifests, line by line, from wherever they are."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    #: A manifest's path, or the manifest, open for reading bytes.
    Manifest = str | os.PathLike[str] | BinaryIO

__all__ = ["file_below", "opened"]


@contextmanager
def opened(manifest: Manifest) -> Iterator[tuple[BinaryIO, str]]:
    """Give the lines of a manifest, and what messages call it."""
    if isinstance(manifest, (str, os.PathLike)):
        with open(manifest, "rb") as lines:
            yield lines, os.fspath(manifest)
    else:
        name = getattr(manifest, "name", None)
        yield manifest, name if isinstance(name, str) else "<manifest>"


def file_below(directory: str | os.PathLike[str], name: bytes) -> Path:
    """Give the path of a file that a manifest names, which has to be below the directory.

    Raises:
        ValueError: it climbs out of there.
    """
    if b".." in name.split(b"/"):
        raise ValueError(f"{os.fsdecode(name)!r} climbs out of the directory of contents")
    return Path(directory, os.fsdecode(name).lstrip("/"))
