"""Mount points: what may be one, and attaching to it without being interrupted half-way."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from .mountinfo import read_mountinfo, topmost
from .paths import runtime_dir
from .records import is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["absolute_target", "open_target", "private_target", "uninterrupted"]


def absolute_target(path: str | os.PathLike[str]) -> str:
    """The path as the mount table will show it: absolute, without symlinks."""
    return os.path.realpath(os.fspath(path))


def open_target(path: str) -> int:
    """Open the directory ``path`` to mount on it; returns an ``O_PATH`` descriptor.

    Raises:
        FileNotFoundError: it is missing.
        NotADirectoryError: it is no directory.
        OSError: EBUSY if an image is mounted there already, ENOTEMPTY if there is anything in it, ENOTCONN if
            a mount whose server has died is in the way.
    """
    point = topmost(path, read_mountinfo())
    if point is not None and is_ours(point):
        raise OSError(errno.EBUSY, "has an image mounted on it already", path)
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Through the descriptor, so that what is looked at is what is mounted on.
        with os.scandir(f"/proc/self/fd/{fd}") as entries:
            if next(entries, None) is not None:
                raise OSError(errno.ENOTEMPTY, "is not empty, and what is in it would be hidden", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def private_target(name: str) -> str:
    """Make a mount point of our own in the runtime directory.

    Raises:
        OSError: it can't be made.
    """
    base = runtime_dir() / "mnt"
    base.mkdir(mode=0o700, exist_ok=True)
    path = base / name
    path.mkdir(mode=0o700)
    return str(path)


def remove_private_target(path: str) -> None:
    """Remove a mount point that :func:`private_target` made; one that is in use stays."""
    with contextlib.suppress(OSError):
        Path(path).rmdir()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back signals that would end us, for steps that only make sense together."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
