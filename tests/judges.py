"""Who says what is in an image: each judge turns what it sees into a snapshot, and snapshots are compared.

A snapshot is every name of a tree with all that stat, readlink, listxattr and read tell about it. Sizes
and link counts of directories belong to a filesystem, not to a tree, so they are compared only between
judges of the same image.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import subprocess
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pyerofs
    from peers import Peers

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
BUFFER = 1 << 20
EXT4_FIRST = -(2**31) * 10**9
EXT4_LAST = (2**34 - 2**31) * 10**9


@dataclass(frozen=True)
class Entry:
    """Everything about one name; `group` is the first name of its inode, `ino` the inode's number."""

    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    mtime_ns: int
    rdev: int
    ino: int
    group: bytes
    target: bytes | None
    content: str | None
    xattrs: tuple[tuple[bytes, bytes], ...]


Snapshot = dict[bytes, Entry]


def of_directory(root: Path) -> Snapshot:
    """What the kernel says of the tree at `root`."""
    snapshot: Snapshot = {}
    groups: dict[tuple[int, int], bytes] = {}
    device = root.stat().st_dev

    def visit(path: bytes, name: bytes) -> None:
        about = os.lstat(path)
        kind = stat.S_IFMT(about.st_mode)
        key = (about.st_dev, about.st_ino)
        first = name if kind == stat.S_IFDIR else groups.setdefault(key, name)
        special = kind in (stat.S_IFCHR, stat.S_IFBLK)
        snapshot[name] = Entry(
            mode=about.st_mode,
            uid=about.st_uid,
            gid=about.st_gid,
            size=about.st_size,
            nlink=about.st_nlink,
            mtime_ns=about.st_mtime_ns,
            rdev=about.st_rdev if special else 0,
            ino=about.st_ino,
            group=first,
            target=os.readlink(path) if kind == stat.S_IFLNK else None,
            content=digest_of_file(path) if kind == stat.S_IFREG else None,
            xattrs=xattrs_of(path),
        )
        if kind == stat.S_IFDIR and about.st_dev == device:
            for inner in sorted(os.listdir(path)):
                visit(path + b"/" + inner, name + b"/" + inner if name else inner)

    visit(os.fsencode(root), b"")
    return snapshot


