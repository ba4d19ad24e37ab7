"""The kernel's new mount interface: a filesystem context is configured step by step, then mounted.

Its strength here is twofold. What comes out is a mount that is attached nowhere, to be given to
overlayfs by its descriptor; and the kernel says in words what it did not like.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Self

from .. import _core

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = [
    "ATTR_NOATIME",
    "ATTR_NODEV",
    "ATTR_NOEXEC",
    "ATTR_NOSUID",
    "ATTR_RDONLY",
    "READ_ONLY",
    "Descriptors",
    "FsContext",
    "attach",
    "attach_tmpfs",
]

# include/uapi/linux/mount.h
ATTR_RDONLY = 0x01
ATTR_NOSUID = 0x02
ATTR_NODEV = 0x04
ATTR_NOEXEC = 0x08
ATTR_NOATIME = 0x10

#: What every mount of an image carries.
READ_ONLY = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOATIME


class Descriptors(contextlib.ExitStack):
    """Descriptors that are closed together, whatever happens."""

    def add(self, fd: int) -> int:
        """Take over ``fd`` and return it."""
        self.callback(os.close, fd)
        return fd


class FsContext:
    """One ``fsopen`` context. Every error carries what the kernel wrote about it.

    Args:
        fstype: the filesystem's name.

    Raises:
        OSError: ENODEV if the kernel has no such filesystem, EPERM without CAP_SYS_ADMIN.
    """

    def __init__(self, fstype: str) -> None:
        self.fstype = fstype
        self._fd = _core.fsopen(fstype)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the context up; mounts made from it stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def messages(self) -> list[str]:
        """What the kernel has written since the last call, without its level letters."""
        lines: list[str] = []
        while True:
            try:
                line = os.read(self._fd, 8192)
            except OSError:
                # ENODATA: nothing is left.
                return lines
            if not line:
                return lines
            text = os.fsdecode(line).strip()
            lines.append(text[2:] if text[1:2] == " " else text)

    @contextlib.contextmanager
    def _explained(self, step: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = "; ".join(self.messages())
            number = error.errno or errno.EIO
            detail = f" ({said})" if said else ""
            raise OSError(number, f"{self.fstype} {step}: {os.strerror(number)}{detail}") from None

    def flag(self, key: str) -> None:
        """Set an option that has no value."""
        with self._explained(key):
            _core.fsconfig_flag(self._fd, key)

    def string(self, key: str, value: str) -> None:
        """Set an option to a string."""
        with self._explained(f"{key}={value}"):
            _core.fsconfig_string(self._fd, key, os.fsencode(value))

    def descriptor(self, key: str, fd: int) -> None:
        """Set an option to a descriptor, which may be closed afterwards."""
        with self._explained(key):
            _core.fsconfig_fd(self._fd, key, fd)

    def mount(self, attributes: int = READ_ONLY) -> int:
        """Make the filesystem and a mount of it that is attached nowhere; returns its descriptor."""
        with self._explained("mount"):
            _core.fsconfig_create(self._fd)
            return _core.fsmount(self._fd, attributes)


def attach(mount_fd: int, directory_fd: int) -> None:
    """Attach a detached mount to the directory that ``directory_fd`` is open on.

    Raises:
        OSError: the kernel does not allow it.
    """
    _core.move_mount(mount_fd, directory_fd)


def attach_tmpfs(path: str, *, mode: int, size: int, attributes: int) -> int:
    """Cover the directory ``path`` with a new tmpfs and return a descriptor of the tmpfs' root.

    Args:
        path: the directory to cover.
        mode: permission bits of the new root.
        size: most bytes that it may hold.
        attributes: ``ATTR_*`` of the mount.

    Raises:
        OSError: the kernel does not allow it.
    """
    target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with FsContext("tmpfs") as context:
            context.string("source", "pyerofs")
            context.string("mode", f"{mode:o}")
            context.string("size", str(size))
            mount = context.mount(attributes)
        try:
            attach(mount, target)
        except BaseException:
            os.close(mount)
            raise
        return mount
    finally:
        os.close(target)
