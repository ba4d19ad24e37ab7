"""Starting our own processes: a new interpreter, nothing inherited but what is named."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from .. import _core
from ..errors import Unavailable

__all__ = ["PACKAGE_PARENT", "environment", "interpreter", "spawn_daemon"]

#: The directory that the package lies in, for processes that look at no site directory.
PACKAGE_PARENT = str(Path(__file__).parent.parent.parent)


def interpreter() -> str:
    """The Python that runs our processes.

    Raises:
        Unavailable: this interpreter is embedded and does not know of one.
    """
    if not sys.executable:
        raise Unavailable(
            "no Python interpreter to run the server with", remedy="set sys.executable to the path of one"
        )
    return sys.executable


def environment() -> dict[str, str]:
    """What an interpreter needs to find its own libraries, and nothing else of the caller's environment."""
    kept = ("LD_LIBRARY_PATH",)
    return {name: os.environ[name] for name in kept if name in os.environ}


def spawn_daemon(role: str, details: dict[str, object], fds: list[int], log: int) -> None:
    """Start a daemon that outlives us and is nobody's child to wait for.

    Args:
        role: ``server``, ``keeper`` or ``holder``.
        details: what ``daemon.py`` wants to know for that role.
        fds: the descriptors that it inherits, under the same numbers.
        log: where its standard output and error go.

    Raises:
        OSError: the interpreter can't be started, or ended at once.
    """
    what = {"role": role, "core": _core.__file__, "package": PACKAGE_PARENT, **details}
    starter = subprocess.Popen(
        [interpreter(), "-I", "-S", str(Path(__file__).with_name("daemon.py")), json.dumps(what)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=environment(),
        pass_fds=fds,
        start_new_session=True,
    )
    # The starter only forks, so this is short; an interrupt must not leave it a zombie.
    try:
        status = starter.wait()
    except BaseException:
        starter.wait()
        raise
    if status != 0:
        raise OSError(errno.EIO, f"the {role} could not be started (status {status})")
