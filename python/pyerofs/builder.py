"""Building an image: :func:`build`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .compression import PRESETS, Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO
    from uuid import UUID

    from ._core import BinaryWriter
    from .image import Image
    from .sources import SourceEntry

    #: One of the places that a tree comes from.
    Source = (
        str
        | os.PathLike[str]
        | int
        | Image
        | BinaryIO
        | Mapping[str, bytes | str | os.PathLike[str] | SourceEntry | None]
        | Iterator[SourceEntry]
    )
    #: Several of them, or entries that are one.
    Sources = Sequence[Source | SourceEntry | Sequence[SourceEntry]]

__all__ = ["BuildProgress", "BuildReport", "NeededFeature", "Skipped", "build"]


class BuildProgress(NamedTuple):
    """How far a build is. Totals are 0 where they are not known yet.

    Attributes:
        phase: ``"scan"`` (names and attributes), ``"plan"`` (layout), ``"pack"`` (contents) or ``"finish"``.
        files: files done in this phase.
        total_files: files of this phase.
        bytes: bytes done in this phase.
        total_bytes: bytes of this phase.
        stored: bytes that contents take in the image so far.
    """

    phase: str
    files: int
    total_files: int
    bytes: int
    total_bytes: int
    stored: int


class NeededFeature(NamedTuple):
    """Something in an image that older kernels don't read.

    Attributes:
        name: what it is, in words.
        first_kernel: the first Linux that reads it, ``(major, minor)``.
        remedy: how to do without it.
    """

    name: str
    first_kernel: tuple[int, int]
    remedy: str


class Skipped(NamedTuple):
    """An entry of the source that is not in the image.

    Attributes:
        path: where it is, from ``src`` on as that was given.
        reason: why it could not be stored.
    """

    path: str
    reason: str


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
        stored_bytes: bytes of the image that hold them, in blocks of their own.
        shared_bytes: bytes of files that were not stored because their equals were.
        taken_bytes: bytes of compressed clusters that were taken from ``base``.
        base_unused: why nothing could be taken from ``base``; None if it was used, or none was given.
        unknown_paths: paths of ``order`` that name nothing.
        fingerprints: files that carry a fingerprint.
        excluded: entries that a pattern left out, not counting what lies below them.
        skipped: what ``keep_going`` left out, sorted by path; of a directory not what lies below it.
        xattrs_left_out: extended attributes that the policy or the format left out.
        uuid: the image's UUID.
        build_time: seconds since 1970.
        target_kernel: the Linux that the image was made for, ``(major, minor)``.
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
    stored_bytes: int
    shared_bytes: int
    taken_bytes: int
    base_unused: str | None
    unknown_paths: int
    fingerprints: int
    excluded: int
    skipped: tuple[Skipped, ...]
    xattrs_left_out: int
    uuid: UUID
    build_time: int
    target_kernel: tuple[int, int]
    oldest_kernel: tuple[int, int]
    features: tuple[NeededFeature, ...]

    @property
    def ratio(self) -> float:
        """``stored_bytes`` by ``content_bytes``: below 1 where compression pays; 1 without contents."""
        return self.stored_bytes / self.content_bytes if self.content_bytes else 1.0


def build(
    src: Source | Sources,
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
    xattrs: str | Iterable[str] | None = None,
    share_xattrs_above: int = 2,
    xattr_prefixes: Iterable[str] = (),
    fingerprint: bool | str | None = None,
    target_kernel: str | tuple[int, int] | None = None,
    exclude: Iterable[str] = (),
    exclude_regex: Iterable[str] = (),
    hard_dereference: bool = False,
    file_contexts: str | os.PathLike[str] | None = None,
    whiteouts: str | None = None,
    holes: bool | None = None,
    inline_tail: int | None = None,
    preset: str | None = None,
    compress: str | Compression | None = None,
    cluster: int | None = None,
    fragments: bool | str | None = None,
    tail_packing: bool | None = None,
    metabox: int | None = None,
    rules: Iterable[tuple[str, str | Compression | None]] = (),
    dedupe: bool | None = None,
    order: str | Iterable[str | os.PathLike[str]] | None = None,
    align: int | None = None,
    chunk: int | None = None,
    blob: str | os.PathLike[str] | None = None,
    reuse: Iterable[str | os.PathLike[str]] = (),
    base: str | os.PathLike[str] | None = None,
    keep_going: bool = False,
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[BuildProgress], object] | None = None,
) -> BuildReport:
    """Build the EROFS image of a directory, an archive, another image, or several of them.

    The same tree and options give the same bytes on any machine. The image appears under its name whole or
    not at all; Ctrl-C, an error and an exception from ``progress`` leave nothing behind.

    Args:
        src: what the image is made from. A directory, a tar archive (also compressed with gzip, bzip2, xz or
            Zstandard) or an EROFS image, by path or descriptor; an open :class:`Image`; a binary stream with
            a tar archive; a mapping of paths to contents (``bytes``, ``str``, ``os.PathLike``; ``None`` is a
            directory) or to :class:`SourceEntry`; an iterable of :class:`SourceEntry`. A list or tuple of
            these is merged, later ones over earlier ones.
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
        fingerprint: store the SHA-256 of each file with it, as by default; a string names the attribute.
        target_kernel: the oldest Linux that has to mount the image, ``"6.4"`` or ``(6, 4)``; by default the
            oldest longterm kernel that reads the algorithm and the fingerprints.
        exclude: patterns in gitignore syntax, rooted at ``src``; later ones win.
        exclude_regex: regular expressions; what they are found in the path of, from ``src`` on, is left out.
        hard_dereference: give each name of a file with several an inode of its own.
        file_contexts: a file as libselinux reads it, which gives everything its SELinux label.
        whiteouts: what becomes of entries by which layers of container images delete what lies below them:
            ``"apply"`` (they do, and are gone), ``"overlay"`` (they do, and stay in overlayfs' form) or
            ``"plain"`` (they mean nothing). By default ``"apply"`` if there are several sources.
        holes: keep the holes of sparse files, which is the default.
        inline_tail: longest tail of a file, in bytes, that is kept beside its inode.
        preset: a set of options: ``"fast"``, ``"balanced"``, ``"small"``, ``"dax"`` or ``"core"``. What is
            given besides goes before it.
        compress: ``"zstd"``, ``"zstd,level=19"`` or a :class:`Compression`; ``"none"``, the default, stores
            contents as they are.
        cluster: bytes of a compressed cluster, whole blocks and at most 1 MiB; by default 64 KiB. A larger
            one saves more, and costs more time where little of a file is read.
        fragments: keep the ends of files, and small files, compressed together; the default where the target
            kernel can (Linux 6.1). ``"all"``: files of up to 8 MiB as a whole.
        tail_packing: keep a small last cluster beside the inode instead (Linux 5.17).
        metabox: keep inodes, and what lies beside them, in a compressed file of clusters of so many bytes,
            whole blocks (Linux 6.17). Larger ones save more, and more is decoded for one inode.
        rules: what to compress otherwise: pairs of a pattern in gitignore syntax, rooted at ``src``, and of
            what ``compress`` takes. The last that matches a file counts. What is compressed otherwise has no
            part in fragments.
        dedupe: store equal contents once: files, and parts of large ones (compressed: Linux 6.1). The default
            where there are fragments.
        order: how contents follow one another: ``"path"``; ``"similar"``, files of the same name together;
            paths from ``src`` on, which come first in this order, a directory as all below it. By default
            ``"similar"`` if there are fragments, else ``"path"``.
        align: start the data of each file that has at least so many bytes, and is plain and without holes, at
            a multiple of them: a power of two. 2 MiB lets a DAX mount map large pages.
        chunk: store files in chunks of so many bytes, a power of two up to 8 MiB, each different one once.
            They can't be compressed.
        blob: a new file that gets the chunks in place of the image, which names it as its device.
        reuse: blobs of earlier builds with the same block size; chunks that are there are not stored again.
            They are the first devices of the image, in this order.
        base: an earlier image of the tree, built in the same way: what did not change is not compressed
            again. The result is the same. Its fingerprints and contents are believed. It may be ``image``.
        keep_going: leave out files and directories that can't be read, vanish, or change while they are
            stored, instead of failing; the report names them. A directory is left out with all that is below
            it. Of several sources laid over one another, what can't be listed is an error still in all but
            the first: what lies below would show.
        threads: threads that read and hash; by default one per CPU.
        force: replace an image that exists.
        progress: called now and then, in the calling thread, with a :class:`BuildProgress`.

    Raises:
        ValueError: an argument makes no sense.
        FileExistsError: ``image`` exists and ``force`` was not given, or ``blob`` exists.
        UnsupportedFeature: the format, or ``target_kernel``, can't hold what the tree has.
        SourceError: the tree changed while it was read, loops, or has names that no directory may hold.
        OSError: reading or writing failed; ``filename`` says where.
        KeyboardInterrupt: Ctrl-C. If it came at the very end ``image`` is there, and whole; else it is not.
    """
    from uuid import UUID

    from .sources.given import plain_sources

    def chosen(name: str, given: Any, otherwise: Any = None) -> Any:
        return of_preset.get(name, otherwise) if given is None else given

    of_preset = _preset(preset)
    how = _as_compression(chosen("compress", compress))
    size = chosen("cluster", cluster)
    others = [(pattern, _as_compression(other)) for pattern, other in rules]
    if how is None and not any(other for _pattern, other in others):
        # What shapes compression only is a mistake without it, unless it is a preset's.
        _refuse(cluster=cluster, fragments=fragments, tail_packing=tail_packing, metabox=metabox)
    # One of the two that is asked for takes the place of a preset's other.
    together = chosen("fragments", False if tail_packing and fragments is None else fragments)
    if together not in (None, False, True, "all"):
        raise ValueError(f"fragments: {together!r} is not True, False or 'all'")
    xattrs = chosen("xattrs", xattrs, "default")
    fingerprint = chosen("fingerprint", fingerprint, True)
    if source_date_epoch is None:
        source_date_epoch = _epoch_from_environment()
    uid_map, gid_map = list(uid_map), list(gid_map)
    _check_numbers(
        range(1 << 32),
        ("block_size", block_size),
        ("force_uid", force_uid),
        ("force_gid", force_gid),
        ("share_xattrs_above", share_xattrs_above),
        ("inline_tail", inline_tail),
        ("cluster", size),
        ("metabox", metabox),
        ("align", align),
        ("chunk", chunk),
        ("threads", threads),
        *(("uid_map", number) for one in uid_map for number in one),
        *(("gid_map", number) for one in gid_map for number in one),
    )
    _check_numbers(
        range(-(1 << 63), 1 << 63),
        ("time", time),
        ("source_date_epoch", source_date_epoch),
        ("uid_offset", uid_offset),
        ("gid_offset", gid_offset),
    )
    sources = plain_sources(src)
    made = _core.build(
        sources,
        os.fspath(image) if isinstance(image, (str, os.PathLike)) else image,
        block_size=block_size,
        label=os.fsencode(label),
        uuid=None if uuid is None else (uuid if isinstance(uuid, UUID) else UUID(uuid)).bytes,
        time=time,
        source_date_epoch=source_date_epoch,
        all_root=all_root,
        uid_map=uid_map,
        gid_map=gid_map,
        uid_offset=uid_offset,
        gid_offset=gid_offset,
        force_uid=force_uid,
        force_gid=force_gid,
        xattrs=[xattrs] if isinstance(xattrs, str) else list(xattrs),
        share_xattrs_above=share_xattrs_above,
        xattr_prefixes=[os.fsencode(prefix) for prefix in xattr_prefixes],
        fingerprint=os.fsencode(fingerprint) if isinstance(fingerprint, str) else fingerprint,
        target_kernel=_kernel(chosen("target_kernel", target_kernel)),
        exclude=list(exclude),
        exclude_regex=list(exclude_regex),
        hard_dereference=hard_dereference,
        file_contexts=None if file_contexts is None else _text(file_contexts),
        whiteouts=whiteouts or ("apply" if len(sources) > 1 else "plain"),
        holes=chosen("holes", holes, True),
        inline_tail=chosen("inline_tail", inline_tail),
        compress=_choice(how, size, cluster),
        fragments=None if together is None else bool(together),
        all_fragments=together == "all",
        tail_packing=chosen(
            "tail_packing", False if fragments and tail_packing is None else tail_packing, False
        ),
        metabox=metabox,
        rules=[(pattern, _choice(other, size, None)) for pattern, other in others],
        dedupe=chosen("dedupe", dedupe),
        order=_order(order),
        align=chosen("align", align),
        chunk=chunk,
        blob=None if blob is None else os.fspath(blob),
        reuse=[os.fspath(path) for path in reuse],
        base=None if base is None else os.fspath(base),
        keep_going=keep_going,
        threads=threads,
        force=force,
        progress=None if progress is None else lambda *state: progress(BuildProgress(*state)),
    )
    return _report(made)


def _report(made: Mapping[str, Any]) -> BuildReport:
    """What the core says of the image, in Python's words."""
    from uuid import UUID

    facts: dict[str, Any] = {**made, "uuid": UUID(bytes=made["uuid"])}
    facts["features"] = tuple(NeededFeature(*feature) for feature in made["features"])
    facts["skipped"] = tuple(Skipped(*entry) for entry in made["skipped"])
    return BuildReport(**facts)


def _refuse(**of_compression: object) -> None:
    """Refuse what was given and means nothing without compression."""
    for name, given in of_compression.items():
        if given:
            raise ValueError(f"{name} says something about compression, but compress names no algorithm")


def _preset(name: str | None) -> Mapping[str, Any]:
    if name is None:
        return {}
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _as_compression(given: str | Compression | None) -> Compression | None:
    return Compression.parse(given) if isinstance(given, str) else given


def _choice(
    how: Compression | None, usual: int | None, cluster: int | None
) -> tuple[str, int | None, int | None] | None:
    """What is handed on: the argument goes before a cluster of its own, and that before a preset's."""
    if how is None:
        return None
    size = how.cluster if cluster is None and how.cluster is not None else usual
    _check_numbers(range(-(1 << 31), 1 << 31), ("level", how.level), ("cluster", size))
    return how.algorithm, how.level, size


def _check_numbers(bounds: range, *numbers: tuple[str, int | None]) -> None:
    """Refuse numbers that the core has no room for; which of the others make sense is its business."""
    for name, number in numbers:
        # A range looks for what is not an int one by one.
        if number is not None and not bounds.start <= number < bounds.stop:
            raise ValueError(f"{name}: {number} is not a number from {bounds.start} to {bounds.stop - 1}")


def _text(path: str | os.PathLike[str]) -> tuple[str, str]:
    name = os.fspath(path)
    with open(path, encoding="utf-8") as file:
        try:
            return file.read(), name
        except UnicodeDecodeError as error:
            raise ValueError(f"file_contexts: {name} is not UTF-8: {error}") from None


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


def _order(order: str | Iterable[str | os.PathLike[str]] | None) -> str | list[bytes]:
    """An order as the core takes it."""
    if order is None:
        return "usual"
    return order if isinstance(order, str) else list(map(os.fsencode, order))
