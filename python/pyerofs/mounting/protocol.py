"""The control protocol: one JSON object per packet, descriptors beside it, one answer per request."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from ..errors import CorruptImage, ErofsError, LimitExceeded, NotAnImage, UnsupportedFeature

if TYPE_CHECKING:
    from types import TracebackType

    from .blobs import OpenImage

__all__ = ["Connection", "connect_socket", "listen_socket"]

#: Seconds that a server may take over one request; opening an image is a matter of milliseconds.
PATIENCE = 60.0

_LARGEST = 64 << 10

_KINDS: dict[str, type[ErofsError]] = {
    "corrupt": CorruptImage,
    "unsupported": UnsupportedFeature,
    "limit": LimitExceeded,
}


def _socket_address(directory_fd: int, name: str) -> str:
    # A socket's address holds 107 bytes, and a runtime directory's path may be longer.
    return f"/proc/self/fd/{directory_fd}/{name}"


def connect_socket(directory: str, name: str) -> socket.socket:
    """Connect to the socket ``name`` in ``directory``.

    Raises:
        OSError: ENOENT or ECONNREFUSED if nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(_socket_address(directory_fd, name))
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory_fd)
    connection.settimeout(PATIENCE)
    return connection


def listen_socket(directory: str, name: str) -> socket.socket:
    """Make a listening socket ``name`` in ``directory``; one that nobody listens on any more is replaced.

    Raises:
        OSError: the directory can't be written to.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory_fd)
        listener.bind(_socket_address(directory_fd, name))
        listener.listen(64)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory_fd)
    return listener


class Connection:
    """A connection to a server.

    Attributes:
        server: the server's name.
        log: where the server writes what goes wrong.
    """

    def __init__(self, connection: socket.socket, server: str, log: str) -> None:
        self._socket = connection
        self.server = server
        self.log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, to be handed to a holder."""
        return self._socket.fileno()

    def request(self, operation: str, fields: dict[str, object], fds: list[int]) -> dict[str, Any]:
        """Ask for one thing and wait for the answer.

        Raises:
            ErofsError: the server said what is wrong with the image.
            OSError: the server said so, or it is gone (ECONNRESET).
        """
        message = json.dumps({"v": 1, "op": operation, **fields}).encode("ascii")
        try:
            socket.send_fds(self._socket, [message], fds)
            answer = self._socket.recv(_LARGEST)
        except TimeoutError:
            raise TimeoutError(
                errno.ETIMEDOUT, f"the server did not answer for {PATIENCE:.0f} s; its log is {self.log}"
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            raise ConnectionResetError(errno.ECONNRESET, f"the server ended{self._last_words()}")
        values: dict[str, Any] = json.loads(answer)
        if values.get("ok") is True:
            return values
        raise _error(values.get("error", {}))

    def _last_words(self) -> str:
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                lines = log.read()[-2000:].strip().splitlines()
        except OSError:
            lines = []
        return f": {lines[-1]}" if lines else f"; its log is {self.log}"

    def check(self, image: OpenImage, *, with_key: bool = False) -> None:
        """Have the server open the image and nothing else.

        Raises:
            ErofsError: the image is corrupt, or needs what this version does not read.
            OSError: it can't be read.
        """
        self.request("check", {"image": image.message(with_key=with_key)}, image.fds)

    def mount(
        self,
        image: OpenImage,
        *,
        mount_id: str,
        kind: str,
        devices: list[int],
        owners: tuple[int, int] | None,
    ) -> None:
        """Have the server answer for FUSE connections.

        Args:
            image: what to serve.
            mount_id: names the mount in the server's status.
            kind: ``fuse``, ``overlay`` or ``passthrough``.
            devices: open ``/dev/fuse`` descriptors of mounts: one, or META's and the lazy layer's.
            owners: a uid and gid for all files, in the mount's user namespace; None for the image's own.

        Raises:
            ErofsError: the image is corrupt, or needs what this version does not read.
            OSError: it can't be served.
        """
        fields: dict[str, object] = {
            "id": mount_id,
            "kind": kind,
            "image": image.message(with_key=kind != "fuse"),
            "owners": None if owners is None else {"uid": owners[0], "gid": owners[1]},
        }
        self.request("mount", fields, [*devices, *image.fds])

    def status(self) -> dict[str, Any]:
        """The server's pid and its mounts: ``id``, ``kind``, ``path``, ``key``, ``requests`` of each."""
        return self.request("status", {}, [])


def _error(values: dict[str, Any]) -> Exception:
    message = str(values.get("message", "no reason given"))
    number = int(values.get("errno", errno.EIO))
    kind = _KINDS.get(str(values.get("kind")))
    if kind is None:
        return OSError(number, message)
    if kind is CorruptImage and number == errno.EINVAL:
        # The kernel's number for a missing superblock, which is another fault than a damaged image.
        kind = NotAnImage
    return kind(kind.default_errno, message)
