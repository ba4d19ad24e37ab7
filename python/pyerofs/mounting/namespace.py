"""User and mount namespaces, and what of them this process has already."""

from __future__ import annotations

import os

from .. import _core
from .diagnosis import explain_namespace
from .paths import is_initial_user_namespace

__all__ = [
    "enter_mount_namespace",
    "enter_user_namespace",
    "is_machine_admin",
    "is_privileged",
]


def is_privileged() -> bool:
    """Whether this process may mount where it is: CAP_SYS_ADMIN in its own user namespace."""
    return _core.has_sys_admin()


def is_machine_admin() -> bool:
    """Whether it has CAP_SYS_ADMIN over the whole machine, which FUSE passthrough and EROFS mounts want."""
    return _core.has_sys_admin() and is_initial_user_namespace()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def enter_user_namespace(*, uid: int, gid: int) -> None:
    """Move this process into a new user and mount namespace; its own uid and gid are the only ones mapped.

    Args:
        uid: what the caller's uid is called inside.
        gid: what the caller's gid is called inside.

    Raises:
        Unavailable: the machine does not allow it; says why and what helps.
    """
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    try:
        _core.unshare(user=True, mount=True)
        # The kernel lets a gid be mapped only once groups can't be dropped to get round a mode.
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {outside_uid} 1\n")
        _write("/proc/self/gid_map", f"{gid} {outside_gid} 1\n")
        _core.make_private("/")
    except OSError as error:
        raise explain_namespace(error).error() from error


def enter_mount_namespace() -> None:
    """Move this process, which has CAP_SYS_ADMIN, into a mount namespace of its own.

    Raises:
        Unavailable: the machine does not allow it.
    """
    try:
        _core.unshare(user=False, mount=True)
        _core.make_private("/")
    except OSError as error:
        raise explain_namespace(error).error() from error
