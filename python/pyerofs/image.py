"""Reading an image: :func:`open` gives an :class:`Image`, whose entries behave as ``pathlib`` paths.

An image never changes, so an entry remembers its inode once it was looked up. Everything here may be used
from several threads at once. Names are ``str`` in the way of :func:`os.fsdecode`; those that are not UTF-8
come back to the same bytes through :func:`os.fsencode`.

An image that was opened by path can be pickled, and is opened again where it is unpickled. In a forked child
an image goes on as if it had been opened there.
"""

from __future__ import annotations

import atexit
import errno
import os
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from . import _core
from .entry import Entry
from .errors import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from _typeshed import ReadableBuffer

    from ._core import RangeReader, ReadMany, SeekableFile
    from .usage import Usage

    Source = str | os.PathLike[str] | int | ReadableBuffer | RangeReader | SeekableFile
    _Asked = TypeVar("_Asked", bound="str | bytes | os.PathLike[str] | Entry")

#: The bytes that read_many() reads ahead.
_BUDGET = 64 << 20

# Locks that other threads held stay locked in a child, and threads that need the interpreter can't outlive
# it.
os.register_at_fork(after_in_child=_core.after_fork)
atexit.register(_core.stop_reading)

__all__ = ["Algorithm", "Device", "Entry", "Feature", "Image", "limits", "open"]


class Feature(NamedTuple):
    """One feature that an image says it uses.

    Attributes:
        name: the kernel's name of the bit, in lower case.
        kind: ``"compat"`` (a reader may ignore it) or ``"incompat"`` (it must not).
        bit: the bit's value in the superblock.
        first_kernel: the first Linux that reads it, as ``(major, minor)``; None for an unknown compat bit.
    """

    name: str
    kind: str
    bit: int
    first_kernel: tuple[int, int] | None


class Algorithm(NamedTuple):
    """One algorithm that an image's files may be compressed with.

    Attributes:
        name: ``"lz4"``, ``"lzma"`` (MicroLZMA), ``"deflate"`` or ``"zstd"``.
        window: how many bytes back a compressed stream may refer to, which is memory that its decoder needs;
            None for lz4, where it is 65535 in any image.
        first_kernel: the first Linux that decodes it, as ``(major, minor)``.
    """

    name: str
    window: int | None
    first_kernel: tuple[int, int]


class Device(NamedTuple):
    """One entry of the device table.

    Attributes:
        tag: what the builder wrote to tell the device by, often a digest.
        blocks: its length in blocks.
        unified_address: the block at which it begins in the image's unified address space, 0 if it has none.
    """

    tag: str
    blocks: int
    unified_address: int


def open(
    source: Source,
    devices: Iterable[Source] = (),
    offset: int = 0,
    *,
    profile: str = "full",
    limits: Mapping[str, int] | None = None,
    mmap: bool = False,
) -> Image:
    """Open an EROFS image for reading.

    Args:
        source: a path (of a block device too), a file descriptor (duplicated, so the caller keeps his own), a
            bytes-like object that holds the image, an object with ``read_at(offset, length)``, which returns
            at most that many bytes, none only at the end, and may be called by any thread at any time (its
            attribute ``size``, if any, is its length in bytes), or a seekable binary file object (read under
            a lock; don't move it meanwhile).
        devices: the further blobs that the image's device table names, in its order; each as ``source``.
        offset: where the image begins in ``source``, in bytes.
        profile: which on-disk features to accept: ``"core"`` (the minimal format), ``"plain"`` (everything
            but compression) or ``"full"``.
        limits: bounds on the work that the image may cause, where other than the defaults, by name; see
            :func:`limits` for all of them.
        mmap: your word that no file named here changes or shrinks while the image, or a view of it, lives.
            They are then mapped into memory, which saves the system call and the copy of each read and makes
            :meth:`Entry.memoryview` copy nothing. If a mapped file is shortened, or its disk fails, the
            process is killed by SIGBUS where it would have got an error; if it is written to, what was
            checked is no longer what is read. A sealed memfd is mapped in any case. Sources that are no files
            are read as ever.

    Raises:
        NotAnImage: there is no superblock at ``offset``.
        CorruptImage: the superblock breaks a rule of the format, its checksum for one.
        UnsupportedFeature: the image uses what the profile does not accept.
        DeviceMismatch: ``devices`` are not as many as the device table names.
        ValueError: ``offset`` or a limit is negative or more than 64 bits hold, or there is no such limit.
        OSError: a blob can't be opened or read.
    """
    if isinstance(devices, (str, bytes, os.PathLike)):
        raise TypeError("devices is a sequence of sources, not a single one")
    return Image(source, tuple(devices), offset, profile, dict(limits or {}), mmap=mmap)


