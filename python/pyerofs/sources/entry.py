"""Entries of a tree that is made in memory: :class:`SourceEntry`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["SourceEntry"]

_TYPES = ("file", "directory", "symlink", "link", "char", "block", "fifo", "socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """A file, directory or anything else with a name, to be put into an image.

    Attributes:
        path: where it goes, with or without a leading slash; ``""`` or ``"/"`` is the root.
        type: ``"file"``, ``"directory"``, ``"symlink"``, ``"link"`` (a further name for another entry's
            file), ``"char"``, ``"block"``, ``"fifo"`` or ``"socket"``.
        content: the bytes of a file, or where they are: a path (``os.PathLike``), or ``(file, offset, size)``
            for a part of an open file. Files are read while the image is built and must not change.
        target: where a symlink leads, or the path of the entry that a link is another name for, which may
            come later.
        mode: permissions, as in ``0o644``; by default 0o755 for directories and 0o644 for others.
        uid: owner.
        gid: group.
        mtime_ns: modification time in nanoseconds since 1970.
        xattrs: full names and values of extended attributes.
        rdev: major and minor number of a device.
    """

    path: str | bytes | os.PathLike[str]
    type: str = "file"
    content: bytes | os.PathLike[str] | tuple[BinaryIO | int, int, int] = b""
    target: str | bytes = ""
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    rdev: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Check what does not depend on other entries.

        Raises:
            ValueError: there is no such type, or a number is none that a file can have.
        """
        if self.type not in _TYPES:
            raise ValueError(f"{self.path!r}: type {self.type!r} is none of {', '.join(_TYPES)}")
        major, minor = self.rdev
        for name, number, lowest, highest in (
            ("mode", self.mode or 0, 0, 0o7777),
            ("uid", self.uid, 0, 0xFFFFFFFF),
            ("gid", self.gid, 0, 0xFFFFFFFF),
            ("major", major, 0, 0xFFFFFFFF),
            ("minor", minor, 0, 0xFFFFFFFF),
            ("mtime_ns", self.mtime_ns, -(2**63) * 10**9, 2**63 * 10**9 - 1),
        ):
            if not lowest <= number <= highest:
                raise ValueError(f"{self.path!r}: {name} {number} is not from {lowest} to {highest}")
