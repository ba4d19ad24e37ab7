"""Unmounting, by record or by directory."""

from __future__ import annotations

import contextlib
import errno
import os

from .. import _core
from .fuse import unmount_with_fusermount
from .mountinfo import MountPoint, read_mountinfo, topmost
from .namespace import is_privileged
from .processes import end_process
from .records import MountRecord, is_elsewhere, is_of, is_ours, live_records, remove_record

__all__ = ["unmount", "unmount_all", "unmount_record"]


def _busy(error: OSError, path: str) -> OSError:
    if error.errno == errno.EBUSY:
        return OSError(errno.EBUSY, "is in use; close what is open there, or unmount it --lazy", path)
    return error


def _unmount_path(path: str, *, lazy: bool) -> None:
    try:
        if is_privileged():
            _core.unmount(path, lazy)
        else:
            unmount_with_fusermount(path, lazy=lazy)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(errno.EINVAL, "is no mount point", path) from error
        raise _busy(error, path) from error


def unmount_record(record: MountRecord, *, lazy: bool) -> None:
    """Unmount what a record tells of, and forget it. Its server ends by itself.

    Raises:
        OSError: EBUSY if it is in use and ``lazy`` is false, EINVAL if it lies in another mount namespace; it
            stays mounted and recorded then.
    """
    if record.holder is not None:
        if not end_process(*record.holder):
            raise OSError(errno.EBUSY, f"its holder (process {record.holder[0]}) does not end", record.path)
    elif is_elsewhere(record):
        raise OSError(errno.EINVAL, "is mounted in another mount namespace; unmount it there", record.path)
    else:
        point = topmost(record.target, read_mountinfo())
        if point is not None and is_of(point, record):
            _unmount_path(record.target, lazy=lazy)
    remove_record(record)


def topmost_is_ours(target: str, points: list[MountPoint] | None = None) -> bool:
    """Whether what one sees at ``target`` is a mount that pyerofs made."""
    point = topmost(target, read_mountinfo() if points is None else points)
    return point is not None and is_ours(point)


def unmount(path: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Unmount the image that is mounted at ``path``.

    Args:
        path: the directory, or what ``pyerofs mounts`` shows as the path of a held mount.
        lazy: take it out of sight at once, even if files of it are open.

    Raises:
        OSError: EINVAL if no image is mounted there, EBUSY if it is in use.
    """
    given = os.path.abspath(os.fspath(path))
    for record in live_records():
        if is_elsewhere(record):
            continue
        if given in (record.path, record.target) or (
            record.holder is None and record.target == _resolved(given)
        ):
            unmount_record(record, lazy=lazy)
            return
    # Made by somebody else, or its record is lost.
    target = _resolved(given)
    if not topmost_is_ours(target):
        os.stat(given)
        raise OSError(errno.EINVAL, "has no image of ours mounted on it", given)
    _unmount_path(target, lazy=lazy)


def _resolved(path: str) -> str:
    # The last component must not be looked up: a mount whose server is gone answers ENOTCONN.
    head, tail = os.path.split(path)
    with contextlib.suppress(OSError):
        if os.path.islink(path):
            return os.path.realpath(path)
    return os.path.join(os.path.realpath(head), tail) if tail else os.path.realpath(path)


def unmount_all(*, lazy: bool = False) -> tuple[list[MountRecord], list[OSError]]:
    """Unmount every image of this user.

    Returns:
        The mounts that are gone, and an error for each that is not.
    """
    gone: list[MountRecord] = []
    errors: list[OSError] = []
    # The newest first: one may lie on another.
    for record in reversed(live_records()):
        try:
            unmount_record(record, lazy=lazy)
            gone.append(record)
        except OSError as error:
            errors.append(error)
    return gone, errors
