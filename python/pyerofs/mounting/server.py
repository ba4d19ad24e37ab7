"""Finding or starting the server that answers for an image or a domain.

One server per domain, one per image outside domains, per user. Starters take a lock in the runtime
directory, so two commands at once get one server; the server ends by itself when its last mount is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from .paths import runtime_dir
from .protocol import Connection, connect_socket, listen_socket
from .spawn import spawn_daemon
from .targets import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["connect_or_start", "connect_running", "running_servers", "servers_dir"]


def servers_dir() -> Path:
    """Where the sockets and logs of this user's servers are."""
    path = runtime_dir() / "servers"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def _starting(directory: Path) -> Iterator[Path]:
    lock = directory / "lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(fd)


def _connect(directory: Path, name: str) -> Connection | None:
    """Connect to a server that is there and answers."""
    log = directory / f"{name}.log"
    try:
        connection = Connection(connect_socket(str(directory), f"{name}.sock"), name, str(log))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    try:
        # It may be about to end; one that has answered stays while we are connected.
        connection.status()
    except ConnectionResetError:
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _start(directory: Path, lock: Path, name: str, domain: int | None) -> None:
    log = directory / f"{name}.log"
    with contextlib.ExitStack() as stack:
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, log_fd)
        # Until there is a server nobody else would ever remove its traces.
        abandoned = stack.enter_context(contextlib.ExitStack())
        abandoned.callback(log.unlink, missing_ok=True)
        listener = stack.enter_context(listen_socket(str(directory), f"{name}.sock"))
        path = directory / f"{name}.sock"
        abandoned.callback(path.unlink, missing_ok=True)
        config: dict[str, object] = {"v": 1, "control": listener.fileno(), "keeper": None, "domain": None}
        fds = [listener.fileno()]
        if domain is not None:
            ours, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            stack.enter_context(keepers)
            keeper_config = {"v": 1, "socket": keepers.fileno(), "domain": domain}
            spawn_daemon(
                "keeper", {"config": keeper_config, "log": str(log)}, [keepers.fileno(), domain], log_fd
            )
            config.update(keeper=ours.fileno(), domain=domain)
            fds += [ours.fileno(), domain]
        place = {
            "lock": str(lock),
            "socket": str(path),
            "inode": path.stat().st_ino,
            "log": str(log),
        }
        spawn_daemon("server", {"config": config, "place": place}, fds, log_fd)
        abandoned.pop_all()


def connect_or_start(name: str, domain: int | None = None) -> Connection:
    """Connect to the server ``name``, starting it and the domain's keeper if it is not there.

    Args:
        name: what the server is called in this user's runtime directory.
        domain: a descriptor of the domain's directory, for the server of a domain.

    Raises:
        OSError: it can't be started, or ended at once; the message has the last line of its log.
    """
    directory = servers_dir()
    with _starting(directory) as lock:
        connection = _connect(directory, name)
        if connection is not None:
            return connection
        # Stopped half-way it would leave a server without a socket, which waits for nobody.
        with uninterrupted():
            _start(directory, lock, name, domain)
        log = directory / f"{name}.log"
        connection = Connection(connect_socket(str(directory), f"{name}.sock"), name, str(log))
    try:
        connection.status()
    except BaseException:
        connection.close()
        raise
    return connection


def connect_running(name: str) -> Connection | None:
    """Connect to the server ``name`` if it runs."""
    directory = servers_dir()
    with _starting(directory):
        return _connect(directory, name)


def running_servers() -> list[Connection]:
    """A connection to every server of this user that answers; sockets of dead ones are removed."""
    directory = servers_dir()
    found = []
    with _starting(directory):
        for path in sorted(directory.glob("*.sock")):
            try:
                connection = _connect(directory, path.stem)
            except OSError as error:
                if error.errno == errno.ETIMEDOUT:
                    continue
                raise
            if connection is None:
                path.unlink(missing_ok=True)
            else:
                found.append(connection)
    return found
