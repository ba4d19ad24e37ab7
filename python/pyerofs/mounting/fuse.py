"""The fuse back end, and the FUSE mounts that the overlay back end is built on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from ..errors import Unavailable
from .diagnosis import explain_device, explain_filesystem, explain_fusermount
from .fscontext import READ_ONLY, Descriptors, FsContext

if TYPE_CHECKING:
    from .protocol import Connection
    from .request import MountRequest

__all__ = ["detached_fuse", "fusermount", "make_fuse", "mount_with_fusermount", "open_device"]

#: The kernel shows ``fuse.SUBTYPE`` as the type of a mount.
SUBTYPE = "pyerofs"


def open_device() -> int:
    """Open ``/dev/fuse``, in the user namespace that is to mount with it.

    Raises:
        Unavailable: it is not there or not for us.
    """
    try:
        return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise explain_device(error).error() from error


def detached_fuse(device: int, source: str, *, allow_other: bool) -> int:
    """Make a FUSE mount that is attached nowhere; the kernel asks for an answer on ``device`` from now on.

    Args:
        device: a descriptor of ``/dev/fuse``, opened in this user namespace.
        source: what the mount table shows as the source.
        allow_other: let other users in too; the files' modes are the kernel's to enforce.

    Raises:
        Unavailable: the machine does not allow it.
    """
    try:
        with FsContext("fuse") as context:
            context.string("source", source)
            context.string("subtype", SUBTYPE)
            context.string("fd", str(device))
            context.string("rootmode", "40000")
            context.string("user_id", str(os.geteuid()))
            context.string("group_id", str(os.getegid()))
            context.flag("default_permissions")
            if allow_other:
                context.flag("allow_other")
            context.flag("ro")
            return context.mount(READ_ONLY)
    except OSError as error:
        raise explain_filesystem("fuse", error).error() from error


def make_fuse(request: MountRequest, server: Connection, *, passthrough: bool) -> int:
    """Mount the image as FUSE, attached nowhere; returns the mount's descriptor.

    Raises:
        Unavailable: the machine does not allow it.
        ErofsError: the image is at fault.
    """
    with Descriptors() as mine, contextlib.ExitStack() as undo:
        device = mine.add(open_device())
        mount = detached_fuse(device, request.source, allow_other=request.allow_other)
        undo.callback(os.close, mount)
        server.mount(
            request.image,
            mount_id=request.id,
            kind="passthrough" if passthrough else "fuse",
            devices=[device],
            owners=request.owners,
        )
        undo.pop_all()
        return mount


def fusermount() -> str:
    """The path of the set-user-id helper of the package fuse3.

    Raises:
        Unavailable: it is not installed.
    """
    path = shutil.which("fusermount3") or shutil.which("fusermount3", path="/usr/bin:/bin:/usr/local/bin")
    if path is None:
        raise explain_fusermount().error()
    return path


def _fusermount(arguments: list[str], **options: object) -> None:
    """Run fusermount3 and give its complaint as an exception."""
    done = subprocess.run(
        [fusermount(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        said = os.fsdecode(done.stderr).strip().removeprefix("/usr/bin/")
        said = said.splitlines()[-1] if said else f"fusermount3 failed with status {done.returncode}"
        number = errno.EBUSY if "busy" in said.lower() else errno.EPERM
        raise OSError(number, said)


def mount_with_fusermount(request: MountRequest, server: Connection, target: str) -> None:
    """Mount the image as FUSE at ``target``, as an ordinary user, by way of fusermount3.

    Raises:
        Unavailable: there is no fusermount3 or no /dev/fuse.
        ErofsError: the image is at fault; nothing is left mounted.
    """
    # Say it ourselves: fusermount3 has no words for the remedy.
    os.close(open_device())
    source = request.source.replace("\\", "\\\\").replace(",", "\\,")
    options = f"ro,nosuid,nodev,noatime,default_permissions,fsname={source},subtype={SUBTYPE}"
    ours, helpers = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, helpers, Descriptors() as mine, contextlib.ExitStack() as undo:
        environment = {**os.environ, "_FUSE_COMMFD": str(helpers.fileno())}
        undo.callback(_take_down, target)
        try:
            _fusermount(["-o", options, "--", target], env=environment, pass_fds=[helpers.fileno()])
        except OSError as error:
            undo.pop_all()
            raise Unavailable(
                errno.EOPNOTSUPP, f"fusermount3 would not mount: {error.strerror}", target, remedy=None
            ) from error
        helpers.close()
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
        if not received:
            raise OSError(errno.EIO, "fusermount3 gave no descriptor", target)
        device = mine.add(received[0])
        server.mount(request.image, mount_id=request.id, kind="fuse", devices=[device], owners=request.owners)
        undo.pop_all()


def _take_down(target: str) -> None:
    with contextlib.suppress(OSError):
        unmount_with_fusermount(target, lazy=True)


def unmount_with_fusermount(target: str, *, lazy: bool) -> None:
    """Unmount a FUSE mount of this user.

    Raises:
        OSError: EBUSY if it is in use and ``lazy`` is false.
    """
    _fusermount(["-u", *(["-z"] if lazy else []), "--", target])
