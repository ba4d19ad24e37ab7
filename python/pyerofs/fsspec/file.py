"""What :meth:`ErofsFileSystem.open` returns."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyerofs.entry import Entry

    from .filesystem import ErofsFileSystem

__all__ = ["ErofsFile"]


class ErofsFile(io.BufferedReader):
    """A file opened by :meth:`ErofsFileSystem.open`: a buffered binary reader that fsspec's users know.

    It can be pickled where its filesystem can, and opens anew at the same position.
    """

    #: Bytes in the file.
    size: int

    def __init__(self, fs: ErofsFileSystem, path: str, entry: Entry, block_size: int | str | None) -> None:
        raw = entry.open("rb", buffering=0)
        self.size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        #: Bytes that are read at once where less is asked for.
        self.blocksize = block_size if isinstance(block_size, int) else _buffer_size(self.size)
        super().__init__(raw, max(1, self.blocksize))
        #: The filesystem that it belongs to.
        self.fs = fs
        #: Its path there.
        self.path = path

    @property
    def full_name(self) -> str:
        """The path with its protocol."""
        return str(self.fs.unstrip_protocol(self.path))

    def info(self) -> dict[str, Any]:
        """Return what :meth:`ErofsFileSystem.info` says of the file."""
        return self.fs.info(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.fs, self.path, self.blocksize, self.tell())

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()


def _reopen(fs: ErofsFileSystem, path: str, block_size: int, position: int) -> ErofsFile:
    file: ErofsFile = fs.open(path, "rb", block_size=block_size)
    file.seek(position)
    return file


def _buffer_size(size: int) -> int:
    """A small file in one call, a large one in pieces that are worth a call."""
    return min(max(size, 512), 128 * 1024)
