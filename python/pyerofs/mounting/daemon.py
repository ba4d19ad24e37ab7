"""The first code of a server, keeper or holder: run as ``python -I -S daemon.py JSON``, never imported.

It leaves its parent (so that whoever started it has no child to wait for), loads what it needs by its path,
and enters it. It looks at no environment variable and no site directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys

TYPE_CHECKING = False  # type checkers take it for typing.TYPE_CHECKING, which costs 6 ms to import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def load_core(path: str) -> ModuleType:
    """Load the compiled module alone: the package around it is not needed."""
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    loader = ExtensionFileLoader("pyerofs._core", path)
    spec = spec_from_file_location("pyerofs._core", path, loader=loader)
    if spec is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def remove_traces(place: dict[str, Any]) -> None:
    """Remove the server's own socket, and its log if nothing was written to it.

    Under the lock that starters take: another server may have taken the name in the meantime, and then the
    socket has another inode number.
    """
    lock = os.open(place["lock"], os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        if os.stat(place["socket"]).st_ino != place["inode"]:
            return
        os.unlink(place["socket"])
        if os.stat(place["log"]).st_size == 0:
            os.unlink(place["log"])
    except OSError:
        return


def main() -> int:
    """Become the daemon that the argument describes."""
    what = json.loads(sys.argv[1])
    # The starter holds back what would end it half-way, and that is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.fork():
        os._exit(0)
    role = what["role"]
    if role == "holder":
        sys.path.append(what["package"])
        from pyerofs.mounting import holder

        return holder.main(what["socket"], what["server"])
    core = load_core(what["core"])
    try:
        if role == "keeper":
            core.keeper_main(json.dumps(what["config"]))
        else:
            core.server_main(json.dumps(what["config"]))
    except OSError as error:
        sys.stderr.write(f"{role}: {error}\n")
        return 1
    except ValueError as error:
        sys.stderr.write(f"{role}: {error}\n")
        return 1
    if role == "server":
        remove_traces(what["place"])
    return 0


sys.exit(main())
