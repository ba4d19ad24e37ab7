"""``pyerofs mounts``."""

from __future__ import annotations

import click

from .output import emit_json, name_fields, quoted, write


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per mount.")
def command(as_json: bool) -> None:
    """List what you have mounted, and where each server's log is."""
    from ..mounting.records import live_records

    records = live_records()
    if as_json:
        for record in records:
            emit_json(
                {
                    **name_fields(record.path, "path"),
                    **name_fields(record.image, "image"),
                    "backend": record.backend,
                    "domain": record.domain,
                    "server": None if record.server_process is None else record.server_process[0],
                    "holder": None if record.holder is None else record.holder[0],
                    "log": record.log,
                }
            )
        return
    rows = [("PATH", "IMAGE", "BACKEND", "DOMAIN", "LOG")] if records else []
    rows += [
        (quoted(one.path), quoted(one.image), one.backend, one.domain or "-", quoted(one.log or "-"))
        for one in records
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write("  ".join(cells).rstrip() + "\n")
