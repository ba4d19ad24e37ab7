"""``pyerofs ls``: the entries of an image."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import click

from ..usage import stored as stored_bytes
from .options import PassedOver, complete_entry, image_options, json_option, null_option, opened
from .output import emit_json, entry_fields, short_time, shown, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._core import Inode
    from ..entry import Entry


@click.command()
@image_options
@click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=complete_entry)
@click.option("-l", "long", is_flag=True, help="Show mode, links, owner, group, size and time too.")
@click.option("-s", "--stored", is_flag=True, help="Show the bytes that data takes in the image too.")
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
    stored: bool,
    recursive: bool,
    directory: bool,
    null: bool,
    as_json: bool,
) -> int:
    """List the root of IMAGE, or each PATH in it.

    A leading / is optional and symbolic links are not followed. On a terminal control characters in names are
    shown as escapes; with -0 names are written as they are, each with a NUL byte behind it. A compressed file
    takes its clusters, in whole blocks.
    """
    pass_over = PassedOver(image)
    with opened(image, devices, offset, limits) as opened_image:
        for path in paths or ("/",):
            top = opened_image / path
            try:
                for entries, as_paths in _listings(top, recursive, directory, pass_over):
                    _show(entries, as_paths=as_paths, long=long, stored=stored, null=null, as_json=as_json)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                pass_over(error)
    return pass_over.status


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


def _show(
    entries: Iterable[Entry], *, as_paths: bool, long: bool, stored: bool, null: bool, as_json: bool
) -> None:
    if as_json:
        for entry in entries:
            emit_json(entry_fields(entry))
    elif long or stored:
        _show_columns(entries, as_paths, long, stored, "\0" if null else "\n")
    else:
        end = "\0" if null else "\n"
        plain = [entry.path if as_paths else entry.name for entry in entries]
        write("".join((name if null else shown(name)) + end for name in plain))


def _show_columns(entries: Iterable[Entry], as_paths: bool, long: bool, stored: bool, end: str) -> None:
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        inode = entry.inode()
        name = entry.path if as_paths else entry.name
        if long and stat.S_ISLNK(inode.mode):
            name = f"{name} -> {entry.readlink()}"
        columns = (str(stored_bytes(inode)),) if stored else ()
        rows.append((*columns, *(_facts(inode) if long else ()), name if end == "\0" else shown(name)))
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
        write(f"{' '.join(cells)} {row[-1]}{end}")


def _facts(inode: Inode) -> tuple[str, ...]:
    """Return the columns of a long listing."""
    size = str(inode.size)
    if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        size = _device(inode.rdev)
    owner = (str(inode.uid), str(inode.gid))
    return (stat.filemode(inode.mode), str(inode.nlink), *owner, size, short_time(inode.mtime))


def _device(rdev: int) -> str:
    return f"{os.major(rdev)}, {os.minor(rdev)}"
