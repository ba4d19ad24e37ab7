"""Write docs/reference from the code: the commands' own help, and the docstrings of the public names.

python tools/reference.py           write the pages
python tools/reference.py --check   fail where a page is not what the code says
"""

from __future__ import annotations

import inspect
import operator
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import pyerofs
from pyerofs.cli.app import cli
from pyerofs.fsspec import ErofsFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/reference.py from the code: change the code, then run `make reference`. -->\n"


def commands(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[str]:
    """The help of a command and of all below it, at a fixed width."""
    context = click.Context(
        command, info_name=path.rsplit(" ", 1)[-1], parent=parent, terminal_width=100, max_content_width=100
    )
    yield f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from commands(below, f"{path} {name}", context)


def signature(value: object, name: str) -> str:
    """``name(parameters)`` as far as the object can tell it."""
    try:
        return f"{name}{inspect.signature(value)}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return name


def members(value: type) -> Iterator[tuple[str, object]]:
    """The public members that a class defines itself or inherits within this package."""
    for name in sorted(dir(value)):
        member = inspect.getattr_static(value, name)
        owner = next((base for base in value.__mro__ if name in base.__dict__), object)
        public = not name.startswith("_") and owner.__module__.startswith("pyerofs")
        if public and inspect.getdoc(getattr(value, name, None)):
            yield name, member


def documented(name: str) -> Iterator[str]:
    """A public name: signature, docstring and, for a class, its members."""
    value = operator.attrgetter(name)(pyerofs)
    if inspect.ismodule(value) or not (inspect.isclass(value) or callable(value)):
        return
    yield f"## {name}\n\n```text\n{signature(value, f'pyerofs.{name}')}\n```\n\n{block(value)}"
    if inspect.isclass(value):
        for member, static in members(value):
            bound = getattr(value, member)
            head = member if isinstance(static, property) or not callable(bound) else signature(bound, member)
            text = block(static if isinstance(static, property) else bound)
            yield f"### {name}.{member}\n\n```text\n{head}\n```\n\n{text}"


def filesystem() -> str:
    """The filesystem that fsspec finds under `erofs://`; its methods are fsspec's, so the class says all."""
    # The metaclass is fsspec's and tells nothing of the parameters.
    parameters = list(inspect.signature(ErofsFileSystem.__init__).parameters.values())[1:]
    name = f"fsspec.filesystem('erofs', {', '.join(map(str, parameters))})"
    return f"## ErofsFileSystem\n\n```text\n{name}\n```\n\n{block(ErofsFileSystem)}"


def block(value: object) -> str:
    """A docstring as text, so that its layout is kept."""
    return f"```text\n{inspect.getdoc(value) or ''}\n```\n"


def pages() -> dict[str, str]:
    """The text of each page, by its name."""
    names = [name for name in pyerofs.__all__ if not name.startswith("_")]
    names += ["sources.composefs_dump", "sources.mtree"]
    return {
        "cli.md": f"{NOTE}\n# Commands\n\n" + "\n".join(commands(cli, "pyerofs")),
        "python.md": f"{NOTE}\n# Python\n\n"
        + "\n".join([*(part for name in names for part in documented(name)), filesystem()]),
    }


def main() -> int:
    """Write the pages or check them, and return the exit status."""
    stale = []
    for name, text in pages().items():
        page = PLACE / name
        if "--check" in sys.argv:
            stale += [] if page.exists() and page.read_text() == text else [page.name]
        else:
            PLACE.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
    if stale:
        print(
            f"docs/reference is not what the code says ({', '.join(stale)}): run `make reference`",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
