"""Where pyerofs keeps things: the state root (domains), and the runtime directory (records, sockets, logs).

Both are found anew at every call, since tests and services set the environment as they go. The runtime
directory is checked before it is used: whoever can write to it can make our commands talk to a server of
their own.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from ..errors import RefusedByPolicy

__all__ = [
    "check_domain_name",
    "check_private_directory",
    "domain_path",
    "domains_root",
    "is_initial_user_namespace",
    "outer_uid",
    "runtime_dir",
    "runtime_dirs",
    "state_root",
    "state_roots",
]

DOMAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def is_initial_user_namespace() -> bool:
    """Whether this process is in the first user namespace, where uid 0 is the machine's root."""
    try:
        fields = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except OSError:
        return True
    return fields == ["0", "0", "4294967295"]


def outer_uid() -> int:
    """The effective uid as the parent user namespace sees it.

    Every user who is uid 0 in a namespace of their own would otherwise use one name in ``/tmp``.
    """
    uid = os.geteuid()
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return uid
    for line in lines:
        inside, outside, count = (int(field) for field in line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def _is_machine_root() -> bool:
    return os.geteuid() == 0 and is_initial_user_namespace()


def _default_state_root() -> Path:
    if _is_machine_root():
        return Path("/var/lib/pyerofs")
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    base = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return base / "pyerofs"


def state_root() -> Path:
    """The directory that holds ``domains/``; it need not exist yet.

    Raises:
        ValueError: ``$PYEROFS_STATE`` is not an absolute path.
    """
    named = os.environ.get("PYEROFS_STATE", "")
    if not named:
        return _default_state_root()
    if not named.startswith("/"):
        raise ValueError(f"PYEROFS_STATE must be an absolute path, not {named!r}")
    return Path(named)


def state_roots() -> list[Path]:
    """Every state root that this user is known to have, for ``run``, which hides them all."""
    roots = [state_root(), _default_state_root()]
    return list(dict.fromkeys(roots))


def check_domain_name(name: str) -> str:
    """Return ``name`` if a domain may have it.

    Raises:
        ValueError: it may not.
    """
    if DOMAIN_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name for a domain: a letter or digit, then up to 63 letters, digits, "
            "'.', '_' or '-'"
        )
    return name


def domains_root() -> Path:
    """The directory whose entries are the domains; it need not exist yet."""
    return state_root() / "domains"


def domain_path(name: str) -> Path:
    """The directory of the domain ``name``; it need not exist yet.

    Raises:
        ValueError: no domain may have that name.
    """
    return domains_root() / check_domain_name(name)


def _runtime_candidates() -> list[Path]:
    candidates = []
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if _is_machine_root():
        candidates.append(Path("/run/pyerofs"))
    elif given.startswith("/"):
        candidates.append(Path(given) / "pyerofs")
    # A name that anybody could take first, so check_private_directory looks at what is there.
    candidates.append(Path("/tmp") / f"pyerofs-{outer_uid()}")  # noqa: S108
    return candidates


def runtime_dirs() -> list[Path]:
    """Every runtime directory that this user may have left sockets in, for ``run``, which hides them all."""
    named = [*_runtime_candidates(), Path(f"/run/user/{outer_uid()}/pyerofs")]
    return list(dict.fromkeys(named))


def check_private_directory(path: Path) -> None:
    """Refuse a directory that somebody else could have made or can write to.

    Raises:
        RefusedByPolicy: it is a symlink or no directory, belongs to somebody else, or is open to others.
        OSError: it can't be looked at.
    """
    found = path.lstat()
    remedy = f"remove {path}, or set XDG_RUNTIME_DIR to a directory of your own"
    if not stat.S_ISDIR(found.st_mode):
        raise RefusedByPolicy(errno.EACCES, "is not a directory", str(path), remedy=remedy)
    if found.st_uid != os.geteuid():
        raise RefusedByPolicy(errno.EACCES, f"belongs to uid {found.st_uid}", str(path), remedy=remedy)
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise RefusedByPolicy(errno.EACCES, f"has mode {mode:04o}, not 0700", str(path), remedy=remedy)


def runtime_dir() -> Path:
    """The private directory for records, sockets and logs, made if need be.

    Raises:
        RefusedByPolicy: the directory exists and can't be trusted.
        OSError: it can't be made.
    """
    trouble: OSError | None = None
    for path in _runtime_candidates():
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            # No /run/user/UID, or a read-only /run: the next candidate may do.
            trouble = trouble or error
            continue
        check_private_directory(path)
        return path
    assert trouble is not None
    raise trouble
