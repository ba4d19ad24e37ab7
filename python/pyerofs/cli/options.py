"""Options and arguments that several commands have, and the opening of the image that they name."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import report
from .output import STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from click.shell_completion import CompletionItem

    from ..image import Image

_Function = TypeVar("_Function", bound="Callable[..., Any]")

#: Whether it can be read is found out by opening it, which says why not and has that error's exit status.
ANY_PATH = click.Path(readable=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one object a line.")
null_option = click.option(
    "-0", "--null", is_flag=True, help="End each name with a NUL byte, never quote it."
)


def size(text: str) -> int:
    """Read a number of bytes, with k, M or G for powers of 1024."""
    shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
    try:
        number = int(text[:-1] if shift else text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a size such as 4096 or 4k") from None
    if number < 0:
        raise click.BadParameter(f"{text!r} is negative")
    if number << shift >= 1 << 64:
        raise click.BadParameter(f"{text} is more than 64 bits hold")
    return number << shift


def _limits(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    """Read NAME=VALUE pairs; a value is a number or a size."""
    if not given:
        return {}
    from .._core import limits

    known = limits()
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE")
        if name not in known:
            raise click.BadParameter(f"there is no limit {name!r}; there are {', '.join(known)}")
        found[name] = size(value)
    return found


#: For every command that reads an image; gives a mapping for ``limits=`` of :func:`pyerofs.open`.
limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_limits,
    help="Set a limit on the work that the image may cause, e.g. depth=4096; may be repeated.",
)


def image_options(function: _Function) -> _Function:
    """Add the argument IMAGE, the options that say where the rest of the image is, and ``--limit``."""
    function = limit_option(function)
    function = click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="FILE",
        type=ANY_PATH,
        help="A further blob of the image, in the order of its device table; may be repeated.",
    )(function)
    function = click.option(
        "--offset", type=size, default="0", metavar="BYTES", help="Where the image begins in IMAGE."
    )(function)
    return click.argument("image", type=ANY_PATH)(function)


def how_to_mount(function: _Function) -> _Function:
    """Add the options that say how an image is mounted, in which domain, and whose its files are."""
    function = click.option(
        "--owners",
        type=click.Choice(["map", "squash"]),
        help="Show the image's owners, or make all files yours; the default is map for root, else squash.",
    )(function)
    function = click.option(
        "--backend",
        type=click.Choice(["auto", "kernel", "overlay", "fuse"]),
        default="auto",
        show_default=True,
        help="How to mount.",
    )(function)
    return click.option(
        "-d", "--domain", metavar="NAME", help="Share the page cache with mounts in this domain."
    )(function)


@contextmanager
def opened(path: str, devices: tuple[str, ...], offset: int, limits: Mapping[str, int]) -> Iterator[Image]:
    """Open the image that the arguments name; an error inside names both the image and the entry."""
    from ..image import open as open_image

    with open_image(path, devices, offset, limits=limits) as image:
        try:
            yield image
        except OSError as error:
            name_image(error, path)
            raise


def name_image(error: OSError, path: str) -> None:
    """Put the image's path before the entry's in an error that names an entry only."""
    named = error.filename is not None and error.filename2 is None
    if named and error.filename not in (path, STDOUT):
        error.filename, error.filename2 = path, error.filename


class PassedOver:
    """What a command could not read and goes on without: each is told, the worst decides the exit status."""

    def __init__(self, image: str) -> None:
        self._image = image
        #: The exit status for all of them.
        self.status = report.OK

    def __call__(self, error: OSError) -> None:
        self.name(error)
        report.complain(error)
        self.status = max(self.status, report.exit_status(error))

    def name(self, error: OSError) -> None:
        """Say in an error what it is about, where it does not."""
        name_image(error, self._image)


def complete_entry(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the entries of the image that was named before."""
    from click.shell_completion import CompletionItem

    from ..image import open as open_image

    image = ctx.params.get("image")
    if not image:
        return []
    start, slash, _ = incomplete.rpartition("/")
    try:
        with open_image(Path(image).expanduser()) as opened_image:
            entries = list((opened_image / start).iterdir())
            names = [start + slash + entry.name + "/" * entry.is_dir() for entry in entries]
    except OSError:  # no image, no such directory: nothing to offer, and no place to say why
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
