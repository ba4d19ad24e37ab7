"""Manifests in the format of mtree(5), as FreeBSD's mtree and ``bsdtar --format=mtree`` write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .entry import SourceEntry
from .lines import file_below, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lines import Manifest

__all__ = ["mtree"]

_TYPES = {
    b"file": "file",
    b"dir": "directory",
    b"link": "symlink",
    b"char": "char",
    b"block": "block",
    b"fifo": "fifo",
    b"socket": "socket",
}

#: vis(3): three octal digits, or a letter.
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|.|$)", re.DOTALL)
_LETTERS = {
    b"\\": b"\\", b"s": b" ", b"t": b"\t", b"n": b"\n", b"r": b"\r", b"#": b"#", b"a": b"\a", b"b": b"\b",
    b"f": b"\f", b"v": b"\v", b"0": b"\0", b"E": b"\x1b", b'"': b'"', b"=": b"=", b"*": b"*", b"?": b"?",
    b"[": b"[",
}  # fmt: skip


def mtree(manifest: Manifest, *, contents: str | os.PathLike[str] | None = None) -> Iterator[SourceEntry]:
    """Read a manifest in mtree's format, with full paths or with names below a current directory.

    Keywords that say nothing about the tree (digests, flags, names of owners) are not looked at. What
    is ``optional`` is left out if there is no such file.

    Args:
        manifest: its path, or the manifest itself, open for reading bytes.
        contents: the directory with the files, from which also ``contents=`` counts; by default that
            of the manifest, or the current one.

    Raises:
        ValueError: a line makes no sense, or says another size than the file has.
        OSError: reading failed.
    """
    beside = Path(manifest).parent if isinstance(manifest, (str, os.PathLike)) else Path()
    base = beside if contents is None else Path(contents)
    defaults: dict[bytes, bytes] = {}
    above: list[bytes] = []
    with opened(manifest) as (lines, source):
        for number, words in _lines(lines):
            try:
                if words[0] == b"/set":
                    defaults.update(_keyword(word) for word in words[1:])
                elif words[0] == b"/unset":
                    for word in words[1:]:
                        defaults.pop(word, None)
                    if words[1:] == [b"all"]:
                        defaults.clear()
                elif words[0] == b"..":
                    _leave(above)
                else:
                    known = {**defaults, **dict(_keyword(word) for word in words[1:])}
                    yield from _entries(_unescaped(words[0]), known, base, above)
            except ValueError as error:
                raise ValueError(f"{source}:{number}: {error}") from None


def _entries(name: bytes, known: dict[bytes, bytes], base: Path, above: list[bytes]) -> Iterator[SourceEntry]:
    """Make the entry of one line, unless it may be missing and is."""
    is_full = b"/" in name
    entry = _entry(name if is_full else b"/".join([*above, name]), known, base)
    if entry.type == "directory" and not is_full:
        above.append(name)
    if isinstance(entry.content, Path) and (b"optional" in known or b"size" in known):
        if b"optional" in known and not entry.content.exists():
            return
        found, size = entry.content.stat().st_size, int(known.get(b"size", b"-1"))
        if size not in (found, -1):
            raise ValueError(f"{entry.content} has {found} bytes, the size is {size}")
    yield entry


def _leave(above: list[bytes]) -> None:
    if not above:
        raise ValueError('".." climbs above the root')
    above.pop()


def _lines(lines: BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """The words of each line that has some; a backslash at the end continues a line."""
    text = b""
    for number, line in enumerate(lines, 1):
        text += line.rstrip(b"\r\n")
        if text.endswith(b"\\"):
            text = text[:-1] + b" "
            continue
        words = [] if text.lstrip().startswith(b"#") else text.split()
        text = b""
        if words:
            yield number, words


def _keyword(word: bytes) -> tuple[bytes, bytes]:
    name, _, value = word.partition(b"=")
    return name, value


def _entry(path: bytes, known: dict[bytes, bytes], base: Path) -> SourceEntry:
    kind = _TYPES.get(known.get(b"type", b"file"))
    if kind is None:
        raise ValueError(f"type {os.fsdecode(known[b'type'])!r} is unknown")
    seconds, _, nanoseconds = known.get(b"time", b"0").partition(b".")
    content: bytes | os.PathLike[str] = b""
    if kind == "file" and known.get(b"size") != b"0":
        named = known.get(b"contents", known.get(b"content"))
        content = file_below(base, _unescaped(named) if named is not None else path)
    return SourceEntry(
        path=path,
        type=kind,
        content=content,
        target=_unescaped(known.get(b"link", b"")),
        mode=int(known[b"mode"], 8) if b"mode" in known else None,
        uid=int(known.get(b"uid", b"0")),
        gid=int(known.get(b"gid", b"0")),
        mtime_ns=int(seconds) * 1_000_000_000 + int(nanoseconds or b"0"),
        rdev=_device(known.get(b"device", known.get(b"rdev", b"0"))),
    )


def _device(text: bytes) -> tuple[int, int]:
    """FORMAT,MAJOR,MINOR, or one number as this system packs it."""
    parts = text.split(b",")
    if len(parts) == 3:
        return int(parts[1], 0), int(parts[2], 0)
    number = int(text, 0)
    return os.major(number), os.minor(number)


def _unescaped(name: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if len(code) == 3:
            return bytes([int(code, 8)])
        if code not in _LETTERS:
            raise ValueError(f"{match[0]!r} is no escape")
        return _LETTERS[code]

    return _ESCAPE.sub(plain, name)