def digest_of_file(path: bytes) -> str:
    """SHA-256 of what read(2) returns."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(BUFFER):
            digest.update(piece)
    return digest.hexdigest()


def xattrs_of(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Every xattr that the kernel lists, in order of name."""
    names = os.listxattr(path, follow_symlinks=False)
    pairs = [(os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names]
    return tuple(sorted(pairs))


def of_image(image: pyerofs.Image) -> Snapshot:
    """What our own reader says of an image."""
    snapshot: Snapshot = {}
    groups: dict[int, bytes] = {}

    def visit(entry: pyerofs.Entry, name: bytes) -> None:
        about = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(about.st_mode)
        first = name if kind == stat.S_IFDIR else groups.setdefault(about.st_ino, name)
        listed = entry.extended_attributes(follow_symlinks=False)
        content = None
        if kind == stat.S_IFREG:
            digest = hashlib.sha256()
            with entry.open("rb") as file:
                while piece := file.read(BUFFER):
                    digest.update(piece)
            content = digest.hexdigest()
        snapshot[name] = Entry(
            mode=about.st_mode,
            uid=about.st_uid,
            gid=about.st_gid,
            size=about.st_size,
            nlink=about.st_nlink,
            mtime_ns=about.st_mtime_ns,
            rdev=about.st_rdev,
            ino=about.st_ino,
            group=first,
            target=os.fsencode(entry.readlink()) if kind == stat.S_IFLNK else None,
            content=content,
            xattrs=tuple(sorted((os.fsencode(key), value) for key, value in listed.items())),
        )
        if kind == stat.S_IFDIR:
            for inner in sorted(entry.iterdir(), key=lambda found: os.fsencode(found.name)):
                raw = os.fsencode(inner.name)
                visit(inner, name + b"/" + raw if name else raw)

    visit(image.root, b"")
    return snapshot


@contextlib.contextmanager
def kernel_mount(image: Path, at: Path, *, devices: Sequence[Path] = (), options: str = "") -> Iterator[Path]:
    """Mount with the kernel's EROFS, straight from the file; only ever an image that a builder made."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [f"device={device}" for device in devices]
    words += [options] if options else []
    at.mkdir(exist_ok=True)
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV
    arguments = (os.fsencode(image), os.fsencode(at), b"erofs", flags, ",".join(words).encode())
    if libc.mount(*arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"mount -t erofs: {os.strerror(error)}", os.fspath(image))
    try:
        yield at
    finally:
        unmount(at)


@contextlib.contextmanager
def erofsfuse_mount(peers: Peers, image: Path, at: Path, *, devices: Sequence[Path] = ()) -> Iterator[Path]:
    """Mount an image with erofsfuse."""
    at.mkdir(exist_ok=True)
    peers.run("erofsfuse", *(f"--device={device}" for device in devices), image, at)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at: Path) -> None:
    """Unmount, with patience for whoever still looks."""
    for _ in range(50):
        if subprocess.run(["umount", at], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.02)
    subprocess.run(["umount", "-l", at], check=True)


def with_times(snapshot: Snapshot, change: Callable[[int], int]) -> Snapshot:
    """The snapshot with every time in nanoseconds changed by `change`."""
    return {path: replace(entry, mtime_ns=change(entry.mtime_ns)) for path, entry in snapshot.items()}


def as_tree(snapshot: Snapshot) -> Snapshot:
    """The snapshot without inode numbers, and without sizes and link counts of directories."""
    blanked = {}
    for path, entry in snapshot.items():
        changed = replace(entry, ino=0)
        if stat.S_ISDIR(entry.mode):
            changed = replace(changed, size=0, nlink=0)
        blanked[path] = changed
    return blanked


def as_extracted(snapshot: Snapshot, source: Snapshot) -> Snapshot:
    """The snapshot of a tree or its copy, without what fsck.erofs 1.9.4 loses when it extracts.

    It gives up a file's xattrs at the first empty value, sets capabilities before the owner, which clears
    them, and writes to a filesystem whose times end in 1901 and 2446.
    """
    seen = {}
    for path, entry in snapshot.items():
        kept = [pair for pair in entry.xattrs if pair[0] != b"security.capability"]
        if path in source and any(not value for _name, value in source[path].xattrs):
            kept = []
        when = min(max(entry.mtime_ns, EXT4_FIRST), EXT4_LAST)
        seen[path] = replace(entry, xattrs=tuple(kept), mtime_ns=when // 10**9)
    return seen


def keeping_xattrs(snapshot: Snapshot, keep: Callable[[bytes], bool]) -> Snapshot:
    """The snapshot with only those xattrs whose name `keep` accepts."""
    return {
        path: replace(entry, xattrs=tuple(pair for pair in entry.xattrs if keep(pair[0])))
        for path, entry in snapshot.items()
    }


def differences(expected: Snapshot, found: Snapshot, limit: int = 20) -> list[str]:
    """What differs, in words; empty where nothing does."""
    lines = [f"missing: {path!r}" for path in sorted(expected.keys() - found.keys())]
    lines += [f"superfluous: {path!r}" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        one, other = expected[path], found[path]
        if one == other:
            continue
        for field in fields(Entry):
            wanted, got = getattr(one, field.name), getattr(other, field.name)
            if wanted != got:
                lines.append(f"{path!r}: {field.name}: expected {wanted!r:.200}, found {got!r:.200}")
    more = len(lines) - limit
    return lines if more <= 0 else [*lines[:limit], f"... and {more} more"]


def assert_same(expected: Snapshot, found: Snapshot, who: str) -> None:
    """Fail with the differences in words."""
    lines = differences(expected, found)
    assert not lines, f"{who}:\n  " + "\n  ".join(lines)
