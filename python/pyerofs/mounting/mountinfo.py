"""What the kernel says is mounted: ``/proc/PID/mountinfo``, read into values."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MountPoint", "mount_id_of", "read_mountinfo", "topmost"]

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of mountinfo. ``target`` and ``source`` are decoded as :func:`os.fsdecode` does."""

    mount_id: int
    parent_id: int
    device: str
    target: str
    options: str
    fstype: str
    source: str


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def _parse(line: bytes) -> MountPoint | None:
    left, separator, right = line.partition(b" - ")
    fields, kind = left.split(b" "), right.split(b" ")
    if not separator or len(fields) < 6 or len(kind) < 2:
        return None
    return MountPoint(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2].decode("ascii"),
        target=_unescape(fields[4]),
        options=fields[5].decode("ascii", "replace"),
        fstype=kind[0].decode("ascii", "replace"),
        source=_unescape(kind[1]),
    )


def read_mountinfo(pid: int | str = "self") -> list[MountPoint]:
    """The mounts that the process ``pid`` sees, in the kernel's order.

    Raises:
        OSError: there is no such process, or it may not be looked at.
    """
    lines = Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()
    return [point for point in map(_parse, lines) if point is not None]


def topmost(target: str, points: list[MountPoint]) -> MountPoint | None:
    """The mount that one sees at ``target``: of several on one place the last one covers the others."""
    found = [point for point in points if point.target == target]
    return found[-1] if found else None


def mount_id_of(fd: int) -> int | None:
    """The id of the mount through which the descriptor ``fd`` was opened, as mountinfo counts them."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == "mnt_id":
            return int(value)
    return None
