"""Reading an image: :func:`open` gives an :class:`Image`, whose entries behave as ``pathlib`` paths.

An image never changes, so an entry remembers its inode once it was looked up. Everything here may be used
from several threads at once. Names are ``str`` in the way of :func:`os.fsdecode`; those that are not UTF-8
come back to the same bytes through :func:`os.fsencode`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self

from . import _core
from .entry import Entry
from .errors import ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from _typeshed import ReadableBuffer

    from ._core import RangeReader, SeekableFile

    Source = str | os.PathLike[str] | int | ReadableBuffer | SeekableFile | RangeReader

__all__ = ["Device", "Entry", "Feature", "Image", "limits", "open"]


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
) -> Image:
    """Open an EROFS image for reading.

    Args:
        source: a path, a file descriptor (duplicated, so the caller keeps his own), a bytes-like object that
            holds the image, a seekable binary file object (read under a lock; don't move it meanwhile), or an
            object with ``read_at(offset, length)`` (called from several threads at once) that returns at most
            that many bytes, none only at the end. Its attribute ``size``, if any, is its length in bytes.
        devices: the further blobs that the image's device table names, in its order; each as ``source``.
        offset: where the image begins in ``source``, in bytes.
        profile: which on-disk features to accept: ``"core"`` (the minimal format), ``"plain"`` (everything
            but compression) or ``"full"``.
        limits: bounds on the work that the image may cause, where other than the defaults, by name; see
            :func:`limits` for all of them.

    Raises:
        NotAnImage: there is no superblock at ``offset``.
        CorruptImage: the superblock breaks a rule of the format, its checksum for one.
        UnsupportedFeature: the image uses what the profile does not accept.
        DeviceMismatch: ``devices`` are not as many as the device table names.
        OSError: a blob can't be opened or read.
    """
    if isinstance(devices, (str, bytes, os.PathLike)):
        raise TypeError("devices is a sequence of sources, not a single one")
    return Image(source, tuple(devices), offset, profile, dict(limits or {}))


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
    =======================  =====================================================================
    """
    return _core.limits()


class Image:
    """An open image. Use :func:`open` to make one and ``with`` or :meth:`close` to let it go.

    Entries are reached with ``image / "usr/bin"``, ``image.root`` and from there as with ``pathlib``.
    """

    __slots__ = ("_facts", "_uuid", "core", "name")

    #: The path of the primary blob, or a description of it where it has none.
    name: str

    def __init__(
        self, source: Source, devices: Sequence[Source], offset: int, profile: str, limits: dict[str, int]
    ) -> None:
        self.name = _name_of(source)
        blobs = [_plain(device) for device in devices]
        #: The compiled image. For this package; its methods may change with any version.
        self.core = ask(self.name, _core.Image, _plain(source), blobs, offset, profile, limits)
        self._facts = self.core.facts()
        self._uuid: UUID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the blobs go. Files that were opened in the image stay readable until they are closed."""
        self.core.close()

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
        return max([(5, 4) if self.block_size == 4096 else (6, 4), *needed])

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
