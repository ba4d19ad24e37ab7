"""The files that an image consists of, opened for a mount."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from .. import _core
from ..errors import RefusedByPolicy
from .mountinfo import mount_id_of, read_mountinfo
from .records import live_records

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ImageName", "OpenImage"]


@dataclass(frozen=True, slots=True)
class ImageName:
    """How the user names an image: where its files are and where it starts.

    Attributes:
        path: absolute path of the primary blob.
        devices: absolute paths of the further blobs, in the order of the image's device table.
        offset: where the image starts in the primary blob, in bytes.
    """

    path: str
    devices: tuple[str, ...] = ()
    offset: int = 0

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        devices: tuple[str | os.PathLike[str], ...] = (),
        offset: int = 0,
    ) -> ImageName:
        """Make the paths absolute, so that they mean the same in another process."""
        return cls(
            os.path.abspath(os.fspath(path)),
            tuple(os.path.abspath(os.fspath(device)) for device in devices),
            offset,
        )


def _open_blob(path: str) -> int:
    # O_NONBLOCK: a FIFO would wait for a writer instead of being refused.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
        return fd
    os.close(fd)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a directory, not an image", path)
    raise OSError(errno.EINVAL, "is neither a file nor a block device", path)


class OpenImage:
    """An image whose files are open; deleting or renaming them changes nothing from here on.

    Raises:
        OSError: a file can't be opened, or is none.
    """

    def __init__(self, name: ImageName) -> None:
        self.name = name
        self.fds: list[int] = []
        try:
            for path in (name.path, *name.devices):
                self.fds.append(_open_blob(path))
        except BaseException:
            self.close()
            raise
        self._key: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a server that was handed them has its own."""
        while self.fds:
            os.close(self.fds.pop())

    def key(self) -> str:
        """The image's identity inside a domain, 64 hexadecimal digits. May have to read every byte."""
        if self._key is None:
            self._key = _core.image_key(self.fds, self.name.offset)
        return self._key

    def server_name(self) -> str:
        """A name for the server of this image outside domains: the same file has the same server."""
        digest = sha256()
        for fd in self.fds:
            found = os.fstat(fd)
            digest.update(f"{found.st_dev}:{found.st_ino}:{self.name.offset} ".encode())
        return f"image-{digest.hexdigest()[:16]}"

    def message(self, *, with_key: bool) -> dict[str, object]:
        """The image as the control protocol names it; its descriptors go beside it."""
        return {
            # Only for people, so what is not UTF-8 is replaced.
            "path": os.fsencode(self.name.path).decode("utf-8", "replace"),
            "key": self.key() if with_key else None,
            "offset": self.name.offset,
            "devices": len(self.fds) - 1,
        }

    def refuse_own_mount(self, server: str) -> None:
        """Refuse an image that lies on a mount of the very server that is to read it.

        Raises:
            RefusedByPolicy: such a server would wait for itself.
        """
        served = [record for record in live_records() if record.server == server]
        for path, fd in zip((self.name.path, *self.name.devices), self.fds, strict=True):
            mount_id = mount_id_of(fd)
            for record in served:
                pid = record.holder[0] if record.holder else "self"
                try:
                    points = read_mountinfo(pid)
                except OSError:
                    continue
                if any(point.mount_id == mount_id and point.target == record.target for point in points):
                    raise RefusedByPolicy(
                        errno.ELOOP,
                        f"lies on the mount {record.path}, whose server would have to wait for itself",
                        path,
                        remedy="copy it elsewhere, or use another domain",
                    )
