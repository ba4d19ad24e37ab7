"""``pyerofs run``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from . import report
from .options import how_to_mount

if TYPE_CHECKING:
    from ..mounting.run import RunImage


class RunCommand(click.Command):
    """Keeps what follows ``--`` away from the parser: it is another program's command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta["pyerofs.command"] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


def _split(argument: str) -> tuple[str, str | None]:
    """Take IMAGE:DIR apart."""
    image, colon, directory = argument.partition(":")
    if ":" in directory or (colon and not (image and directory)):
        raise click.UsageError(
            f"{argument!r} is not IMAGE:DIR; use --image PATH --at DIR for names with a colon"
        )
    return image, directory or None


def _pairs(
    arguments: tuple[str, ...], images: tuple[str, ...], places: tuple[str, ...]
) -> list[tuple[str, str | None]]:
    if len(images) != len(places) and places:
        raise click.UsageError("give one --at for each --image, or none at all")
    named = list(zip(images, places, strict=True)) if places else [(image, None) for image in images]
    pairs = [*map(_split, arguments), *named]
    if not pairs:
        raise click.UsageError("no image given")
    return pairs


def _images(pairs: list[tuple[str, str | None]]) -> list[RunImage]:
    from ..mounting.blobs import ImageName
    from ..mounting.run import RunImage

    return [RunImage(ImageName.of(image), target) for image, target in pairs]


@click.command(cls=RunCommand, options_metavar="[OPTIONS]")
@click.argument("images", metavar="IMAGE[:DIR]... [-- COMMAND...]", nargs=-1)
@how_to_mount
@click.option("--root-user", is_flag=True, help="Be uid and gid 0 inside.")
@click.option("--image", "named", metavar="PATH", multiple=True, help="An image whose name has a colon.")
@click.option("--at", "places", metavar="DIR", multiple=True, help="Where to mount it.")
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[str, ...],
    domain: str | None,
    backend: str,
    owners: str | None,
    root_user: bool,
    named: tuple[str, ...],
    places: tuple[str, ...],
) -> int:
    """Run COMMAND, or a shell, with images mounted that only it sees.

    Nothing is left when it ends. An image without a DIR is mounted in a private directory, in which the
    command starts. The exit status is the command's own; 125 if it was not reached, 126 or 127 if it can't be
    run or found.
    """
    from ..mounting.run import CommandNotRunnable, run

    words = ctx.meta.get("pyerofs.command") or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        run(
            _images(_pairs(images, named, places)),
            words,
            domain=domain,
            backend=backend,
            owners=owners,
            root_user=root_user,
            tell=report.warn,
        )
    except CommandNotRunnable as error:
        report.complain(error)
        return error.status
