"""``pyerofs umount``."""

from __future__ import annotations

import click

from . import report


@click.command()
@click.argument("directories", metavar="[DIRECTORY]...", nargs=-1, type=click.Path())
@click.option("-a", "--all", "everything", is_flag=True, help="Unmount everything that you mounted.")
@click.option("-l", "--lazy", is_flag=True, help="Take it out of sight now, even if files are open.")
def command(directories: tuple[str, ...], everything: bool, lazy: bool) -> int:
    """Unmount images; their servers end by themselves."""
    from ..mounting.umount import unmount, unmount_all

    if everything == bool(directories):
        raise click.UsageError("name the directories, or use --all")
    errors: list[OSError] = []
    if everything:
        _, errors = unmount_all(lazy=lazy)
    for directory in directories:
        try:
            unmount(directory, lazy=lazy)
        except OSError as error:
            errors.append(error)
    for failure in errors:
        report.complain(failure)
    return max(map(report.exit_status, errors), default=report.OK)
