"""``pyerofs probe``."""

from __future__ import annotations

import click

from .output import emit_json, quoted, write

_WORDS = {
    "device": "/dev/fuse",
    "namespace": "user and mount namespace",
    "fuse": "mount FUSE there",
    "overlay": "overlay with redirects",
    "passthrough": "FUSE passthrough",
    "fusermount": "fusermount3",
    "kernel": "the kernel's EROFS",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(as_json: bool) -> None:
    """Find out which back ends work here, by mounting, and what is missing for the others."""
    from dataclasses import asdict

    from ..mounting.probe import probe

    found = probe()
    if as_json:
        emit_json(asdict(found))
        return
    for name, words in _WORDS.items():
        ability = found.abilities[name]
        tail = f": {quoted(ability.message)}" if ability.message else ""
        write(f"{'yes' if ability.available else 'no ':3}  {words}{tail}\n")
        if ability.remedy and not ability.available:
            write(f"       {quoted(ability.remedy)}\n")
    write(f"run:   {', '.join(found.run) or 'nothing'}\n")
    write(f"mount: {', '.join(found.mount) or 'nothing'}\n")
    write(f"page cache {'is' if found.shares else 'can not be'} shared in a domain\n")
