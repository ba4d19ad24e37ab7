"""``pyerofs stat``: everything about entries."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import click

from .options import PassedOver, complete_entry, image_options, json_option, opened
from .output import emit_json, entry_fields, file_type, human_size, name_fields, shown, time_text, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..entry import Entry
    from ..extent import Extent

#: Extents that are shown without --extents.
_FEW = 8


@click.command()
@image_options
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_entry)
@click.option("-e", "--extents", is_flag=True, help=f"Show every extent, not only if there are up to {_FEW}.")
@json_option
def command(
    image: str,
    devices: tuple[str, ...],
    offset: int,
    limits: dict[str, int],
    paths: tuple[str, ...],
    extents: bool,
    as_json: bool,
) -> int:
    """Show everything about each PATH in IMAGE: attributes, extended attributes, where the data lies.

    A leading / is optional and symbolic links are not followed. The fingerprint is what the image claims.
    JSON has every extent.
    """
    pass_over = PassedOver(image)
    with opened(image, devices, offset, limits) as opened_image:
        for path in paths:
            entry = opened_image / path
            try:
                facts = _facts(entry)
            except OSError as error:
                pass_over(error)
                continue
            found: list[Extent] | None = []
            if facts["type"] in ("file", "directory"):
                try:
                    found = entry.extents()
                except OSError as error:  # what the inode says is of use all the same
                    found = None
                    pass_over(error)
            if as_json:
                listed = None if found is None else [extent._asdict() for extent in found]
                emit_json({**facts, "extents": listed})
            else:
                lines = [*_lines(entry, facts), *_extent_lines(found, _FEW if not extents else None)]
                write("".join(f"{line}\n" for line in lines))
    return pass_over.status


def _facts(entry: Entry) -> dict[str, Any]:
    inode = entry.inode()
    xattrs = entry.extended_attributes(follow_symlinks=False)
    facts = entry_fields(entry)
    facts["layout"] = inode.layout
    facts["fingerprint"] = entry.fingerprint if stat.S_ISREG(inode.mode) else None
    facts["xattrs"] = [
        {**name_fields(name), **name_fields(value.decode(errors="surrogateescape"), "value")}
        for name, value in xattrs.items()
    ]
    return facts


def _lines(entry: Entry, facts: dict[str, Any]) -> Iterator[str]:
    inode = entry.inode()
    mode = inode.mode
    yield f"Path:        {shown(entry.path)}"
    yield f"Type:        {file_type(mode)}"
    yield f"Nid:         {inode.nid}"
    yield f"Size:        {inode.size}"
    yield f"Mode:        {stat.S_IMODE(mode):04o} ({stat.filemode(mode)})"
    yield f"Links:       {inode.nlink}"
    yield f"Owner:       {inode.uid}:{inode.gid}"
    yield f"Modified:    {time_text(inode.mtime, inode.mtime_nsec)}"
    yield f"Layout:      {facts['layout']}"
    if inode.layout.startswith("compressed"):
        share = f" ({100 * facts['stored'] / inode.size:.1f} %)" if inode.size else ""
        yield f"Stored:      {facts['stored']}{share}"
    if "target" in facts:
        yield f"Target:      {shown(facts['target'])}"
    if "major" in facts:
        yield f"Device:      {facts['major']}, {facts['minor']}"
    if facts["fingerprint"]:
        yield f"Fingerprint: {facts['fingerprint']} (claimed)"
    for name, value in entry.extended_attributes(follow_symlinks=False).items():
        text = value.decode("ascii", "replace")
        readable = text if text.isascii() and text.isprintable() else f"0x{value.hex()}"
        yield f"Xattr:       {shown(name)} = {readable}"


def _extent_lines(extents: list[Extent] | None, most: int | None) -> Iterator[str]:
    """Yield a summary where there are several extents, and each of them if they are few enough."""
    if not extents:
        return
    if len(extents) > 1:
        kinds: dict[str, int] = {}
        for extent in extents:
            kind = extent.algorithm or ("rotated" if extent.kind == "encoded" else extent.kind)
            kinds[kind] = kinds.get(kind, 0) + 1
        largest = max(extent.stored for extent in extents)
        each = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        yield f"Extents:     {len(extents)}: {each}; the largest takes {human_size(largest)}"
    if most is not None and len(extents) > most:
        return
    for extent in extents:
        yield f"Extent:      {extent.offset} + {extent.length}: {_place(extent)}"


def _place(extent: Extent) -> str:
    """Return where an extent lies and how it is stored there, in words."""
    if extent.kind == "hole":
        return "hole"
    place = f"blob {extent.blob} at {extent.blob_offset}"
    if extent.kind == "inside":
        place = f"in the data of nid {extent.nid} at {extent.blob_offset}"
    if extent.kind == "raw" or (extent.kind == "inside" and extent.algorithm is None):
        return place
    return f"{place}, {extent.stored} bytes of {extent.algorithm or 'rotated data'}"
