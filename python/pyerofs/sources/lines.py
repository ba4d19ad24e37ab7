"""Manifests, line by line, from wherever they are, and what their fields have in common."""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    #: A manifest's path, or the manifest, open for reading bytes.
    Manifest = str | os.PathLike[str] | BinaryIO

__all__ = ["TYPES", "content_below", "number", "opened", "path_below", "place", "time_ns"]

#: What a file's mode says it is, as entries call it.
TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}

#: int() itself also takes spaces, underscores and digits of other scripts.
_NUMBERS = {8: re.compile(rb"[0-7]{1,25}"), 10: re.compile(rb"-?[0-9]{1,25}")}


@contextmanager
def opened(manifest: Manifest) -> Iterator[tuple[BinaryIO, str]]:
    """Give the lines of a manifest, and what messages call it."""
    if isinstance(manifest, (str, os.PathLike)):
        with open(manifest, "rb") as lines:
            yield lines, os.fspath(manifest)
    else:
        name = getattr(manifest, "name", None)
        yield manifest, name if isinstance(name, str) else "<manifest>"


@contextmanager
def place(source: str, line: int) -> Iterator[None]:
    """Put the line of a manifest into the errors that it causes."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}:{line}: {error}") from None
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({source}:{line})", error.filename) from None


def number(field: bytes, what: str, base: int = 10) -> int:
    """Read a number of base 8 or 10, of digits alone; a decimal one may be negative.

    Raises:
        ValueError: it has anything else; the message calls it `what`.
    """
    if not _NUMBERS[base].fullmatch(field):
        raise ValueError(f"{what} {os.fsdecode(field)!r} is no number")
    return int(field, base)


def time_ns(field: bytes) -> int:
    """Read SECONDS or SECONDS.NANOSECONDS. What follows the point is a number, no fraction: 1.5 is 1 s 5 ns.

    Raises:
        ValueError: it is neither.
    """
    seconds, point, rest = field.partition(b".")
    nanoseconds = number(rest, "the count of nanoseconds") if point else 0
    if not 0 <= nanoseconds < 1_000_000_000:
        raise ValueError(f"a time has {nanoseconds} nanoseconds, and a second only 1000000000")
    return number(seconds, "time") * 1_000_000_000 + nanoseconds


def path_below(directory: str | os.PathLike[str], name: bytes) -> Path:
    """Give the path of a file that a manifest names, which has to be below the directory.

    Raises:
        ValueError: it climbs out of there.
    """
    if b".." in name.split(b"/"):
        raise ValueError(f"{os.fsdecode(name)!r} climbs out of the directory of contents")
    return Path(directory, os.fsdecode(name).lstrip("/"))


def content_below(directory: str | os.PathLike[str], name: bytes, size: int | None) -> Path:
    """Give the path of a regular file that a manifest names, of the size that it says, if it says one.

    Raises:
        ValueError: it climbs out of the directory, is something else, or has another size.
        OSError: there is no such file, or it can't be looked at.
    """
    path = path_below(directory, name)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file")
    if size not in (None, found.st_size):
        raise ValueError(f"{path} has {found.st_size} bytes, the size is {size}")
    return path
