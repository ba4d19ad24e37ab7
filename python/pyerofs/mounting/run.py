"""``pyerofs run``: a command that sees images mounted, in namespaces that nothing outlives.

Two user namespaces are used. In the first, which is ours, everything is mounted and the state root and the
runtime directory are covered. The second is entered just before the command takes this process over: mounts
that are copied into a mount namespace of another owner are locked together, so the command can't take the
covers off, whatever capabilities it gives itself there. No process of ours stays behind in the first one that
the command could look into, and the command's exit status, signals and terminal are its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..errors import ErofsError
from .blobs import ImageName, OpenImage
from .domains import OpenDomain, open_domain
from .fscontext import ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Descriptors, attach, attach_tmpfs
from .ladder import climb, rungs, unshared_note
from .namespace import enter_mount_namespace, enter_user_namespace, is_machine_admin, is_privileged
from .paths import runtime_dir, runtime_dirs, state_roots
from .request import default_owners, make_request
from .server import connect_or_start
from .targets import absolute_target, open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .protocol import Connection

__all__ = ["CommandNotRunnable", "RunImage", "run"]

#: Most bytes that the private runtime directory may hold; a pyerofs inside needs a few kB.
PRIVATE_BYTES = 16 << 20


class CommandNotRunnable(ErofsError):
    """The command could not be started.

    Attributes:
        status: the exit status that sh gives: 127 for a command that is not found, else 126.
    """

    default_errno = errno.ENOEXEC
    status = 126


@dataclass(frozen=True, slots=True)
class RunImage:
    """An image for the command, and where it wants it; None for a private directory."""

    name: ImageName
    target: str | None


@dataclass(slots=True)
class _Mounted:
    image: RunImage
    detached: int


def _connect(images: list[OpenImage], domain: OpenDomain | None, mine: Descriptors) -> list[Connection]:
    """A server for each image: the domain's for all of them, or one each."""
    if domain is not None:
        shared = mine.enter_context(domain.connect())
        servers = [shared] * len(images)
    else:
        servers = [mine.enter_context(connect_or_start(image.server_name())) for image in images]
    for image, server in zip(images, servers, strict=True):
        image.refuse_own_mount(server.server)
        server.check(image, with_key=domain is not None)
    return servers


def _is_below(path: str, directory: Path) -> bool:
    return Path(path).is_relative_to(os.path.realpath(directory))


def _check_targets(images: Sequence[RunImage], hidden: list[Path]) -> None:
    """Complain about mount points while nothing is mounted yet."""
    for image in images:
        if image.target is None:
            continue
        target = absolute_target(image.target)
        os.close(open_target(target))
        for directory in hidden:
            if _is_below(target, directory):
                raise OSError(errno.EINVAL, f"lies in {directory}, which is hidden from the command", target)


def _make_hidden(directory: Path) -> None:
    """Make a directory that is to be hidden: what another pyerofs puts into it later must be hidden too."""
    # Where we can't neither can the command.
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True)


def _cover(directory: Path, *, writable: bool) -> None:
    try:
        # What somebody else put there is nothing of ours, and may be a symlink to what the command needs.
        if directory.lstat().st_uid != os.geteuid() or not directory.is_dir():
            return
    except OSError:
        return
    attributes = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
    if writable:
        mount = attach_tmpfs(str(directory), mode=0o700, size=PRIVATE_BYTES, attributes=attributes)
    else:
        mount = attach_tmpfs(str(directory), mode=0o500, size=4096, attributes=attributes | ATTR_RDONLY)
    os.close(mount)


def _private_directories(base: Path, images: Sequence[RunImage]) -> list[str | None]:
    """Make a directory for each image that has none, named by the image's file."""
    made: list[str | None] = []
    taken: set[str] = set()
    for image in images:
        if image.target is not None:
            made.append(None)
            continue
        stem = Path(image.name.path).stem or "image"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        path = base / name
        path.mkdir(mode=0o755, parents=True)
        made.append(str(path))
    return made


