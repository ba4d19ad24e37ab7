"""``pyerofs info``: the facts and features of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import image_options, json_option, opened
from .output import emit_json, human_size, kernel, name_fields, quoted, time_text, write

if TYPE_CHECKING:
    from ..image import Image


@click.command()
@image_options
@json_option
def command(image: str, devices: tuple[str, ...], offset: int, limits: dict[str, int], as_json: bool) -> None:
    """Show what the superblock of IMAGE says.

    Each feature is shown with the first Linux that reads it. An older one refuses the image for an
    incompatible feature, and does without a compatible one.
    """
    with opened(image, devices, offset, limits) as opened_image:
        if as_json:
            emit_json(_fields(opened_image))
        else:
            write("".join(f"{line}\n" for line in _lines(opened_image)))


def _lines(image: Image) -> list[str]:
    size = f"{image.blocks} blocks of {image.block_size} B, {human_size(image.blocks * image.block_size)}"
    lines = [
        f"Image:         {quoted(image.name)}",
        f"Label:         {quoted(image.label) or '-'}",
        f"UUID:          {image.uuid}",
        f"Built:         {time_text(image.build_time)}",
        f"Size:          {size}",
        f"Inodes:        {image.inodes}",
        f"Root:          nid {image.root_nid}",
        f"Checksum:      {'none' if image.checksum is None else f'{image.checksum:#010x} (verified)'}",
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
