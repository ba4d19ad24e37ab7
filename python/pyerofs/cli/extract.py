"""``pyerofs extract``: the files of an image, as a directory or an archive, or only to see that they read."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ask
from . import report
from .options import PassedOver, complete_entry, image_options, json_option
from .output import STDOUT, emit_json, flush, human_size, name_fields, quoted
from .signals import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..extractor import ExtractReport
    from ..image import Image

_LEFT_INCOMPLETE = "interrupted; what is there is incomplete"
_LEFT_NOTHING = "interrupted; nothing of it is left"


@click.command()
@image_options
@click.argument("target", required=False, type=click.Path())
@click.option(
    "--path",
    "paths",
    multiple=True,
    metavar="PATH",
    shell_complete=complete_entry,
    help="Only this path in IMAGE and what is below it; may be repeated.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Only what matches, and what is below it, in gitignore syntax from the root on.",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out, in the same syntax.")
@click.option(
    "--owners/--no-owners",
    default=None,
    help="Give files the image's owners, or keep them.  [default: the image's, for root]",
)
@click.option("--no-xattrs", is_flag=True, help="Set no extended attributes.")
@click.option(
    "-f", "--force", is_flag=True, help="Write into a directory that is not empty, and replace files."
)
@click.option("--strict", is_flag=True, help="Fail if anything about a file could not be kept.")
@click.option(
    "--tar", "archive", metavar="FILE", type=click.Path(), help='Write a pax archive; "-" streams it.'
)
@click.option("-t", "--test", is_flag=True, help="Decode everything, write nothing.")
@click.option(
    "-j",
    "--threads",
    "--jobs",
    "threads",
    type=click.IntRange(1, 1024),
    help="Threads that read and decode.  [default: one per CPU, up to 8]",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    image: str,
    devices: tuple[str, ...],
    offset: int,
    limits: dict[str, int],
    target: str | None,
    archive: str | None,
    test: bool,
    strict: bool,
    quiet: bool,
    as_json: bool,
    force: bool,
    **options: Any,
) -> int:
    """Extract IMAGE into the directory TARGET.

    TARGET is made if need be and must be empty unless --force is given; without it the directory is named as
    IMAGE without its last extension. Nothing is written outside it, whatever IMAGE holds.

    A file that can't be read does not stop the others: it is reported, and the exit status says so. What an
    ordinary user may not set (owners, devices, some attributes) is reported once for each kind, and is no
    failure unless --strict is given.
    """
    target = _destination(image, target, archive, test)
    progress = None
    if not quiet and sys.stderr.isatty():
        from .progress import ExtractBar

        progress = ExtractBar()

    pass_over = _PassedOver(image, None if test else target)
    options["xattrs"] = not options.pop("no_xattrs")
    options |= {"progress": progress, "on_error": pass_over}
    try:
        from ..image import open as open_image

        with ended_by_signals(), open_image(image, devices, offset, limits=limits) as source:
            if archive is not None:
                made = _archive(source, archive, force, options)
            else:
                from ..extractor import extract

                made = extract(source, None if test else target, force=force, **options)
    except KeyboardInterrupt as error:
        said = f"{target}: {_LEFT_INCOMPLETE}" if target is not None else ""
        if archive is not None:
            said = _LEFT_INCOMPLETE if archive == "-" else f"{archive}: {_LEFT_NOTHING}"
        error.args = (said,)
        raise
    finally:
        if progress is not None:
            progress.close()
    _tell(image, target, archive, made, quiet=quiet, as_json=as_json)
    return max(pass_over.status, report.ERROR if strict and made.losses else report.OK)


class _PassedOver(PassedOver):
    """As such; an error about the destination names that already."""

    def __init__(self, image: str, target: str | None) -> None:
        super().__init__(image)
        self._target = target

    def name(self, error: OSError) -> None:
        if not _is_below(error.filename, self._target):
            super().name(error)


def _is_below(name: object, target: str | None) -> bool:
    """Whether an error is about the destination, not about the image."""
    return target is not None and isinstance(name, str) and f"{name}/".startswith(f"{target.rstrip('/')}/")


def _destination(image: str, target: str | None, archive: str | None, test: bool) -> str | None:
    """Return the directory to extract into, if any, after a look at what was asked for together."""
    if (target is not None) + (archive is not None) + test > 1:
        raise click.UsageError("TARGET, --tar and --test exclude one another")
    if archive == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is not written to a terminal")
    if target is not None or archive is not None or test:
        return target
    name = Path(image)
    if not name.suffix:
        raise click.UsageError("give TARGET: IMAGE has no extension to name a directory without it")
    return name.stem


def _archive(source: Image, archive: str, force: bool, options: dict[str, Any]) -> ExtractReport:
    from ..extractor import extract_tar

    if options.pop("owners") is False:
        raise click.UsageError("an archive has the image's owners; --no-owners is for TARGET")
    if archive == "-":
        flush()
        return ask(STDOUT, extract_tar, source, sys.stdout.fileno(), **options)
    with _new_file(archive, force) as descriptor:
        return ask(archive, extract_tar, source, descriptor, **options)


@contextmanager
def _new_file(name: str, force: bool) -> Iterator[int]:
    """Open a file that gets its name when it is whole; a pipe or a device is written to as it is."""
    path = Path(name)
    if path.is_fifo() or path.is_char_device() or (force and path.is_block_device()):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    if not force and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "exists already; --force replaces it", name)
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    is_ours = True  # from now on: an interrupt may come as soon as the file is there
    try:
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except OSError as error:
            is_ours = False
            error.filename = name
            raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        if force:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # a rename would replace what has appeared meanwhile
    finally:
        if is_ours:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _tell(
    image: str, target: str | None, archive: str | None, made: ExtractReport, *, quiet: bool, as_json: bool
) -> None:
    out = sys.stderr if archive == "-" else None
    if as_json:
        emit_json({**name_fields(image, "image"), **_fields(target, archive, made)}, out)
        return
    for loss in made.losses:
        example = quoted(loss.example)
        report.warn(f"{loss.what}: not kept of {loss.count} entries such as {example}: {loss.reason}")
    if not quiet:
        entries = f"{made.files} files, {made.directories} directories, {made.symlinks} symbolic links"
        more = [f"{made.special} special files"] * bool(made.special)
        more += [f"{made.hard_links} more links"] * bool(made.hard_links)
        name = quoted(target or archive or image)
        words = "read" if target is None and archive is None else "extracted"
        (out or sys.stdout).write(
            f"{name}: {', '.join([entries, *more])}, {human_size(made.bytes)} {words}\n"
        )


def _fields(target: str | None, archive: str | None, made: ExtractReport) -> dict[str, Any]:
    from dataclasses import asdict

    where = name_fields(target, "target") if target is not None else {}
    if archive is not None:
        where = name_fields(archive, "archive")
    losses = [
        {
            "what": loss.what,
            "reason": loss.reason,
            "count": loss.count,
            **name_fields(loss.example, "example"),
        }
        for loss in made.losses
    ]
    return {**where, **asdict(made), "losses": losses}
