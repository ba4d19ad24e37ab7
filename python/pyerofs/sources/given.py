"""What the caller of :func:`pyerofs.build` gave as a source, as the builder takes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .entry import SourceEntry

__all__ = ["plain_sources"]


def plain_sources(given: Any) -> list[tuple[str, Any, str]]:
    """Tell apart one source and several; each becomes its kind, what it is, and its name for messages.

    Raises:
        TypeError: something is no source. Entries are looked at only when the builder takes them.
    """
    if isinstance(given, (list, tuple)) and not (given and isinstance(given[0], SourceEntry)):
        return [_plain(source) for source in given]
    return [_plain(given)]


def _plain(source: Any) -> tuple[str, Any, str]:
    from ..image import Image

    match source:
        case bool():
            pass
        case int():
            return "descriptor", source, "<stdin>" if source == 0 else f"<descriptor {source}>"
        case str() | os.PathLike():
            return "path", os.fspath(source), os.fspath(source)
        case Image():
            return "image", source.core, source.name
        case Mapping():
            return (
                "entries",
                (_plain_entry(_entry(path, value)) for path, value in source.items()),
                "<mapping>",
            )
        case bytes() | bytearray() | memoryview():
            raise TypeError(
                "bytes are no source; io.BytesIO() makes an archive of them, pyerofs.open() an image"
            )
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return "stream", source, name if isinstance(name, str) else "<stream>"
    if isinstance(source, Iterable):
        return "entries", (_plain_entry(_checked(entry)) for entry in source), "<entries>"
    raise TypeError(f"{type(source).__name__} is no source of a tree")


def _entry(path: Any, value: Any) -> SourceEntry:
    """One item of a mapping: a path and an entry, or a path and the content of a file."""
    if isinstance(value, SourceEntry):
        from dataclasses import replace

        return replace(value, path=path)
    if value is None:
        return SourceEntry(path=path, type="directory")
    return SourceEntry(path=path, content=value.encode() if isinstance(value, str) else value)


def _checked(entry: Any) -> SourceEntry:
    if not isinstance(entry, SourceEntry):
        raise TypeError(f"a source gave {type(entry).__name__}, not a SourceEntry")
    return entry


def _plain_entry(entry: SourceEntry) -> tuple[Any, ...]:
    kind, what = _what(entry)
    mode = entry.mode if entry.mode is not None else (0o755 if entry.type == "directory" else 0o644)
    xattrs = [(os.fsencode(name), bytes(value)) for name, value in entry.xattrs.items()]
    time = divmod(entry.mtime_ns, 1_000_000_000)
    return (os.fsencode(entry.path), kind, what, mode, entry.uid, entry.gid, time, xattrs)


def _what(entry: SourceEntry) -> tuple[str, Any]:
    match entry.type:
        case "file":
            return _content(entry)
        case "symlink" | "link":
            return entry.type, os.fsencode(entry.target)
        case "char" | "block":
            return entry.type, tuple(entry.rdev)
        case _:
            return entry.type, None


def _content(entry: SourceEntry) -> tuple[str, Any]:
    match entry.content:
        case bytes() | bytearray() | memoryview():
            return "bytes", bytes(entry.content)
        case os.PathLike():
            return "path", os.fspath(entry.content)
        case (file, int(offset), int(size)):
            if offset < 0 or size < 0 or offset + size >= 2**63:
                raise ValueError(f"{entry.path!r}: no file has {size} bytes from {offset} on")
            return "part", (file if isinstance(file, int) else file.fileno(), offset, size)
    raise TypeError(
        f"{entry.path!r}: content is {type(entry.content).__name__}, "
        "not bytes, a path object or (file, offset, size)"
    )