def limits() -> dict[str, int]:
    """Return every limit that ``open(limits=)`` takes, with its default; those in bytes end in ``_bytes``.

    =======================  =====================================================================
    ``depth``                directories one in another, in a walk
    ``directory_bytes``      bytes of one directory
    ``walk_entries``         entries in one walk
    ``xattr_bytes``          bytes of the extended attributes of one entry
    ``extents``              runs of one file, in a listing of its extents
    ``symlink_length``       bytes of a symbolic link's target
    ``symlinks``             symbolic links followed for one path
    ``devices``              devices beyond the primary blob
    ``cache_bytes``          bytes of metadata kept in memory
    ``decoded_cache_bytes``  bytes of decoded clusters kept in memory
    ``decoded_bytes``        bytes decoded in one call, beyond 64 for each byte asked for
    ``memory_bytes``         bytes of a file read into memory at once, beyond those that are stored
    ``zero_bytes``           zeros written to an archive for short holes and unreadable parts of one file
    =======================  =====================================================================
    """
    return _core.limits()


class Image:
    """An open image. Use :func:`open` to make one and ``with`` or :meth:`close` to let it go.

    Entries are reached with ``image / "usr/bin"``, ``image.root`` and from there as with ``pathlib``.
    """

    __slots__ = ("__weakref__", "_facts", "_memories", "_opened", "_uuid", "core", "name")

    #: The path of the primary blob, or a description of it where it has none.
    name: str

    def __init__(
        self,
        source: Source,
        devices: Sequence[Source],
        offset: int,
        profile: str,
        limits: dict[str, int],
        *,
        mmap: bool = False,
    ) -> None:
        self.name = _name_of(source)
        if not 0 <= offset < 1 << 64:
            raise ValueError(f"offset: {offset} is no place in a file")
        for limit, value in limits.items():
            if not 0 <= value < 1 << 64:
                raise ValueError(f"limits: '{limit}' can't be {value}, only a number from 0 to 2**64 - 1")
        blobs = [_plain(device) for device in devices]
        #: The compiled image. For this package; its methods may change with any version.
        self.core = ask(self.name, _core.Image, _plain(source), blobs, offset, profile, limits, mmap)
        self._facts = self.core.facts()
        self._uuid: UUID | None = None
        self._memories: dict[int, memoryview | None] = {}
        # How to open it elsewhere; paths are made absolute now, while the working directory is the right one.
        paths = [_path_of(blob) for blob in (source, *devices)]
        self._opened = (paths, offset, profile, limits, mmap)

    def __reduce__(self) -> tuple[object, ...]:
        paths, *options = self._opened
        if None in paths:
            what = "the image" if paths[0] is None else f"its device {paths.index(None)}"
            raise TypeError(f"{self!r} can't be pickled: {what} was not opened by a path")
        if self.closed:
            raise ValueError("I/O operation on closed image")
        return (_reopen, (paths, *options, self.identity()))

    def identity(self) -> tuple[object, ...]:
        """Return what tells the image from another one that has taken its path; for this package."""
        return tuple(self._facts[key] for key in ("uuid", "build_time", "checksum", "blocks", "inodes"))

    def limit(self, name: str) -> int:
        """Return what one of :func:`limits` is for this image; for this package."""
        given: dict[str, int] = self._opened[3]
        return given[name] if name in given else limits()[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the blobs go. Files that were opened in the image stay readable until they are closed."""
        self.core.close()
        self._memories.clear()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.core.closed

    def __repr__(self) -> str:
        return f"<pyerofs.Image {self.name!r}{' (closed)' if self.closed else ''}>"

    @property
    def root(self) -> Entry:
        """The root directory."""
        return Entry(self, "/")

    def __truediv__(self, path: str | os.PathLike[str]) -> Entry:
        return self.root.joinpath(path)

    def joinpath(self, *paths: str | os.PathLike[str]) -> Entry:
        """Return the entry at a path below the root, whether it exists or not."""
        return self.root.joinpath(*paths)

    def read_many(
        self, paths: Iterable[_Asked], *, threads: int | None = None, budget: int = _BUDGET
    ) -> ReadMany[_Asked]:
        """Read many files with several threads and yield ``(path, content)`` in the order of ``paths``.

        The content is ``bytes``; where a file can't be read it is the :class:`OSError`, not raised, so that
        one bad file doesn't stop the others. ``paths`` is taken from a batch at a time, at most some thousand
        ahead. The iterator has ``close()`` and is a context manager; it is closed at its end too. It may be
        handed from thread to thread, but used by one at a time.

            with image.read_many(names) as files:
                for name, content in files:
                    if isinstance(content, OSError):
                        print(f"{name}: {content}")

        Args:
            paths: where the files are: ``str``, ``bytes``, path objects, or entries of this image, which are
                found faster. The same objects are yielded. Symbolic links are followed inside the image.
            threads: how many read; by default as many as there are processors to run on. Where the source is
                a Python object more may pay, since each waits for it.
            budget: bytes that may be read ahead. A file that is larger than a quarter of it is read when its
                turn comes, by all threads together.

        Raises:
            TypeError: ``paths`` is a single path, or yields what is no path.
            ValueError: ``threads`` or ``budget`` is below 1, or an entry is of another image.
        """
        if isinstance(paths, (str, bytes, os.PathLike, Entry)):
            raise TypeError("paths is an iterable of paths, not a single one")
        if threads is not None and threads < 1:
            raise ValueError(f"threads: {threads} is below 1")
        if budget < 1:
            raise ValueError(f"budget: {budget} is below 1")
        return _core.ReadMany(self.core, paths, threads, min(budget, 1 << 62), Entry, self)

    def memory(self, blob: int) -> memoryview | None:
        """Return the bytes of a blob where they are memory that does not change; for this package."""
        if blob not in self._memories:
            self._memories[blob] = _memory_of(*self.core.memory(blob))
        return self._memories[blob]

    @property
    def block_size(self) -> int:
        """Bytes in a block."""
        return self._facts["block_size"]

    @property
    def blocks(self) -> int:
        """Blocks of the primary blob, as the superblock says."""
        return self._facts["blocks"]

    @property
    def inodes(self) -> int:
        """Number of inodes, as the superblock says."""
        return self._facts["inodes"]

    @property
    def root_nid(self) -> int:
        """Number of the root directory's inode."""
        return self._facts["root_nid"]

    @property
    def uuid(self) -> UUID:
        """The image's UUID."""
        if self._uuid is None:
            from uuid import UUID

            self._uuid = UUID(bytes=self._facts["uuid"])
        return self._uuid

    @property
    def label(self) -> str:
        """The volume name, empty if there is none."""
        return os.fsdecode(self._facts["label"])

    @property
    def build_time(self) -> int:
        """When the image was built, in seconds since 1970."""
        return self._facts["build_time"]

    @property
    def checksum(self) -> int | None:
        """The superblock's CRC-32C (it was verified on opening), None if the image carries none."""
        return self._facts["checksum"]

    @property
    def compressed(self) -> bool:
        """Whether the superblock allows compressed files."""
        return self._facts["compressed"]

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that the superblock names."""
        return tuple(Feature(*feature) for feature in self._facts["features"])

    @property
    def oldest_kernel(self) -> tuple[int, int]:
        """The first Linux that mounts the image, ``(major, minor)``."""
        needed = [f.first_kernel for f in self.features if f.kind == "incompat" and f.first_kernel]
        needed += [algorithm.first_kernel for algorithm in self.algorithms]
        return max([(5, 4) if self.block_size == 4096 else (6, 4), *needed])

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms that files may be compressed with; empty if the image allows no compression."""
        return tuple(Algorithm(*fields) for fields in self._facts["algorithms"])

    @property
    def packed_nid(self) -> int | None:
        """Number of the inode whose data holds the fragments of files, None if there is none."""
        return self._facts["packed_nid"]

    @property
    def metabox_nid(self) -> int | None:
        """Number of the inode whose data holds inodes and directories, None if there is none."""
        return self._facts["metabox_nid"]

    @property
    def build_record(self) -> str | None:
        """How its files were compressed, in lines of text, as far as pyerofs did it; nobody verifies it."""
        return self._facts["build_record"]

    def usage(self, on_error: Callable[[OSError], object] | None = None) -> Usage:
        """Count what is in the image, and what it takes; reads every inode and no file.

        Args:
            on_error: called with the error of an entry that can't be read, which is not counted; without it
                the error is raised.

        Raises:
            CorruptImage: an entry or directory breaks a rule of the format.
            LimitExceeded: the tree is deeper, or has more entries, than the limits allow.
        """
        from .usage import usage

        return usage(self, on_error)

    @property
    def devices(self) -> tuple[Device, ...]:
        """The device table."""
        return tuple(Device(os.fsdecode(tag), *rest) for tag, *rest in self._facts["devices"])


def _plain(source: Source) -> object:
    """Return a source as the core takes it: a path as bytes is ambiguous with an image, so paths are str."""
    if isinstance(source, bool):
        raise TypeError("a source is a path, a descriptor, a bytes-like object or a binary file, not a bool")
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        return os.fsdecode(path)
    return source


def _name_of(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, int):
        return f"<descriptor {source}>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else f"<{type(source).__name__}>"


def _path_of(source: Source) -> str | None:
    if not isinstance(source, (str, os.PathLike)):
        return None
    # Links stay as they are: what they lead to may be somewhere else where the image is opened again.
    return os.path.abspath(os.fsdecode(source))  # noqa: PTH100


def _reopen(
    paths: list[str],
    offset: int,
    profile: str,
    limits: dict[str, int],
    mmap: bool,
    identity: tuple[object, ...],
) -> Image:
    """Open the image that was pickled."""
    image = Image(paths[0], paths[1:], offset, profile, limits, mmap=mmap)
    if image.identity() != identity:
        image.close()
        raise OSError(errno.ESTALE, "this is another image than the one that was pickled", paths[0])
    return image


def _memory_of(held: ReadableBuffer | None, descriptor: int | None, length: int) -> memoryview | None:
    if held is not None:
        return memoryview(held)
    if descriptor is None:
        return None
    from mmap import ACCESS_READ, mmap

    try:
        # A mapping beside the reader's own, of the same pages: this one lives as long as any view of it.
        return memoryview(mmap(descriptor, length, access=ACCESS_READ)) if length else memoryview(b"")
    finally:
        os.close(descriptor)
