"""``pyerofs info``: the facts and features of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import PassedOver, image_options, json_option, opened
from .output import emit_json, human_size, kernel, name_fields, quoted, time_text, write

if TYPE_CHECKING:
    from ..image import Image
    from ..usage import Usage


@click.command()
@image_options
@click.option("-u", "--usage", is_flag=True, help="Count what is in the image too; this reads every inode.")
@json_option
def command(
    image: str,
    devices: tuple[str, ...],
    offset: int,
    limits: dict[str, int],
    usage: bool,
    as_json: bool,
) -> int:
    """Show what the superblock of IMAGE says, and with --usage what is in it.

    Each feature is shown with the first Linux that reads it. An older one refuses the image for an
    incompatible feature, and does without a compatible one. What files take is reckoned in whole clusters for
    compressed ones; a hole counts as data.
    """
    pass_over = PassedOver(image)
    with opened(image, devices, offset, limits) as opened_image:
        counted = opened_image.usage(pass_over) if usage else None
        if as_json:
            emit_json(_fields(opened_image) | ({"usage": counted._asdict()} if counted else {}))
        else:
            lines = _lines(opened_image) + (_usage_lines(counted) if counted else [])
            write("".join(f"{line}\n" for line in lines))
    return pass_over.status


def _lines(image: Image) -> list[str]:
    size = f"{image.blocks} blocks of {image.block_size} B, {human_size(image.blocks * image.block_size)}"
    algorithms = [
        algorithm.name + (f" (window {human_size(algorithm.window)})" if algorithm.window else "")
        for algorithm in image.algorithms
    ]
    lines = [
        f"Image:         {quoted(image.name)}",
        f"Label:         {quoted(image.label) or '-'}",
        f"UUID:          {image.uuid}",
        f"Built:         {time_text(image.build_time)}",
        f"Size:          {size}",
        f"Inodes:        {image.inodes}",
        f"Root:          nid {image.root_nid}",
        f"Checksum:      {'none' if image.checksum is None else f'{image.checksum:#010x} (verified)'}",
        f"Compression:   {', '.join(algorithms) or 'none'}",
        *([] if image.packed_nid is None else [f"Fragments in:  nid {image.packed_nid}"]),
        *([] if image.metabox_nid is None else [f"Metadata in:   nid {image.metabox_nid}"]),
        *([] if image.build_record is None else [f"Built with:    {_record(image.build_record)}"]),
        f"Mounts on:     Linux {kernel(image.oldest_kernel)} and newer",
    ]
    for kind, title in (("incompat", "Needed features:"), ("compat", "Other features:")):
        features = [feature for feature in image.features if feature.kind == kind]
        lines.append(title if features else f"{title} none")
        for feature in features:
            since = "an unknown version" if feature.first_kernel is None else kernel(feature.first_kernel)
            lines.append(f"  {feature.name:<22} read since Linux {since}")
    for number, device in enumerate(image.devices, 1):
        tag = quoted(device.tag) or "-"
        lines.append(f"Device {number}:      {device.blocks} blocks, tag {tag}")
    return lines


def _record(text: str) -> str:
    """Put the lines of a record into one; the first only says what it is."""
    return quoted(", ".join(text.splitlines()[1:]))


def _usage_lines(usage: Usage) -> list[str]:
    counts = [
        (usage.directories, "directory", "directories"),
        (usage.symlinks, "symbolic link", "symbolic links"),
        (usage.others, "special file", "special files"),
        (usage.hard_links, "further hard link", "further hard links"),
    ]
    more = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    share = f", {100 * usage.stored / usage.size:.1f} %" if usage.size else ""
    return [
        f"Files:         {usage.files}, {usage.compressed} of them compressed",
        f"Others:        {', '.join(more)}",
        f"Data:          {human_size(usage.size)}, stored in {human_size(usage.stored)}{share}",
    ]


def _fields(image: Image) -> dict[str, Any]:
    return {
        **name_fields(image.name, "image"),
        **name_fields(image.label, "label"),
        "uuid": str(image.uuid),
        "build_time": image.build_time,
        "block_size": image.block_size,
        "blocks": image.blocks,
        "inodes": image.inodes,
        "root_nid": image.root_nid,
        "checksum": image.checksum,
        "compressed": image.compressed,
        "algorithms": [
            {**algorithm._asdict(), "first_kernel": kernel(algorithm.first_kernel)}
            for algorithm in image.algorithms
        ],
        "packed_nid": image.packed_nid,
        "metabox_nid": image.metabox_nid,
        "build_record": image.build_record,
        "oldest_kernel": kernel(image.oldest_kernel),
        "features": [
            {
                "name": feature.name,
                "kind": feature.kind,
                "bit": feature.bit,
                "first_kernel": feature.first_kernel and kernel(feature.first_kernel),
            }
            for feature in image.features
        ],
        "devices": [
            {
                **name_fields(device.tag, "tag"),
                "blocks": device.blocks,
                "unified_address": device.unified_address,
            }
            for device in image.devices
        ],
    }
