"""Why the machine said no: which of sysctl, AppArmor, seccomp, kernel or device it was, and what helps.

The kernel answers EPERM for most of these, so the number alone tells nothing; what is looked at besides is
what each of them can be recognised by.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable
from .mountinfo import read_mountinfo, topmost

__all__ = [
    "Cause",
    "Lacking",
    "explain_device",
    "explain_filesystem",
    "explain_fusermount",
    "explain_namespace",
]


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason with its remedy.

    Attributes:
        kind: ``sysctl``, ``apparmor``, ``seccomp``, ``kernel``, ``device``, ``package``, ``privilege`` or
            ``other``.
        message: what is wrong, one clause.
        remedy: what the user can do.
    """

    kind: str
    message: str
    remedy: str | None

    def error(self) -> Lacking:
        """The cause as an exception."""
        error = Lacking(errno.EOPNOTSUPP, self.message, remedy=self.remedy)
        error.kind = self.kind
        return error


class Lacking(Unavailable):
    """:class:`Unavailable` that remembers which kind of cause it was."""

    kind = "other"


def read_sysctl(name: str) -> int | None:
    """The value of a numeric sysctl, None where the kernel has none of that name."""
    try:
        return int(Path("/proc/sys", name.replace(".", "/")).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _seccomp_filters() -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(line.split() == ["Seccomp:", "2"] for line in status.splitlines())


def _in_chroot() -> bool:
    try:
        return topmost("/", read_mountinfo()) is None
    except OSError:
        return False


def _apparmor_cause(what: str) -> Cause | None:
    if read_sysctl("kernel.apparmor_restrict_unprivileged_userns") != 1:
        return None
    return Cause(
        "apparmor",
        f"AppArmor restricts {what} (kernel.apparmor_restrict_unprivileged_userns is 1)",
        "load an AppArmor profile that allows userns to this Python, or as root: "
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    )


def _seccomp_cause(what: str) -> Cause | None:
    if not _seccomp_filters():
        return None
    return Cause(
        "seccomp",
        f"a seccomp filter forbids {what}",
        "in a container allow unshare, mount, fsopen and setns, for example with "
        "--security-opt seccomp=unconfined",
    )


def explain_namespace(error: OSError) -> Cause:
    """Why a user and mount namespace can't be had."""
    if not os.path.exists("/proc/self/ns/user"):
        return Cause("kernel", "this kernel has no user namespaces", "a kernel with CONFIG_USER_NS")
    if error.errno == errno.ENOSPC or read_sysctl("user.max_user_namespaces") == 0:
        limit = read_sysctl("user.max_user_namespaces")
        return Cause(
            "sysctl",
            f"no more user namespaces are allowed (user.max_user_namespaces is {limit})",
            "as root: sysctl user.max_user_namespaces=15000",
        )
    if read_sysctl("kernel.unprivileged_userns_clone") == 0:
        return Cause(
            "sysctl",
            "user namespaces are kept to root (kernel.unprivileged_userns_clone is 0)",
            "as root: sysctl kernel.unprivileged_userns_clone=1",
        )
    if error.errno == errno.EINVAL:
        return Cause(
            "other", "a process with several threads can't enter a user namespace", "use a process of its own"
        )
    cause = _apparmor_cause("user namespaces") or _seccomp_cause("user namespaces")
    if cause is not None:
        return cause
    if _in_chroot():
        return Cause("kernel", "a process in a chroot gets no user namespace", "use it outside the chroot")
    return Cause("other", f"no user namespace: {error.strerror}", None)


def explain_device(error: OSError) -> Cause:
    """Why ``/dev/fuse`` can't be opened."""
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return Cause(
            "device",
            "no /dev/fuse here" if error.errno == errno.ENOENT else "/dev/fuse has no driver",
            "load the fuse module (modprobe fuse), or give the container the device (--device /dev/fuse)",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return Cause(
            "device",
            "/dev/fuse may not be opened for reading and writing",
            "as root: chmod 0666 /dev/fuse, or give the container the device (--device /dev/fuse)",
        )
    return Cause("device", f"/dev/fuse can't be opened: {error.strerror}", None)


def explain_filesystem(fstype: str, error: OSError) -> Cause:
    """Why a filesystem can't be mounted, though nothing is wrong with what is to be mounted."""
    if error.errno == errno.ENODEV:
        return Cause(
            "kernel", f"this kernel has no {fstype} filesystem", f"load the module (modprobe {fstype})"
        )
    if error.errno == errno.ENOSYS:
        return _seccomp_cause("fsopen") or Cause("kernel", "this kernel has no fsopen", "Linux 5.2 or newer")
    if error.errno in (errno.EPERM, errno.EACCES):
        cause = _apparmor_cause("mounting in user namespaces") or _seccomp_cause("mounting")
        if cause is not None:
            return cause
        return Cause("privilege", f"{fstype} may not be mounted: {error.strerror}", None)
    return Cause("kernel", error.strerror or str(error), None)


def explain_fusermount() -> Cause:
    """What to do where there is no fusermount3."""
    return Cause(
        "package",
        "no fusermount3 here, so an ordinary user can't attach a FUSE mount outside a namespace",
        "install the package fuse3, or use 'pyerofs run'",
    )