def _attach_all(mounted: list[_Mounted], base: Path) -> str | None:
    """Attach every mount; returns the directory that the command starts in, None to stay."""
    private = _private_directories(base, [one.image for one in mounted])
    for one, own in zip(mounted, private, strict=True):
        target = open_target(own or absolute_target(one.image.target or ""))
        try:
            attach(one.detached, target)
        finally:
            os.close(target)
    mine = [path for path in private if path is not None]
    if not mine:
        return None
    return mine[0] if len(mine) == 1 else str(base)


def _execute(command: Sequence[str]) -> NoReturn:
    # Python ignores these two; a program expects them as the system has them.
    for expected in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(expected, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        number = error.errno or errno.ENOEXEC
        reason = "command not found" if number == errno.ENOENT else os.strerror(number)
        failure = CommandNotRunnable(number, reason, command[0])
        failure.status = 127 if number in (errno.ENOENT, errno.ENOTDIR) else 126
        raise failure from None


def _change_directory(directory: str | None, before: str) -> None:
    # Also when it is the old one: it may lie below a cover now, and must not be used around it.
    for path in (directory or before, "/"):
        with contextlib.suppress(OSError):
            os.chdir(path)
            os.environ["PWD"] = path
            return


def run(
    images: Sequence[RunImage],
    command: Sequence[str],
    *,
    domain: str | None = None,
    backend: str = "auto",
    owners: str | None = None,
    root_user: bool = False,
    tell: Callable[[str], None] = lambda _note: None,
) -> NoReturn:
    """Become ``command`` with the images mounted. The calling process must have a single thread.

    Args:
        images: what to mount, and where.
        command: the program and its arguments; it is looked for on ``$PATH``.
        domain: share the files' page cache in the domain of this name; made if new.
        backend: ``auto``, ``kernel``, ``overlay`` or ``fuse``.
        owners: ``map`` or ``squash``, see :func:`pyerofs.mount`.
        root_user: map the caller to uid and gid 0 for the command.
        tell: called with each sentence that the user should hear.

    Raises:
        CommandNotRunnable: everything was mounted, but the command can't be started.
        ErofsError: an image is at fault, or the machine can't do it.
        OSError: a file or directory is at fault.
        ValueError: the arguments don't go together.
    """
    here = os.getcwd()
    privileged = is_privileged()
    ladder = rungs(backend, domain=domain is not None, machine_admin=is_machine_admin())
    base = runtime_dir()
    covers = {path: path == base for path in (*runtime_dirs(), *state_roots())}
    _check_targets(images, list(covers))
    for directory in covers:
        _make_hidden(directory)
    uid, gid = os.geteuid(), os.getegid()
    with Descriptors() as mine:
        opened = [mine.enter_context(OpenImage(image.name)) for image in images]
        place = None if domain is None else open_domain(domain)
        if place is not None and place.created:
            tell(f"made the domain {domain} in {place.place.path}")
        servers = _connect(opened, place, mine)
        if privileged:
            enter_mount_namespace()
        else:
            enter_user_namespace(uid=uid, gid=gid)
        mounted = []
        for image, files, server in zip(images, opened, servers, strict=True):
            request = make_request(
                files,
                domain=None if place is None else place.place,
                owners=default_owners(owners, privileged=privileged),
                allow_other=privileged,
            )
            detached, rung, passed = climb(ladder, request, server)
            for note in unshared_note(rung, passed, domain):
                tell(note)
            mounted.append(_Mounted(image, mine.add(detached)))
        for directory, writable in covers.items():
            _cover(directory, writable=writable)
        start = _attach_all(mounted, base / "images")
        if not privileged:
            enter_user_namespace(uid=0 if root_user else uid, gid=0 if root_user else gid)
        _change_directory(start, here)
        # Every descriptor of ours is closed on exec; they go now for the case that it fails.
    _execute(command)
