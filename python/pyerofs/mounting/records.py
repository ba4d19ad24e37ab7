"""Mount records: one small JSON file per mount in the runtime directory.

A record is written once the mount stands and removed when it is gone. What a record says is never
believed alone: :func:`live_records` compares it with the kernel's mount table and with the processes it
names, and drops what no longer stands (after an abort, a plain ``umount`` or a reboot).
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from .mountinfo import MountPoint, read_mountinfo, topmost
from .paths import runtime_dir
from .processes import is_same_process

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MountRecord",
    "is_elsewhere",
    "is_of",
    "is_ours",
    "live_records",
    "load_records",
    "mount_namespace",
    "new_id",
    "remove_record",
    "save_record",
]


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What is known about one mount.

    Attributes:
        id: names the record and the mount at its server.
        target: where it is mounted, in the mount namespace of ``holder`` if there is one.
        path: where a process of this user reaches it.
        image: the image's absolute path.
        backend: ``kernel``, ``overlay``, ``fuse`` or ``passthrough``.
        domain: the domain's name, if any.
        server: the name of the server's socket and log, None for the kernel back end.
        log: the server's log file.
        server_process: the server's pid and when it started, in clock ticks.
        holder: the process that keeps the mount namespace, and when it started, in clock ticks.
        namespace: the inode number of the mount namespace that ``target`` lies in.
        uid: who mounted it.
        directory: a mount point of our own making, to be removed with the mount.
    """

    id: str
    target: str
    path: str
    image: str
    backend: str
    domain: str | None = None
    server: str | None = None
    log: str | None = None
    server_process: tuple[int, int] | None = None
    holder: tuple[int, int] | None = None
    namespace: int = 0
    uid: int = 0
    directory: bool = False


def new_id() -> str:
    """A fresh name for a mount."""
    return secrets.token_hex(8)


def mount_namespace() -> int:
    """The inode number that names this process's mount namespace."""
    return os.stat("/proc/self/ns/mnt").st_ino


def _directory() -> Path:
    path = runtime_dir() / "mounts"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def save_record(record: MountRecord) -> None:
    """Write the record so that it is seen whole or not at all.

    Raises:
        OSError: the runtime directory can't be written to.
    """
    directory = _directory()
    partial = directory / f".{record.id}.tmp"
    partial.write_text(json.dumps({"v": 1, **asdict(record)}), encoding="utf-8")
    partial.rename(directory / f"{record.id}.json")


def remove_record(record: MountRecord) -> None:
    """Forget the mount, and remove its mount point if we made it."""
    (_directory() / f"{record.id}.json").unlink(missing_ok=True)
    if record.directory:
        try:
            os.rmdir(record.target)
        except OSError:
            # Something is in the way: a directory that is in use is better kept.
            return


def _load(path: Path) -> MountRecord | None:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("v") != 1:
            return None
        known = {field.name: values[field.name] for field in fields(MountRecord) if field.name in values}
        for name in ("server_process", "holder"):
            if known.get(name) is not None:
                pid, started = known[name]
                known[name] = (int(pid), int(started))
        return MountRecord(**known)
    except (OSError, ValueError, TypeError):
        return None


def load_records() -> list[MountRecord]:
    """Every readable record, oldest first, whether or not its mount still stands."""
    paths = sorted(_directory().glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [record for record in map(_load, paths) if record is not None]


def is_ours(point: MountPoint) -> bool:
    """Whether a mount looks like one that pyerofs made."""
    return point.fstype in ("fuse.pyerofs", "erofs") or point.source == "pyerofs"


def is_of(point: MountPoint, record: MountRecord) -> bool:
    """Whether a mount looks like the one that the record tells of: another may have taken its place."""
    if record.backend == "overlay":
        return (point.fstype, point.source) == ("overlay", "pyerofs")
    fstype = "erofs" if record.backend == "kernel" else "fuse.pyerofs"
    return (point.fstype, point.source) == (fstype, record.image)


def is_elsewhere(record: MountRecord) -> bool:
    """Whether the mount lies in a mount namespace that this process neither sees nor can reach."""
    return record.holder is None and record.namespace not in (0, mount_namespace())


def is_live(record: MountRecord, points: list[MountPoint]) -> bool:
    """Whether the mount that the record tells of still stands."""
    if record.holder is not None:
        return is_same_process(*record.holder)
    if is_elsewhere(record):
        # Its mount table is not ours to see, so the server has to do as the witness.
        return record.server_process is None or is_same_process(*record.server_process)
    point = topmost(record.target, points)
    return point is not None and is_of(point, record)


def live_records() -> list[MountRecord]:
    """The records of the mounts that stand; the files of the others are removed."""
    points = read_mountinfo()
    live = []
    for record in load_records():
        if is_live(record, points):
            live.append(record)
        else:
            remove_record(record)
    return live
