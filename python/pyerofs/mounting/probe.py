"""What this machine can do, found out by doing it: a child process makes the real mounts and goes away.

Nothing is decided by version numbers. Each ability is tried where its back end would use it (an ordinary
user's in a user namespace), attached nowhere, and a failure is told apart by what :mod:`.diagnosis` finds.
"""

from __future__ import annotations

import errno
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from .diagnosis import Cause, explain_filesystem, explain_fusermount
from .fscontext import READ_ONLY, Descriptors, FsContext
from .fuse import detached_fuse, fusermount, open_device
from .namespace import enter_mount_namespace, enter_user_namespace, is_machine_admin, is_privileged
from .overlay import mount_layers
from .spawn import PACKAGE_PARENT, environment, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ability", "Probe", "probe"]

#: Seconds that the child may take for all of it.
PATIENCE = 60.0

#: FUSE_PASSTHROUGH is bit 37 of the INIT flags, so bit 5 of the second word.
_PASSTHROUGH = 1 << (37 - 32)


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that was tried.

    Attributes:
        available: whether it worked.
        cause: ``sysctl``, ``apparmor``, ``seccomp``, ``kernel``, ``device``, ``package``, ``privilege`` or
            ``other``; None if it worked.
        message: what was found, one clause.
        remedy: what would help, if it did not work.
    """

    available: bool
    cause: str | None = None
    message: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out.

    Attributes:
        privileged: CAP_SYS_ADMIN in the user namespace that asked.
        abilities: by name: ``device``, ``namespace``, ``fuse``, ``overlay``, ``passthrough``, ``fusermount``
            and ``kernel``.
        run: the back ends that ``run`` can use in a domain, best first.
        mount: the back ends that ``mount`` can use in a domain, best first.
        shares: whether mounts in a domain share one page cache here.
    """

    privileged: bool
    abilities: dict[str, Ability]
    run: list[str]
    mount: list[str]
    shares: bool


def _failed(error: Exception) -> Ability:
    if isinstance(error, Unavailable):
        return Ability(False, getattr(error, "kind", "other"), error.strerror, error.remedy)
    return Ability(False, "other", getattr(error, "strerror", None) or str(error), None)


def _try(step: Callable[[], str | None]) -> Ability:
    try:
        return Ability(True, message=step())
    except (OSError, ValueError) as error:
        return _failed(error)


def _needs(*abilities: Ability) -> Ability | None:
    """The first of them that is missing."""
    return next((ability for ability in abilities if not ability.available), None)


def _device() -> str | None:
    os.close(open_device())
    return None


def _namespace() -> str | None:
    if is_privileged():
        enter_mount_namespace()
    else:
        enter_user_namespace(uid=os.geteuid(), gid=os.getegid())
    return None


def _first_request(device: int) -> tuple[int, int, int]:
    """Read the kernel's INIT: its protocol version and the second word of what it offers."""
    if not select.select([device], [], [], 5.0)[0]:
        raise TimeoutError(errno.ETIMEDOUT, "the kernel sent no INIT")
    request = os.read(device, 1 << 17)
    major, minor, _readahead, _flags, flags2 = struct.unpack_from("=IIIII", request, 40)
    return major, minor, flags2


def _fuse() -> tuple[Ability, bool]:
    """Mount FUSE; also whether the kernel offers passthrough."""
    offers = False

    def step() -> str | None:
        nonlocal offers
        with Descriptors() as mine:
            device = mine.add(open_device())
            mine.add(detached_fuse(device, "pyerofs", allow_other=False))
            major, minor, flags2 = _first_request(device)
            offers = bool(flags2 & _PASSTHROUGH)
            return f"FUSE {major}.{minor}"

    return _try(step), offers


def _write(directory: int, name: str, content: bytes, attributes: dict[str, bytes]) -> None:
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory)
    try:
        os.write(fd, content)
        for key, value in attributes.items():
            os.setxattr(fd, f"user.overlay.{key}", value)
    finally:
        os.close(fd)


