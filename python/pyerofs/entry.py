"""One entry of an image, with the methods of ``pathlib.Path`` that make sense where nothing is ever written.

An :class:`Entry` is an ``importlib.resources.abc.Traversable`` too. Paths inside an image are absolute and
symbolic links are followed inside the image only: an absolute link starts again at the image's root.
"""

from __future__ import annotations

import errno
import io
import os
import stat as _stat
from functools import total_ordering
from typing import TYPE_CHECKING, Any, Literal, overload

from .entry_path import EntryPath, below
from .errors import ask
from .extent import Extent
from .file import EntryReader
from .xattrs import XattrMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._core import Inode
    from .image import Image

    Path = str | os.PathLike[str]

    _View = memoryview

__all__ = ["Entry"]


@total_ordering
class Entry(EntryPath):
    """A path in an image. It may exist or not; nothing is looked up until something is asked."""

    __slots__ = ("_image", "_link", "_nid", "_target")

    def __init__(self, image: Image, path: str, nid: int | None = None, inode: Inode | None = None) -> None:
        self._image = image
        self._path = path
        self._nid = nid
        self._link = inode
        self._target: Inode | None = None

    def __reduce__(self) -> tuple[object, ...]:
        nid = self._nid if self._link is None else self._link.nid
        return (Entry, (self._image, self._path, nid))

    # The path itself

    @property
    def image(self) -> Image:
        """The image that the entry belongs to."""
        return self._image

    @property
    def parent(self) -> Entry:
        """The path without its last component; the root is its own parent."""
        return Entry(self._image, self._path.rpartition("/")[0] or "/")

    @property
    def parents(self) -> tuple[Entry, ...]:
        """The parent, its parent, and so on up to the root."""
        found: list[Entry] = []
        here = self
        while here.path != "/":
            here = here.parent
            found.append(here)
        return tuple(found)

    def joinpath(self, *others: Path) -> Entry:
        """Return the entry at a path relative to this one; an absolute one starts at the image's root."""
        return Entry(self._image, below(self._path, *others))

    def __truediv__(self, other: Path) -> Entry:
        return self.joinpath(other)

    def with_name(self, name: str) -> Entry:
        """Return the entry of that name in the same directory."""
        return Entry(self._image, str(self._pure().with_name(name)))

    def with_suffix(self, suffix: str) -> Entry:
        """Return the entry whose name has another suffix."""
        return Entry(self._image, str(self._pure().with_suffix(suffix)))

    def __repr__(self) -> str:
        return f"<pyerofs.Entry {self._path!r} in {self._image.name!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self._image is other.image and self._path == other.path

    def __lt__(self, other: Entry) -> bool:
        if self._image is not other.image:
            return NotImplemented
        return self.parts < other.parts

    def __hash__(self) -> int:
        return hash((id(self._image), self._path))

    # What it is

    def inode(self, *, follow: bool = False) -> Inode:
        """Return the inode's fields as they are stored; :meth:`stat` gives them in the usual form."""
        core = self._image.core
        if self._link is None:
            if self._nid is not None:
                self._link = ask(self._path, core.inode, self._nid)
            else:
                self._link = ask(self._path, core.resolve, os.fsencode(self._path), False)
        if not follow or not _stat.S_ISLNK(self._link.mode):
            return self._link
        if self._target is None:
            self._target = ask(self._path, core.resolve, os.fsencode(self._path), True)
        return self._target

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what ``os.stat`` would for a mount of the image: times are mtime, ``st_dev`` is 0.

        Raises:
            FileNotFoundError: there is no such entry.
            NotADirectoryError: a component before the last one is not a directory.
            CorruptImage: the inode breaks a rule of the format.
        """
        return os.stat_result(self.inode(follow=follow_symlinks).stat(self._image.block_size))

    def lstat(self) -> os.stat_result:
        """As :meth:`stat`, of the link itself where the entry is one."""
        return self.stat(follow_symlinks=False)

    def mode(self, *, follow: bool = True) -> int:
        """Return the file type and permissions as in ``st_mode``, 0 if there is no such entry."""
        try:
            return self.inode(follow=follow).mode
        except OSError as error:
            # A loop of links is no entry to ask about either, as for pathlib.
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return 0
            raise

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether the entry exists; a symbolic link that leads nowhere does not."""
        return self.mode(follow=follow_symlinks) != 0

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a link to one."""
        return _stat.S_ISDIR(self.mode(follow=follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file, or a link to one."""
        return _stat.S_ISREG(self.mode(follow=follow_symlinks))

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return _stat.S_ISLNK(self.mode(follow=False))

    def is_fifo(self) -> bool:
        """Whether it is a named pipe, or a link to one."""
        return _stat.S_ISFIFO(self.mode())

    def is_socket(self) -> bool:
        """Whether it is a socket, or a link to one."""
        return _stat.S_ISSOCK(self.mode())

    def is_char_device(self) -> bool:
        """Whether it is a character device, or a link to one."""
        return _stat.S_ISCHR(self.mode())

    def is_block_device(self) -> bool:
        """Whether it is a block device, or a link to one."""
        return _stat.S_ISBLK(self.mode())

    def samefile(self, other: Entry | Path) -> bool:
        """Whether both are the same inode of the same image."""
        if not isinstance(other, Entry):
            other = self._image / other
        return self._image is other.image and self.inode(follow=True).nid == other.inode(follow=True).nid

    @property
    def nid(self) -> int:
        """The number of the entry's own inode (not of what a link leads to) in the image.

        It is ``st_ino`` too, but in an image with a metabox, where Linux shows another number.
        """
        return self.inode(follow=False).nid if self._nid is None else self._nid

    @property
    def uid(self) -> int:
        """The owner's number in the image; a link is followed."""
        return self.inode(follow=True).uid

    @property
    def gid(self) -> int:
        """The group's number in the image; a link is followed."""
        return self.inode(follow=True).gid

    @property
    def layout(self) -> str:
        """How the data lies in the image, by the kernel's name in lower case, e.g. ``flat_inline``."""
        return self.inode(follow=False).layout

    @property
    def fingerprint(self) -> str | None:
        """What the image claims as its content's digest, ``sha256:`` and 64 digits; not verified."""
        digest = ask(self._path, self._image.core.fingerprint, self.inode(follow=True).nid)
        return None if digest is None else f"sha256:{digest.hex()}"

    @property
    def xattrs(self) -> XattrMap:
        """The extended attributes as a read-only mapping from name to value; a link is followed."""
        return self.extended_attributes()

    def extended_attributes(self, *, follow_symlinks: bool = True) -> XattrMap:
        """As :attr:`xattrs`, with a choice about links."""
        return XattrMap(self, self.inode(follow=follow_symlinks).nid)

    def readlink(self) -> str:
        """Return where a symbolic link points, as it is stored.

        Raises:
            OSError: (``EINVAL``) the entry is no symbolic link.
        """
        inode = self.inode(follow=False)
        if not _stat.S_ISLNK(inode.mode):
            raise OSError(errno.EINVAL, "Not a symbolic link", self._path)
        return os.fsdecode(ask(self._path, self._image.core.read_link, inode.nid))

    def extents(self) -> list[Extent]:
        """Return where the data lies, one :class:`Extent` for each run of it."""
        found = ask(self._path, self._image.core.extents, self.inode(follow=True).nid)
        return [Extent(*fields) for fields in found]

    # Directories

    def iterdir(self) -> Iterator[Entry]:
        """Return the entries of a directory in the image's order, without ``.`` and ``..``.

        Raises:
            NotADirectoryError: the entry is no directory.
            CorruptImage: the directory breaks a rule of the format.
        """
        return iter(self._children(False))

    def _children(self, inodes: bool) -> list[Entry]:
        """The entries of a directory; with ``inodes`` they know theirs, unless one can't be read."""
        found = ask(self._path, self._image.core.list, self._directory(), inodes)
        base = "" if self._path == "/" else self._path
        return [Entry(self._image, f"{base}/{name}", nid, inode) for name, nid, inode in found]

    def _directory(self) -> int:
        inode = self.inode(follow=True)
        if not _stat.S_ISDIR(inode.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._path)
        return inode.nid

    def scan(
        self, *, recursive: bool = True, on_error: Callable[[OSError], object] | None = None
    ) -> Iterator[Entry]:
        """Yield every entry below, each with its inode known, so that :meth:`stat` of it reads nothing more.

        This is the fast way through a tree: it is walked in Rust, a directory before what is in it, in the
        image's order, and no symbolic link is followed.

        Args:
            recursive: False for the entries of this directory alone.
            on_error: called with an error, after which the scan goes on; without it the error is raised.

        Raises:
            NotADirectoryError: the entry is no directory.
            CorruptImage: an entry or directory breaks a rule of the format, or is reached a second time.
            LimitExceeded: the tree is deeper, or has more entries, than the limits allow.
        """
        from .walk import scan

        nid = self._directory()
        return scan(self, nid, on_error) if recursive else iter(self._children(True))

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> Iterator[tuple[Entry, list[str], list[str]]]:
        """Yield (directory, names of directories, names of the rest) for the tree, as ``pathlib.Path.walk``.

        With ``top_down`` the list of directories may be changed to prune the walk. Unlike ``pathlib`` this
        passes over no error: it goes to ``on_error``, after which the walk goes on, or is raised.

        Raises:
            CorruptImage: a directory is reached a second time, which no honest image allows.
            LimitExceeded: the tree is deeper, or has more entries, than the limits allow.
        """
        from .walk import walk

        return walk(self, top_down, on_error, follow_symlinks)

    def glob(self, pattern: str) -> Iterator[Entry]:
        """Yield the entries below that match a pattern; ``**`` stands for any number of directories."""
        from .walk import glob

        return glob(self, pattern)

    def rglob(self, pattern: str) -> Iterator[Entry]:
        """As :meth:`glob` with ``**/`` before the pattern."""
        return self.glob(f"**/{pattern}")

    # Content

    def _regular(self) -> Inode:
        inode = self.inode(follow=True)
        if _stat.S_ISDIR(inode.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        if not _stat.S_ISREG(inode.mode):
            raise OSError(errno.ENXIO, "Not a regular file", self._path)
        return inode

    def read_bytes(self) -> bytes:
        """Return the file's content.

        Raises:
            IsADirectoryError: the entry is a directory.
            LimitExceeded: the file has more bytes beyond those that are stored than the limit
                ``memory_bytes``; :meth:`open` still reads it.
        """
        inode = self._regular()
        return ask(self._path, self._image.core.file(inode.nid).read_all, 0)

    def memoryview(self, *, allow_copy: bool = True) -> _View:
        """Return the file's content as a read-only ``memoryview``, without a copy where that is possible.

        It is where the image is memory that does not change - ``bytes``, a file opened with ``mmap=True`` or
        a sealed memfd - and the file lies in it in one piece, uncompressed (a tail that is kept beside the
        inode is a second piece, unless it is all there is). The view keeps that memory alive by itself, also
        after the image was closed.

        Args:
            allow_copy: False to raise ``BufferError`` where there would have to be a copy.

        Raises:
            BufferError: only a copy can be had, and ``allow_copy`` is False.
            IsADirectoryError: the entry is a directory.
            LimitExceeded: there would have to be a copy, and :meth:`read_bytes` refuses to make it.
        """
        inode = self._regular()
        place = ask(self._path, self._image.core.flat, inode.nid)
        memory = None if place is None else self._image.memory(place[0])
        if place is not None and memory is not None:
            view = memory[place[1] : place[1] + inode.size]
            # A file that claims to go on behind the end of the image is the same error as ever.
            return view if len(view) == inode.size else memoryview(self.read_bytes())
        if not allow_copy and inode.size:
            why = "it does not lie in one piece" if place is None else "the image is not in memory: see mmap="
            raise BufferError(f"{self._path}: {why}")
        return memoryview(self.read_bytes())

    def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the file's content as text, decoded as :func:`open` would."""
        with self.open("r", encoding=io.text_encoding(encoding), errors=errors, newline=newline) as file:
            return file.read()

    @overload
    def open(
        self,
        mode: Literal["r", "rt"] = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(self, mode: Literal["rb"], buffering: Literal[0]) -> EntryReader: ...
    @overload
    def open(self, mode: Literal["rb"], buffering: Literal[-1] = -1) -> io.BufferedReader: ...
    @overload
    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.IOBase: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Open the file for reading, as the built-in :func:`open`: seekable, buffered, text by default.

        Raises:
            IsADirectoryError: the entry is a directory.
            OSError: (``EROFS``) the mode asks for writing.
            ValueError: the mode is none.
        """
        kinds = set(mode)
        if len(kinds) != len(mode) or not kinds <= set("rwaxbt+") or {"b", "t"} <= kinds:
            raise ValueError(f"invalid mode: {mode!r}")
        if kinds & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), self._path)
        if "r" not in kinds:
            raise ValueError(f"invalid mode: {mode!r}")
        inode = self._regular()
        raw = EntryReader(self, inode)
        if "b" in kinds:
            if encoding is not None or errors is not None or newline is not None:
                raise ValueError("binary mode takes no encoding, errors or newline")
            if buffering == 0:
                return raw
            return io.BufferedReader(raw, buffering if buffering > 1 else _buffer_size(inode.size))
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
        buffered = io.BufferedReader(raw, buffering if buffering > 1 else _buffer_size(inode.size))
        return io.TextIOWrapper(buffered, io.text_encoding(encoding), errors, newline, buffering == 1)


def _buffer_size(size: int) -> int:
    """A small file in one call, a large one in pieces that are worth a call."""
    return min(max(size, 512), 128 * 1024)
