"""``pyerofs ls``: the entries of an image."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import click

from . import report
from .options import complete_entry, image_options, json_option, name_image, null_option, opened
from .output import emit_json, entry_fields, short_time, shown, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..entry import Entry


@click.command()
@image_options
@click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=complete_entry)
@click.option("-l", "long", is_flag=True, help="Show mode, links, owner, group, size and time too.")
@click.option("-R", "--recursive", is_flag=True, help="List everything below, as paths.")
@click.option("-d", "--directory", is_flag=True, help="List directories themselves, not what is in them.")
@null_option
@json_option
def command(
    image: str,
    devices: tuple[str, ...],
    offset: int,
    limits: dict[str, int],
    paths: tuple[str, ...],
    long: bool,
    recursive: bool,
    directory: bool,
    null: bool,
    as_json: bool,
) -> int:
    """List the root of IMAGE, or each PATH in it.

    A leading / is optional and symbolic links are not followed. On a terminal control characters in names are
    shown as escapes; with -0 names are written as they are, each with a NUL byte behind it.
    """
    status = report.OK

    def pass_over(error: OSError) -> None:
        nonlocal status
        name_image(error, image)
        report.complain(error)
        status = max(status, report.exit_status(error))

    with opened(image, devices, offset, limits) as opened_image:
        for path in paths or ("/",):
            top = opened_image / path
            try:
                for entries, as_paths in _listings(top, recursive, directory, pass_over):
                    _show(entries, as_paths=as_paths, long=long, null=null, as_json=as_json)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                pass_over(error)
    return status


def _listings(
    top: Entry, recursive: bool, directory: bool, pass_over: Any
) -> Iterator[tuple[list[Entry], bool]]:
    """Yield what is to be shown together, and whether by path or by name."""
    if directory or not stat.S_ISDIR(top.inode().mode):
        yield [top], True
    elif not recursive:
        yield list(top.iterdir()), False
    else:
        for here, directories, others in top.walk(on_error=pass_over):
            yield [here / name for name in sorted([*directories, *others])], True


def _show(entries: Iterable[Entry], *, as_paths: bool, long: bool, null: bool, as_json: bool) -> None:
    if as_json:
        for entry in entries:
            emit_json(entry_fields(entry))
    elif long:
        _show_long(entries, as_paths, "\0" if null else "\n")
    else:
        end = "\0" if null else "\n"
        plain = [entry.path if as_paths else entry.name for entry in entries]
        write("".join((name if null else shown(name)) + end for name in plain))


def _show_long(entries: Iterable[Entry], as_paths: bool, end: str) -> None:
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        inode = entry.inode()
        name = entry.path if as_paths else entry.name
        if stat.S_ISLNK(inode.mode):
            name = f"{name} -> {entry.readlink()}"
        size = str(inode.size)
        if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            size = _device(inode.rdev)
        rows.append(
            (
                stat.filemode(inode.mode),
                str(inode.nlink),
                str(inode.uid),
                str(inode.gid),
                size,
                short_time(inode.mtime),
                name if end == "\0" else shown(name),
            )
        )
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:6], widths, strict=True)]
        write(f"{' '.join(cells)} {row[6]}{end}")


def _device(rdev: int) -> str:
    return f"{os.major(rdev)}, {os.minor(rdev)}"
