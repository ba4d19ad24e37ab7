"""``pyerofs diff``: what differs between two trees."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..differ import diff
from . import report
from .options import ANY_PATH, json_option, limit_option, null_option, size
from .output import emit_json, file_type, human_size, name_fields, quoted, time_text, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..differ import Change, Diff, Facts, Tree

SAME = 0
DIFFERENT = 1
TROUBLE = 2

#: Letter and colour of each kind of change; a changed type is a kind of its own to the reader.
_LETTERS = {"added": "A", "removed": "D", "changed": "M", "moved": "R", "type": "T"}
_COLOURS = {"A": 32, "D": 31, "M": 33, "R": 36, "T": 35}

_IGNORABLE = ("mode", "owner", "mtime", "xattrs", "links", "target", "device", "content")


def _words(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> list[str]:
    words = [word.strip() for value in values for word in value.split(",")]
    for word in words:
        if word not in _IGNORABLE:
            raise click.BadParameter(f"{word!r} is none of {', '.join(_IGNORABLE)}")
    return words


def _side_options(side: str) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        name = side.upper()
        function = click.option(
            f"--device-{side}",
            f"devices_{side}",
            multiple=True,
            metavar="FILE",
            type=ANY_PATH,
            help=f"A further blob of the image {name}, in the order of its device table; may be repeated.",
        )(function)
        return click.option(
            f"--offset-{side}", type=size, metavar="BYTES", help=f"Where the image begins in {name}."
        )(function)

    return add


@click.command()
@click.argument("a", type=ANY_PATH)
@click.argument("b", type=ANY_PATH)
@click.option("-p", "--path", metavar="PATH", help="Compare what lies at PATH in both.")
@click.option("--path-b", metavar="PATH", help="Where that lies in B, if elsewhere than in A.")
@click.option(
    "-I",
    "--ignore",
    multiple=True,
    metavar="WORD,...",
    callback=_words,
    help=f"Leave out what does not matter: {', '.join(_IGNORABLE)}.",
)
@click.option("--content-only", is_flag=True, help="Ignore mode, owner, mtime, xattrs and links.")
@click.option("--whole-seconds", is_flag=True, help="Leave the nanoseconds of times out.")
@click.option(
    "--xattrs",
    type=click.Choice(["auto", "all", "usual"]),
    default="auto",
    show_default=True,
    help="Extended attributes that count; usual: what a build takes from a directory.",
)
@click.option(
    "--trust-fingerprints", is_flag=True, help="Believe the digests in images instead of reading the files."
)
@click.option("--no-moves", is_flag=True, help="Report what moved as removed and added, and all at once.")
@click.option("-q", "--brief", is_flag=True, help="Write nothing; the exit status tells.")
@click.option("--stat", "only_counts", is_flag=True, help="Write numbers only.")
@null_option
@json_option
@click.option(
    "--color",
    "--colour",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colours; by default on a terminal, unless NO_COLOR is set.",
)
@click.option(
    "-j", "--threads", type=click.IntRange(1, 256), metavar="N", help="Threads; default one per CPU."
)
@_side_options("b")
@_side_options("a")
@limit_option
def command(
    a: str,
    b: str,
    path: str | None,
    path_b: str | None,
    brief: bool,
    only_counts: bool,
    null: bool,
    as_json: bool,
    color: str,
    no_moves: bool,
    limits: dict[str, int],
    **options: Any,
) -> int:
    """Show what differs between the trees A and B, each an image or a directory.

    \b
    A  path              only B has it
    D  path              only A has it
    M  path (what)       both have it: content, mode, owner, mtime, xattrs, ...
    T  path (what)       it has another type
    R  old -> new (what) a file whose content was elsewhere in A

    Contents are equal if their bytes are. With -0 the letter, each path and what differs end with a NUL byte
    and names are not quoted.

    Exit status: 0 no difference; 1 some; 2 trouble.
    """
    sides = {
        "a": _tree(a, options.pop("offset_a"), options.pop("devices_a"), limits),
        "b": _tree(b, options.pop("offset_b"), options.pop("devices_b"), limits),
    }
    names = {"a": a, "b": b}
    status = SAME

    def pass_over(error: OSError) -> None:
        nonlocal status
        tree = names[getattr(error, "tree", "a")]
        error.filename, error.filename2 = tree, error.filename
        report.complain(error)
        status = TROUBLE

    totals = _Totals()
    show = _display(null=null, as_json=as_json, color=color)
    differences = diff(
        sides["a"],
        sides["b"],
        path=path,
        path_b=path_b,
        on_error=pass_over,
        move_limit=0 if no_moves or brief else 200_000,
        **options,
    )
    with differences:
        for change in differences:
            status = max(status, DIFFERENT)
            if brief:
                break
            totals.add(change)
            if not only_counts:
                show(change)
        if differences.gave_up_moves:
            report.warn("too many differences to find out which files have moved")
        if only_counts and not brief:
            totals.show(differences, as_json=as_json)
    return status


def _tree(name: str, offset: int | None, devices: tuple[str, ...], limits: dict[str, int]) -> Tree:
    """Open what an argument names."""
    if Path(name).is_dir():
        if offset is not None or devices:
            raise click.UsageError(f"{name} is a directory, which has no offset and no devices")
        return name
    from ..image import open as open_image

    return open_image(name, devices, offset or 0, limits=limits)


def _display(*, null: bool, as_json: bool, color: str) -> Callable[[Change], None]:
    if as_json:
        return lambda change: emit_json(_json(change))
    if null:
        return _show_null
    terminal = sys.stdout.isatty()
    coloured = color == "always" or (color == "auto" and terminal and not os.environ.get("NO_COLOR"))
    return lambda change: _show(change, quote=terminal, coloured=coloured)


def _letter(change: Change) -> str:
    return _LETTERS["type" if "type" in change.fields else change.kind]


def _show_null(change: Change) -> None:
    paths = [change.old_path, change.path] if change.old_path is not None else [change.path]
    write("\0".join([_letter(change), *paths, ",".join(change.fields), ""]))


def _show(change: Change, *, quote: bool, coloured: bool) -> None:
    letter = _letter(change)
    facts = change.new or change.old
    slash = "/" if facts is not None and stat.S_ISDIR(facts.mode) and change.path != "." else ""
    text = f"{change.path}{slash}"
    if change.old_path is not None:
        text = f"{change.old_path} -> {text}"
    details = "; ".join(_detail(change, field) for field in change.fields)
    if details:
        text += f" ({details})"
    if quote:
        text = quoted(text)
    mark = f"\x1b[{_COLOURS[letter]}m{letter}\x1b[0m" if coloured else letter
    write(f"{mark}  {text}\n")


def _detail(change: Change, field: str) -> str:
    """Return what differs about an entry that both trees have, in words."""
    old, new = change.old, change.new
    assert old is not None, "the entry is in both trees"
    assert new is not None, "the entry is in both trees"
    match field:
        case "type":
            return f"{file_type(old.mode)} -> {file_type(new.mode)}"
        case "content" if old.size == new.size:
            return f"content, {new.size} bytes"
        case "content":
            return f"content, {old.size} -> {new.size} bytes"
        case "mode":
            return f"mode {stat.S_IMODE(old.mode):04o} -> {stat.S_IMODE(new.mode):04o}"
        case "owner":
            return f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}"
        case "mtime":
            return f"mtime {time_text(old.mtime, old.mtime_nsec)} -> {time_text(new.mtime, new.mtime_nsec)}"
        case "target" if change.targets:
            return f"target {change.targets[0]} -> {change.targets[1]}"
        case "device":
            return f"device {_number(old.device)} -> {_number(new.device)}"
        case "xattrs":
            signs = {"added": "+", "removed": "-", "changed": "~"}
            return "xattrs " + " ".join(signs[way] + name for name, way in change.xattrs)
        case _:
            return field


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _json(change: Change) -> dict[str, Any]:
    fields: dict[str, Any] = {"change": change.kind, **name_fields(change.path, "path")}
    if change.old_path is not None:
        fields |= name_fields(change.old_path, "old_path")
    fields["fields"] = list(change.fields)
    fields["old"] = _facts(change.old)
    fields["new"] = _facts(change.new)
    if change.targets is not None:
        fields["old"] |= name_fields(change.targets[0], "target")
        fields["new"] |= name_fields(change.targets[1], "target")
    if change.xattrs:
        fields["xattrs"] = [{**name_fields(name), "change": way} for name, way in change.xattrs]
    return fields


def _facts(facts: Facts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    fields: dict[str, Any] = {
        "type": file_type(facts.mode),
        "mode": stat.S_IMODE(facts.mode),
        "uid": facts.uid,
        "gid": facts.gid,
        "size": facts.size,
        "mtime": facts.mtime,
        "mtime_nsec": facts.mtime_nsec,
        "nlink": facts.nlink,
    }
    if stat.S_ISCHR(facts.mode) or stat.S_ISBLK(facts.mode):
        fields |= {"major": os.major(facts.device), "minor": os.minor(facts.device)}
    return fields


class _Totals:
    """Counts what differs, for ``--stat``."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("added", "removed", "changed", "moved"), 0)
        self.content = 0
        self.bytes_added = 0
        self.bytes_removed = 0

    def add(self, change: Change) -> None:
        """Count one change."""
        self.counts[change.kind] += 1
        self.content += "content" in change.fields or "type" in change.fields
        if change.kind != "moved" and (not change.fields or {"content", "type"} & set(change.fields)):
            self.bytes_added += _bytes(change.new)
            self.bytes_removed += _bytes(change.old)

    def show(self, differences: Diff, *, as_json: bool) -> None:
        """Write the numbers."""
        entries_a, entries_b, common = differences.entries
        same = common - self.counts["changed"]
        if as_json:
            emit_json(
                {
                    **self.counts,
                    "changed_content": self.content,
                    "same": same,
                    "entries_a": entries_a,
                    "entries_b": entries_b,
                    "bytes_added": self.bytes_added,
                    "bytes_removed": self.bytes_removed,
                }
            )
            return
        counts = self.counts
        write(
            f"{counts['added']} added, {counts['removed']} removed, {counts['moved']} moved, "
            f"{counts['changed']} changed ({self.content} in content), {same} the same; "
            f"{human_size(self.bytes_removed)} -> {human_size(self.bytes_added)} in what differs\n"
        )


def _bytes(facts: Facts | None) -> int:
    return facts.size if facts is not None and stat.S_ISREG(facts.mode) else 0
