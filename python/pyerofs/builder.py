"""Building an image from a directory: :func:`build`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from ._core import BinaryWriter

__all__ = ["BuildProgress", "BuildReport", "NeededFeature", "build"]


class BuildProgress(NamedTuple):
    """How far a build is. Totals are 0 where they are not known yet.

    Attributes:
        phase: ``"scan"`` (names and attributes), ``"plan"`` (layout), ``"pack"`` (contents) or ``"finish"``.
        files: files done in this phase.
        total_files: files of this phase.
        bytes: bytes done in this phase.
        total_bytes: bytes of this phase.
    """

    phase: str
    files: int
    total_files: int
    bytes: int
    total_bytes: int


class NeededFeature(NamedTuple):
    """Something in an image that older kernels don't read.

    Attributes:
        name: what it is, in words.
        first_kernel: the first Linux that reads it, ``(major, minor)``.
    """

    name: str
    first_kernel: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a finished build says about its image.

    Attributes:
        inodes: inodes in the image; hard links count once.
        directories: directories among them.
        files: regular files among them.
        hard_links: names that are further links to an inode already counted.
        bytes: length of the image.
        metadata_bytes: bytes of it that are not file contents in blocks of their own.
        content_bytes: bytes of file contents that were read, holes left out.
        fingerprints: files that carry a fingerprint.
        excluded: entries that a pattern left out, not counting what lies below them.
        xattrs_left_out: extended attributes that the policy or the format left out.
        uuid: the image's UUID.
        build_time: seconds since 1970.
        oldest_kernel: the first Linux that mounts the image, ``(major, minor)``.
        features: what makes it so.
    """

    inodes: int
    directories: int
    files: int
    hard_links: int
    bytes: int
    metadata_bytes: int
    content_bytes: int
    fingerprints: int
    excluded: int
    xattrs_left_out: int
    uuid: UUID
    build_time: int
    oldest_kernel: tuple[int, int]
    features: tuple[NeededFeature, ...]


def build(
    src: str | os.PathLike[str] | int,
    image: str | os.PathLike[str] | BinaryWriter,
    *,
    block_size: int = 4096,
    label: str = "",
    uuid: UUID | str | None = None,
    time: int | None = None,
    source_date_epoch: int | None = None,
    all_root: bool = False,
    uid_map: Iterable[tuple[int, int, int]] = (),
    gid_map: Iterable[tuple[int, int, int]] = (),
    uid_offset: int = 0,
    gid_offset: int = 0,
    force_uid: int | None = None,
    force_gid: int | None = None,
    xattrs: str | Iterable[str] = "default",
    share_xattrs_above: int = 2,
    xattr_prefixes: Iterable[str] = (),
    fingerprint: bool | str = True,
    target_kernel: str | tuple[int, int] | None = None,
    exclude: Iterable[str] = (),
    holes: bool = True,
    inline_tail: int | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[BuildProgress], object] | None = None,
) -> BuildReport:
    """Build the EROFS image of a directory.

    The same tree and options give the same bytes on any machine. The image appears under its name whole or
    not at all; Ctrl-C, an error and an exception from ``progress`` leave nothing behind.

    Args:
        src: the directory, or a descriptor of it.
        image: where the image goes: a path, or a binary stream that is written to in order once the image is
            complete.
        block_size: bytes, a power of two from 512 to 65536. Linux mounts up to its page size.
        label: volume label, at most 16 bytes.
        uuid: the image's UUID; by default a digest of its content.
        time: the modification time of everything, in seconds since 1970.
        source_date_epoch: the build time in seconds since 1970, to which newer files are set back; by default
            the environment's ``SOURCE_DATE_EPOCH``, and the newest file's time if there is none.
        all_root: everything belongs to 0:0.
        uid_map: ranges ``(from, to, count)`` of owners that change; others stay.
        gid_map: the same for groups.
        uid_offset: added to every owner after the map.
        gid_offset: added to every group after the map.
        force_uid: the owner of everything.
        force_gid: the group of everything.
        xattrs: ``"default"`` (``user.*``, ``security.capability`` and ACLs), ``"all"``, ``"none"``, or
            patterns of full names with ``*`` and ``?``.
        share_xattrs_above: an attribute that more inodes than this have in common is stored once.
        xattr_prefixes: name prefixes, such as ``user.company.``, to keep in the table of long prefixes.
        fingerprint: store the SHA-256 of each file with it; a string names the attribute.
        target_kernel: the oldest Linux that has to mount the image, ``"6.4"`` or ``(6, 4)``.
        exclude: patterns in gitignore syntax, rooted at ``src``; later ones win.
        holes: keep the holes of sparse files.
        inline_tail: longest tail of a file, in bytes, that is kept beside its inode.
        threads: threads that read and hash; by default one per CPU.
        force: replace an image that exists.
        progress: called now and then, in the calling thread, with a :class:`BuildProgress`.

    Raises:
        ValueError: an argument makes no sense.
        FileExistsError: ``image`` exists and ``force`` was not given.
        UnsupportedFeature: the format, or ``target_kernel``, can't hold what the tree has.
        SourceError: the tree changed while it was read, loops, or has names that no directory may hold.
        OSError: reading or writing failed; ``filename`` says where.
        KeyboardInterrupt: Ctrl-C.
    """
    from uuid import UUID

    if source_date_epoch is None:
        source_date_epoch = _epoch_from_environment()
    made = _core.build(
        src if isinstance(src, int) else os.fspath(src),
        os.fspath(image) if isinstance(image, (str, os.PathLike)) else image,
        block_size=block_size,
        label=os.fsencode(label),
        uuid=None if uuid is None else (uuid if isinstance(uuid, UUID) else UUID(uuid)).bytes,
        time=time,
        source_date_epoch=source_date_epoch,
        all_root=all_root,
        uid_map=list(uid_map),
        gid_map=list(gid_map),
        uid_offset=uid_offset,
        gid_offset=gid_offset,
        force_uid=force_uid,
        force_gid=force_gid,
        xattrs=[xattrs] if isinstance(xattrs, str) else list(xattrs),
        share_xattrs_above=share_xattrs_above,
        xattr_prefixes=[os.fsencode(prefix) for prefix in xattr_prefixes],
        fingerprint=os.fsencode(fingerprint) if isinstance(fingerprint, str) else fingerprint,
        target_kernel=_kernel(target_kernel),
        exclude=list(exclude),
        holes=holes,
        inline_tail=inline_tail,
        threads=threads,
        force=force,
        progress=None if progress is None else lambda *state: progress(BuildProgress(*state)),
    )
    facts: dict[str, Any] = {**made, "uuid": UUID(bytes=made["uuid"])}
    facts["features"] = tuple(NeededFeature(*feature) for feature in made["features"])
    return BuildReport(**facts)


def _kernel(version: str | tuple[int, int] | None) -> str | None:
    return ".".join(map(str, version)) if isinstance(version, tuple) else version


def _epoch_from_environment() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds") from None
