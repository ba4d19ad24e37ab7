"""The holder: a small process that keeps a user and mount namespace, and so the mount in it, alive.

The mount is reached from outside at ``/proc/PID/root/DIR``. A holder ends when it is told to (SIGTERM), or
with the program that asked for it, whose end of a socket it watches.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from .. import errors
from .blobs import ImageName, OpenImage
from .fscontext import Descriptors, attach
from .ladder import climb
from .namespace import enter_user_namespace
from .processes import end_process, start_time
from .protocol import PATIENCE as SERVER_PATIENCE
from .protocol import Connection
from .request import DomainPlace, MountRequest, default_owners
from .spawn import spawn_daemon
from .targets import open_target

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Held", "HolderOrder", "Lifeline", "hold", "main"]

#: Seconds that a holder may take to have the image mounted.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class HolderOrder:
    """What a holder is to mount; it opens everything itself."""

    id: str
    image: ImageName
    domain: DomainPlace | None
    ladder: list[str]
    target: str
    owners: str | None


class Lifeline:
    """Our end of a holder's socket: the holder ends with it, at the latest with this process."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def keep(self) -> None:
        """Have the holder live on until it is told to end."""
        self._socket.sendall(b"keep")
        self._socket.close()

    def close(self) -> None:
        """Let the holder end."""
        self._socket.close()


class Held:
    """A holder that has mounted. Left without :meth:`settle` it ends, and the mount with it.

    Attributes:
        process: its pid and start time.
        backend: the back end that it used.
        passed: a sentence for each back end that could not be had.
    """

    def __init__(self, lifeline: socket.socket, answer: dict[str, Any]) -> None:
        self._lifeline: socket.socket | None = lifeline
        self.process = (int(answer["pid"]), int(answer["started"]))
        self.backend = str(answer["backend"])
        self.passed = [str(line) for line in answer["passed"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            end_process(*self.process)

    def settle(self) -> Lifeline:
        """Let it live for as long as the returned lifeline is open, or is told to keep it."""
        assert self._lifeline is not None
        lifeline, self._lifeline = Lifeline(self._lifeline), None
        return lifeline


def hold(order: HolderOrder, server: Connection) -> Held:
    """Start a holder and wait until it has mounted.

    Raises:
        Unavailable: no namespace can be had, or no back end in it.
        ErofsError: the image is at fault.
        OSError: the holder could not do it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs, Descriptors() as mine:
            log = mine.add(os.open(server.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
            details: dict[str, object] = {
                "socket": theirs.fileno(),
                "server": server.fileno(),
                # Not read by anybody: it tells holders apart in a list of processes.
                "log": server.log,
            }
            spawn_daemon("holder", details, [theirs.fileno(), server.fileno()], log)
        ours.settimeout(PATIENCE)
        message = {"order": asdict(order), "name": server.server, "log": server.log}
        ours.sendall(json.dumps(message).encode("ascii"))
        packet = ours.recv(64 << 10)
        if not packet:
            raise OSError(errno.EIO, f"the holder ended; its log is {server.log}")
        answer = json.loads(packet)
        if not answer["ok"]:
            raise _error_from(answer["error"])
        return Held(ours, answer)
    except BaseException:
        ours.close()
        raise


def _error_to(error: Exception) -> dict[str, object]:
    return {
        "class": next(
            (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__), ""
        ),
        "errno": getattr(error, "errno", None) or errno.EIO,
        "message": getattr(error, "strerror", None) or str(error),
        "filename": getattr(error, "filename", None),
        "remedy": getattr(error, "remedy", None),
    }


def _error_from(values: dict[str, Any]) -> Exception:
    arguments = [values["errno"], values["message"]]
    if values["filename"] is not None:
        arguments.append(values["filename"])
    kind = getattr(errors, values["class"] or "", None)
    if isinstance(kind, type) and issubclass(kind, errors.ErofsError):
        return kind(*arguments, remedy=values["remedy"])
    return OSError(*arguments)


def _mount(order: dict[str, Any], server: Connection) -> tuple[str, list[str]]:
    enter_user_namespace(uid=os.geteuid(), gid=os.getegid())
    image = order["image"]
    name = ImageName(image["path"], tuple(image["devices"]), image["offset"])
    domain = None if order["domain"] is None else DomainPlace(**order["domain"])
    with OpenImage(name) as opened, Descriptors() as mine:
        target = mine.add(open_target(order["target"]))
        owners = default_owners(order["owners"], privileged=False)
        request = MountRequest(order["id"], opened, domain, owners, allow_other=False)
        detached, rung, passed = climb(order["ladder"], request, server)
        mine.add(detached)
        attach(detached, target)
        return rung, passed


def main(lifeline_fd: int, server_fd: int) -> int:
    """Be a holder; called by ``daemon.py``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=lifeline_fd) as lifeline:
        packet = lifeline.recv(64 << 10)
        if not packet:
            # Whoever wanted a mount was interrupted.
            return 0
        message = json.loads(packet)
        inherited = socket.socket(fileno=server_fd)
        # The starter's socket has a timeout, so this one does not block by itself; Python can't know.
        inherited.settimeout(SERVER_PATIENCE)
        with Connection(inherited, message["name"], message["log"]) as server:
            try:
                backend, passed = _mount(message["order"], server)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other side raises it
                lifeline.sendall(json.dumps({"ok": False, "error": _error_to(error)}).encode("ascii"))
                return 1
        answer = {
            "ok": True,
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "backend": backend,
            "passed": passed,
        }
        lifeline.sendall(json.dumps(answer).encode("ascii"))
        if lifeline.recv(16) != b"keep":
            return 0
    while True:
        signal.pause()