def _overlay() -> str | None:
    """Read a file through an overlay whose only content is a redirect into a data-only layer."""
    with Descriptors() as mine:
        layers = []
        for _ in range(2):
            with FsContext("tmpfs") as context:
                context.string("mode", "755")
                layers.append(mine.add(context.mount(0)))
        meta, data = layers
        os.mkdir("ab", dir_fd=data)
        _write(data, "ab/cd", b"data", {})
        _write(meta, "file", bytes(4), {"metacopy": b"", "redirect": b"/ab/cd"})
        try:
            top = mine.add(mount_layers(meta, [data]))
            found = mine.add(os.open("file", os.O_RDONLY | os.O_CLOEXEC, dir_fd=top))
            if os.read(found, 8) != b"data":
                raise OSError(errno.EIO, "a redirect is not followed")
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EPERM, errno.EIO):
                raise Cause(
                    "kernel",
                    f"overlayfs follows no redirect of ours: {error.strerror}",
                    "Linux 6.16 or newer, or one with that change",
                ).error() from error
            raise explain_filesystem("overlay", error).error() from error
    return None


def _fusermount() -> str | None:
    path = fusermount()
    found = os.stat(path)
    if found.st_uid != 0 or not found.st_mode & 0o4000:
        raise explain_fusermount().error()
    return path


def _kernel() -> str | None:
    from ..builder import build

    with tempfile.TemporaryDirectory(prefix="pyerofs-probe-", dir="/var/tmp") as place:
        source, image = Path(place, "source"), Path(place, "image")
        source.mkdir()
        build(source, image)
        try:
            with FsContext("erofs") as context:
                context.string("source", str(image))
                context.flag("ro")
                os.close(context.mount(READ_ONLY))
        except OSError as error:
            if error.errno == errno.ENOTBLK:
                raise Cause(
                    "kernel", "the kernel can't mount EROFS from a file", "Linux 6.12 or newer"
                ).error() from error
            raise explain_filesystem("erofs", error).error() from error
    return None


def _abilities() -> dict[str, Ability]:
    admin = is_machine_admin()
    found = {"device": _try(_device), "fusermount": _try(_fusermount)}
    root_only = Ability(False, "privilege", "only root may", "be root on the machine itself")
    # Before the namespace is entered: the file that is mounted lies outside.
    found["kernel"] = _try(_kernel) if admin else root_only
    found["namespace"] = _try(_namespace)
    missing = _needs(found["device"], found["namespace"])
    offers = False
    if missing is not None:
        found["fuse"] = missing
    else:
        found["fuse"], offers = _fuse()
    found["overlay"] = _needs(found["namespace"], found["fuse"]) or _try(_overlay)
    if not admin:
        found["passthrough"] = root_only
    elif not found["fuse"].available:
        found["passthrough"] = found["fuse"]
    elif offers:
        found["passthrough"] = Ability(True)
    else:
        found["passthrough"] = Ability(
            False, "kernel", "the kernel offers no FUSE passthrough", "Linux 6.9 with CONFIG_FUSE_PASSTHROUGH"
        )
    return found


def main() -> None:
    """Try everything and print it; this is the child."""
    abilities = _abilities()
    sys.stdout.write(json.dumps({name: asdict(ability) for name, ability in abilities.items()}))


def probe() -> Probe:
    """Find out what this machine can do for the calling user.

    Raises:
        OSError: the child could not be started, or did not end.
    """
    code = f"import sys; sys.path.append({PACKAGE_PARENT!r}); from {__name__} import main; main()"
    try:
        done = subprocess.run(
            [interpreter(), "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(errno.ETIMEDOUT, f"probing did not end in {PATIENCE:.0f} s") from error
    if done.returncode != 0:
        words = os.fsdecode(done.stderr).strip().splitlines()
        raise OSError(errno.EIO, f"probing failed: {words[-1] if words else done.returncode}")
    values: dict[str, Any] = json.loads(done.stdout)
    privileged = is_privileged()
    abilities = {name: Ability(**value) for name, value in values.items()}
    can = {name for name, ability in abilities.items() if ability.available}
    run: list[str] = [name for name in ("overlay", "passthrough", "fuse") if name in can]
    if privileged:
        mount = [name for name in (*run, "kernel") if name in can]
    else:
        # What is mounted in a namespace is not seen outside of it; overlay then means a holder.
        mount = ["fuse"] if {"device", "fusermount"} <= can else []
        mount += [name for name in ("overlay",) if name in can]
    return Probe(privileged, abilities, run, mount, bool({"overlay", "passthrough"} & can))
