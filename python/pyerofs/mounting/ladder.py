"""Which back end: the order in which they are tried, and why one was passed over.

Nothing here looks at version numbers. A rung is tried, and if the machine can't do it the next one is;
what is at fault with the image ends the climb.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import Unavailable, describe
from .fuse import make_fuse
from .kernel import make_kernel
from .overlay import make_overlay

if TYPE_CHECKING:
    from .protocol import Connection
    from .request import MountRequest

__all__ = ["BACKENDS", "climb", "rungs"]

#: What ``--backend`` takes.
BACKENDS = ("auto", "kernel", "overlay", "fuse")


def rungs(backend: str, *, domain: bool, machine_admin: bool) -> list[str]:
    """The back ends to try, best first, for a process that can mount where it is.

    Args:
        backend: one of :data:`BACKENDS`.
        domain: whether a domain is named.
        machine_admin: whether it has CAP_SYS_ADMIN over the machine, which passthrough wants.

    Raises:
        ValueError: there is no such back end, or ``overlay`` is named without a domain.
    """
    shared_fuse = "passthrough" if domain and machine_admin else "fuse"
    match backend:
        case "auto":
            return ["overlay", shared_fuse] if domain else ["fuse"]
        case "overlay":
            if not domain:
                raise ValueError("the overlay back end needs a domain: its files are the domain's objects")
            return ["overlay"]
        case "fuse":
            return [shared_fuse]
        case "kernel":
            return ["kernel"]
        case _:
            raise ValueError(f"no back end {backend!r}: it is one of {', '.join(BACKENDS)}")


def _make(rung: str, request: MountRequest, server: Connection | None) -> int:
    if rung == "kernel":
        return make_kernel(request)
    if server is None:
        raise ValueError(f"the back end {rung} needs a server")
    if rung == "overlay":
        return make_overlay(request, server)
    return make_fuse(request, server, passthrough=rung == "passthrough")


def climb(ladder: list[str], request: MountRequest, server: Connection | None) -> tuple[int, str, list[str]]:
    """Try the back ends in turn.

    Returns:
        The descriptor of a mount that is attached nowhere, the back end that made it, and a sentence for each
        one that could not.

    Raises:
        Unavailable: none of them can be had here; the last one's reason, with the others' in front.
        ErofsError: the image is at fault.
    """
    passed: list[str] = []
    for rung in ladder:
        try:
            return _make(rung, request, server), rung, passed
        except Unavailable as error:
            if rung == ladder[-1]:
                if not passed:
                    raise
                message = "; ".join([*passed, f"{rung}: {error.strerror}"])
                raise Unavailable(errno.EOPNOTSUPP, message, remedy=error.remedy) from error
            passed.append(f"{rung}: {describe(error)}")
    raise ValueError("no back end was named")


def unshared_note(rung: str, passed: list[str], domain: str | None) -> list[str]:
    """What the user should hear when a domain was named and the mount does not share in it."""
    if domain is None or rung != "fuse":
        return []
    why = f" ({'; '.join(passed)})" if passed else ""
    return [f"nothing is shared in domain {domain}: mounted with plain FUSE{why}"]
