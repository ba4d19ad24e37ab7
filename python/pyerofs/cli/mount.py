"""``pyerofs mount``."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

import click

from . import report
from .options import ANY_PATH, how_to_mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mounting.handle import Mount


class _Ended(Exception):
    """A signal asked a foreground mount to end."""


def _stop(_number: int, _frame: object) -> None:
    raise _Ended


@contextlib.contextmanager
def _until_told() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block without an error."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        with contextlib.suppress(_Ended):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(mounted: Mount) -> None:
    """Return when somebody has unmounted it."""
    from ..mounting.records import live_records

    table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The kernel reports a change of the mount table as an error condition of this file.
        changes = select.poll()
        changes.register(table, select.POLLERR | select.POLLPRI)
        while any(record.path == str(mounted.path) for record in live_records()):
            changes.poll(5000)
    finally:
        os.close(table)


@click.command()
@click.argument("image", type=ANY_PATH)
@click.argument("directory", type=ANY_PATH)
@how_to_mount
@click.option("--device", "devices", multiple=True, type=ANY_PATH, help="A further blob of the image.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Where the image starts, in bytes.")
@click.option("--foreground", is_flag=True, help="Stay until it is unmounted, or unmount when interrupted.")
def command(
    image: str,
    directory: str,
    domain: str | None,
    backend: str,
    owners: str | None,
    devices: tuple[str, ...],
    offset: int,
    foreground: bool,
) -> None:
    """Mount IMAGE on the empty DIRECTORY, and return when it answers.

    An ordinary user gets plain FUSE by way of fusermount3. With --backend overlay a process keeps a namespace
    in which the image is mounted, and the mount is reached at the path that is printed.
    """
    from ..mounting.mounter import mount

    mounted = mount(
        image,
        directory,
        domain=domain,
        backend=backend,
        devices=devices,
        offset=offset,
        owners=owners,
        keep=not foreground,
    )
    for note in mounted.notes:
        report.warn(note)
    if str(mounted.path).startswith("/proc/"):
        click.echo(mounted.path)
    if foreground:
        with _until_told():
            _wait(mounted)
        mounted.close(lazy=True)
