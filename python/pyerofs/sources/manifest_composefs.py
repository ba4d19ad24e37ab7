"""The manifest that ``composefs-info dump`` writes and ``mkcomposefs --from-file`` reads."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from .entry import SourceEntry
from .lines import TYPES, content_below, number, opened, place, time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lines import Manifest

__all__ = ["composefs_dump"]

#: PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST
_FIELDS = 11

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_LETTERS = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def composefs_dump(
    manifest: Manifest, *, contents: str | os.PathLike[str] | None = None
) -> Iterator[SourceEntry]:
    """Read a manifest in composefs' dump format.

    Digests in it are not looked at: the files themselves are read.

    Args:
        manifest: its path, or the manifest itself, open for reading bytes.
        contents: the directory that the payloads of regular files are relative to (composefs' object store).

    Raises:
        ValueError: a line makes no sense, or names a payload and there is no ``contents``.
        OSError: reading failed.
    """
    with opened(manifest) as (lines, source):
        for nth, line in enumerate(lines, 1):
            line = line.rstrip(b"\n")
            if not line:
                continue
            with place(source, nth):
                entry = _entry(line, contents)
            yield entry


def _entry(line: bytes, contents: str | os.PathLike[str] | None) -> SourceEntry:
    fields = line.split(b" ")
    if len(fields) < _FIELDS:
        raise ValueError(f"{len(fields)} fields, there have to be {_FIELDS}")
    path, size, mode, _, uid, gid, rdev, mtime, payload, content, _ = fields[:_FIELDS]
    name = _unescaped(path)
    if not name.startswith(b"/"):
        raise ValueError("the path is not absolute")
    if mode.startswith(b"@"):
        return SourceEntry(path=name, type="link", target=_unescaped(payload))
    bits = number(mode, "mode", 8)
    kind = TYPES.get(stat.S_IFMT(bits))
    if kind is None:
        raise ValueError(f"mode {bits:#o} has no type")
    device = number(rdev, "device")
    return SourceEntry(
        path=name,
        type=kind,
        content=_content(number(size, "size"), payload, content, contents) if kind == "file" else b"",
        target=_optional(payload) if kind == "symlink" else "",
        mode=stat.S_IMODE(bits),
        uid=number(uid, "uid"),
        gid=number(gid, "gid"),
        mtime_ns=time_ns(mtime),
        xattrs=dict(_xattr(field) for field in fields[_FIELDS:]),
        rdev=(os.major(device), os.minor(device)),
    )


def _content(
    size: int, payload: bytes, content: bytes, contents: str | os.PathLike[str] | None
) -> bytes | os.PathLike[str]:
    inline, file = _optional(content), _optional(payload)
    if inline or not file:
        if len(inline) != size:
            raise ValueError(f"{len(inline)} bytes of content, the size is {size}")
        return inline
    if contents is None:
        raise ValueError(
            f"the content is in {os.fsdecode(file)!r}, and no directory of contents was given (--contents)"
        )
    return content_below(contents, file, size)


def _xattr(field: bytes) -> tuple[str, bytes]:
    name, equals, value = field.partition(b"=")
    if not equals:
        raise ValueError(f"{field!r} is no xattr")
    return os.fsdecode(_unescaped(name)), _unescaped(value)


def _optional(field: bytes) -> bytes:
    return b"" if field == b"-" else _unescaped(field)


def _unescaped(field: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code[:1] == b"x" and len(code) == 3:
            return bytes([int(code[1:], 16)])
        if code not in _LETTERS:
            raise ValueError(f"{match[0]!r} is no escape")
        return _LETTERS[code]

    return _ESCAPE.sub(plain, field)
