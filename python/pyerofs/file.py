"""A regular file of an image as a raw stream, for ``io.BufferedReader`` to stand on."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from .errors import ask

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from ._core import Inode
    from .entry import Entry

__all__ = ["EntryReader"]


class EntryReader(io.RawIOBase):
    """Unbuffered, seekable, read-only access to the bytes of one inode."""

    mode = "rb"

    def __init__(self, entry: Entry, inode: Inode) -> None:
        super().__init__()
        # The handle keeps the blobs open by itself: closing the image does not end reading.
        self._file = entry.image.core.file(inode.nid)
        self._size = inode.size
        self._position = 0
        self.name = entry.path

    def readable(self) -> bool:
        """Return True unless closed."""
        self._check()
        return True

    def seekable(self) -> bool:
        """Return True unless closed."""
        self._check()
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position; one behind the end reads nothing."""
        self._check()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer from the position; 0 at the end.

        Less comes also before a piece of the file that can't be read, which is an error where it begins.
        """
        self._check()
        if self._position >= self._size:
            return 0
        count = ask(self.name, self._file.read_into, self._position, buffer)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes from the position, everything without a size; empty at the end.

        With a size less comes also before a piece of the file that can't be read, as for :meth:`readinto`.
        """
        self._check()
        if size is None or size < 0:
            return self.readall()
        piece = ask(self.name, self._file.read, min(self._position, self._size), size)
        self._position += len(piece)
        return piece

    def readall(self) -> bytes:
        """Return everything from the position to the end.

        Raises:
            LimitExceeded: the file has more bytes beyond those that are stored than ``memory_bytes`` allows.
        """
        self._check()
        rest = ask(self.name, self._file.read_all, min(self._position, self._size))
        self._position += len(rest)
        return rest

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
