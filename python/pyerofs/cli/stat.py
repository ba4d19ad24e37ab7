"""``pyerofs stat``: everything about entries."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import click

from ..errors import UnsupportedFeature
from . import report
from .options import complete_entry, image_options, json_option, name_image, opened
from .output import emit_json, entry_fields, file_type, name_fields, shown, time_text, write

if TYPE_CHECKING:
    from ..entry import Entry


@click.command()
@image_options
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_entry)
@json_option
def command(
    image: str,
    devices: tuple[str, ...],
    offset: int,
    limits: dict[str, int],
    paths: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show everything about each PATH in IMAGE: attributes, extended attributes, where the data lies.

    A leading / is optional and symbolic links are not followed. The fingerprint is what the image claims.
    """
    status = report.OK
    with opened(image, devices, offset, limits) as opened_image:
        for path in paths:
            try:
                facts = _facts(opened_image / path)
            except OSError as error:
                name_image(error, image)
                report.complain(error)
                status = max(status, report.exit_status(error))
                continue
            if as_json:
                emit_json(facts)
            else:
                _show(opened_image / path, facts)
    return status


def _facts(entry: Entry) -> dict[str, Any]:
    mode = entry.inode().mode
    xattrs = entry.extended_attributes(follow_symlinks=False)
    facts = entry_fields(entry)
    facts["layout"] = entry.layout
    facts["fingerprint"] = entry.fingerprint if stat.S_ISREG(mode) else None
    facts["xattrs"] = [
        {**name_fields(name), **name_fields(value.decode(errors="surrogateescape"), "value")}
        for name, value in xattrs.items()
    ]
    facts["extents"] = _extents(entry) if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else []
    return facts


def _extents(entry: Entry) -> list[dict[str, int | str | None]] | None:
    """Return where the data lies; None for a layout that is not known here."""
    try:
        found = entry.extents()
    except UnsupportedFeature:
        return None
    return [extent._asdict() for extent in found]


def _show(entry: Entry, facts: dict[str, Any]) -> None:
    inode = entry.inode()
    mode = inode.mode
    lines = [
        f"Path:        {shown(entry.path)}",
        f"Type:        {file_type(mode)}",
        f"Nid:         {inode.nid}",
        f"Size:        {inode.size}",
        f"Mode:        {stat.S_IMODE(mode):04o} ({stat.filemode(mode)})",
        f"Links:       {inode.nlink}",
        f"Owner:       {inode.uid}:{inode.gid}",
        f"Modified:    {time_text(inode.mtime, inode.mtime_nsec)}",
        f"Layout:      {facts['layout']}",
    ]
    if "target" in facts:
        lines.append(f"Target:      {shown(facts['target'])}")
    if "major" in facts:
        lines.append(f"Device:      {facts['major']}, {facts['minor']}")
    if facts["fingerprint"]:
        lines.append(f"Fingerprint: {facts['fingerprint']} (claimed)")
    for name, value in entry.extended_attributes(follow_symlinks=False).items():
        text = value.decode("ascii", "replace")
        readable = text if text.isascii() and text.isprintable() else f"0x{value.hex()}"
        lines.append(f"Xattr:       {shown(name)} = {readable}")
    for extent in facts["extents"] or ():
        place = "hole"
        if extent["blob_offset"] is not None:
            place = f"blob {extent['blob']} at {extent['blob_offset']}"
        lines.append(f"Extent:      {extent['offset']} + {extent['length']}: {place}")
    write("".join(f"{line}\n" for line in lines))
