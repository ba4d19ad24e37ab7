"""Getting files out of an image: :func:`extract` and :func:`extract_tar`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .image import Image
from .image import open as open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._core import BinaryWriter
    from .image import Source

__all__ = ["ExtractProgress", "ExtractReport", "Loss", "extract", "extract_tar"]


class ExtractProgress(NamedTuple):
    """How far an extraction is.

    Attributes:
        entries: names that are done.
        total_entries: inodes that the image says it has; 0 if only a part is extracted.
        bytes: bytes of content that are done.
    """

    entries: int
    total_entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Something about entries that was not kept: the caller may not set it, or the destination can't hold it.

    Attributes:
        what: ``"owners"``, ``"devices"``, ``"trusted.* attributes"`` and so on.
        reason: why it was not kept.
        count: how many entries have lost it.
        example: the path in the image of one of them.
    """

    what: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractReport:
    """What a finished extraction says.

    Attributes:
        directories: directories extracted.
        files: regular files extracted; further names of one are not counted.
        symlinks: symbolic links extracted.
        special: devices, pipes and sockets extracted.
        hard_links: further names of what was counted already.
        bytes: bytes of file contents, holes left out.
        left_out: entries that a pattern left out, not counting what lies below them.
        failed: entries that could not be extracted.
        losses: what was not kept of entries that were extracted.
    """

    directories: int
    files: int
    symlinks: int
    special: int
    hard_links: int
    bytes: int
    left_out: int
    failed: int
    losses: tuple[Loss, ...]


def extract(
    image: Image | Source,
    target: str | os.PathLike[str] | None,
    *,
    paths: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    owners: bool | None = None,
    xattrs: bool = True,
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[ExtractProgress], object] | None = None,
    on_error: Callable[[OSError], object] | None = None,
) -> ExtractReport:
    """Extract an image, or a part of it, into a directory.

    Nothing is ever written outside ``target``, whatever the image holds. A file that can't be read does not
    stop the others and leaves nothing behind; a destination that is full or fails ends everything, and so do
    Ctrl-C and exceptions from the callbacks: then the tree is incomplete.

    Args:
        image: an open image, or whatever :func:`pyerofs.open` takes.
        target: the directory, which is made if need be and must be empty unless ``force`` is given. With None
            everything is read and decoded, and nothing is written.
        paths: paths in the image: only they, what is below them, and the directories that lead there.
            Symbolic links in them are not followed.
        include: patterns in gitignore syntax, rooted at the image: only what matches, and what is below a
            directory that does.
        exclude: such patterns of what is left out; later ones win.
        owners: give files the image's owners. By default only if this is root; anybody else is told by a
            :class:`Loss`. With False files are the caller's, and nothing is said.
        xattrs: set extended attributes.
        threads: threads that read and decode; by default one per CPU, up to 8.
        force: write into a directory that is not empty, and replace files and links there, but no directory.
        progress: called now and then, in the calling thread, with an :class:`ExtractProgress`.
        on_error: called, in the calling thread, with the error of each entry that could not be extracted.
            Without it the first such error is raised once everything else was extracted.

    Raises:
        ValueError: an argument makes no sense.
        CorruptImage: an entry is broken, and there is no ``on_error``; so too :class:`UnsupportedFeature` and
            :class:`LimitExceeded`.
        FileNotFoundError: one of ``paths`` is not there, and there is no ``on_error``.
        OSError: the target is not empty (``ENOTEMPTY``), full (``ENOSPC``) or can't be written to.
        KeyboardInterrupt: Ctrl-C.
    """
    where = None if target is None else os.fsdecode(target)
    return _run(
        image, where, None, paths, include, exclude, owners, xattrs, threads, force, progress, on_error
    )


def extract_tar(
    image: Image | Source,
    stream: BinaryWriter | int,
    *,
    paths: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    xattrs: bool = True,
    threads: int | None = None,
    progress: Callable[[ExtractProgress], object] | None = None,
    on_error: Callable[[OSError], object] | None = None,
) -> ExtractReport:
    """Write an image, or a part of it, as a pax archive.

    The same image and arguments give the same bytes. Times are exact to the nanosecond, extended attributes
    are ``SCHILY.xattr.*`` records, further names of a file are hard links, and holes of 64 KiB or more are
    left out in GNU tar's way (sparse 1.0), which libarchive and :mod:`tarfile` read too. Sockets, which
    archives don't know, are left out and told as a :class:`Loss`.

    Args:
        image: an open image, or whatever :func:`pyerofs.open` takes.
        stream: a binary stream, or a file descriptor (which is faster).
        paths: as for :func:`extract`.
        include: as for :func:`extract`.
        exclude: as for :func:`extract`.
        xattrs: store extended attributes.
        threads: threads that read and decode; by default one per CPU, up to 8.
        progress: as for :func:`extract`.
        on_error: as for :func:`extract`. A file that can't be read is left out; one of more than 4 MiB, whose
            header is out before its end was read, has zeros where it can't be read.

    Raises:
        ValueError: an argument makes no sense.
        CorruptImage: an entry is broken, and there is no ``on_error``; so too :class:`UnsupportedFeature` and
            :class:`LimitExceeded`.
        OSError: the stream can't be written to; what it raises itself is passed on.
        KeyboardInterrupt: Ctrl-C.
    """
    return _run(
        image, None, stream, paths, include, exclude, None, xattrs, threads, False, progress, on_error
    )


def _run(
    image: Image | Source,
    target: str | None,
    tar: BinaryWriter | int | None,
    paths: Iterable[str],
    include: Iterable[str],
    exclude: Iterable[str],
    owners: bool | None,
    xattrs: bool,
    threads: int | None,
    force: bool,
    progress: Callable[[ExtractProgress], object] | None,
    on_error: Callable[[OSError], object] | None,
) -> ExtractReport:
    for name, several in (("paths", paths), ("include", include), ("exclude", exclude)):
        if isinstance(several, (str, bytes)):
            raise TypeError(f"{name} is a sequence of strings, not a single one")
    wanted, taken, left_out = [os.fsencode(path) for path in paths], list(include), list(exclude)
    failures: list[OSError] = []

    def keep_first(error: OSError) -> None:
        if not failures:
            failures.append(error)

    with nullcontext(image) if isinstance(image, Image) else open_image(image) as opened:
        total = 0 if wanted or taken or left_out else opened.inodes

        def tell(entries: int, size: int) -> None:
            if progress is not None:
                progress(ExtractProgress(entries, total, size))

        made = _core.extract(
            opened.core,
            target,
            tar,
            paths=wanted,
            include=taken,
            exclude=left_out,
            owners=owners,
            xattrs=xattrs,
            threads=threads,
            force=force,
            progress=None if progress is None else tell,
            on_error=keep_first if on_error is None else on_error,
        )
    if failures:
        if made["failed"] > 1:
            failures[0].add_note(f"{made['failed'] - 1} more entries could not be extracted")
        raise failures[0]
    facts: dict[str, Any] = dict(made)
    facts["losses"] = tuple(
        Loss(what, reason, count, "/" + os.fsdecode(example))
        for what, reason, count, example in made["losses"]
    )
    return ExtractReport(**facts)
