"""``pyerofs cat``: the content of files."""

from __future__ import annotations

import click

from .options import PassedOver, complete_entry, image_options, opened
from .output import write_bytes

#: Bytes that are read and written at a time.
_PIECE = 1 << 20


@click.command()
@image_options
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_entry)
def command(
    image: str, devices: tuple[str, ...], offset: int, limits: dict[str, int], paths: tuple[str, ...]
) -> int:
    """Write the content of each PATH in IMAGE to standard output.

    A leading / is optional and symbolic links are followed, inside the image only.
    """
    pass_over = PassedOver(image)
    with opened(image, devices, offset, limits) as opened_image:
        for path in paths:
            try:
                file = (opened_image / path).open("rb", 0)
            except OSError as error:
                pass_over(error)
                continue
            while True:
                try:
                    piece = file.read(_PIECE)
                except OSError as error:  # what comes before it was written
                    pass_over(error)
                    break
                if not piece:
                    break
                write_bytes(piece)
    return pass_over.status
