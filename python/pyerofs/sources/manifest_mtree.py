"""Manifests in the format of mtree(5), as the BSDs' mtree and ``bsdtar --format=mtree`` write them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import vis
from .entry import SourceEntry
from .lines import TYPES, content_below, number, opened, path_below, place, time_ns
from .symbolic_mode import permissions

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

#: A number sign begins a comment, unless it is inside a word; in names it is always written otherwise.
_COMMENT = re.compile(rb"(?:^|(?<=\s))#.*", re.DOTALL)
_NUMBER = re.compile(rb"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}")
_DEVICES = (b"device", b"rdev")

_Keywords = dict[bytes, bytes]


def mtree(manifest: Manifest, *, contents: str | os.PathLike[str] | None = None) -> Iterator[SourceEntry]:
    """Read a manifest in mtree's format: names below a current directory, or paths before or behind keywords.

    Keywords that say nothing about the tree (digests, flags, names of owners) are not looked at. What
    is ``optional`` is left out if there is no such file; ``nochange`` takes everything from the file.

    Args:
        manifest: its path, or the manifest itself, open for reading bytes.
        contents: the directory with the files, from which also ``contents=`` counts; by default that
            of the manifest, or the current one.

    Raises:
        ValueError: a line makes no sense, or says another size than the file has.
        OSError: reading failed, or there is no such file; the message has the line.
    """
    beside = Path(manifest).parent if isinstance(manifest, (str, os.PathLike)) else Path()
    base = beside if contents is None else Path(contents)
    defaults: _Keywords = {}
    above: list[bytes] = []
    with opened(manifest) as (lines, source):
        for nth, words in _lines(lines):
            with place(source, nth):
                entry = _line(words, defaults, above, base)
            if entry is not None:
                yield entry


def _lines(lines: BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """The words of each line that has some; a backslash at the end continues a line."""
    words: list[bytes] = []
    nth = 0
    for nth, line in enumerate(lines, 1):
        text = _COMMENT.sub(b"", line.rstrip(b"\r\n"))
        # An even number of them are backslashes at the end of a name.
        is_continued = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
        words += (text[:-1] if is_continued else text).split()
        if words and not is_continued:
            yield nth, words
            words = []
    if words:
        yield nth, words


def _line(words: list[bytes], defaults: _Keywords, above: list[bytes], base: Path) -> SourceEntry | None:
    """Take one line: what it changes in what holds for the next ones, and its entry, if it has one."""
    # `mtree -D` has paths last, and no keyword looks like one.
    if _is_path(words[-1]) and not _is_path(words[0]):
        words = [words[-1], *words[:-1]]
    first, *keywords = words
    if first == b"/set":
        defaults.update(_keyword(word) for word in keywords)
    elif first == b"/unset":
        for word in list(defaults) if keywords == [b"all"] else keywords:
            defaults.pop(word, None)
    elif first == b"..":
        if not above:
            raise ValueError('".." climbs above the root')
        above.pop()
    else:
        known = {**defaults, **dict(_keyword(word) for word in keywords)}
        name = vis.plain(first)
        path = name if b"/" in name else b"/".join([*above, name])
        try:
            if b"nochange" in known:
                entry = _unchanged(path, path_below(base, _content_name(path, known)))
            else:
                entry = _entry(path, known, base)
        except FileNotFoundError:
            if b"optional" in known:
                return None
            raise
        if entry.type == "directory" and b"/" not in name:
            above.append(name)
        return entry
    return None


def _is_path(word: bytes) -> bool:
    return word in (b".", b"..") or word.startswith((b"./", b"/"))


def _keyword(word: bytes) -> tuple[bytes, bytes]:
    name, _, value = word.partition(b"=")
    return name, value


def _content_name(path: bytes, known: _Keywords) -> bytes:
    """Give the name, below the directory of contents, of the file that an entry is about."""
    named = known.get(b"contents", known.get(b"content"))
    return path if named is None else vis.plain(named)


def _entry(path: bytes, known: _Keywords, base: Path) -> SourceEntry:
    word = known.get(b"type", b"file")
    kind = _TYPES.get(word)
    if kind is None:
        raise ValueError(f"type {os.fsdecode(word)!r} is unknown")
    size = number(known[b"size"], "size") if b"size" in known else None
    content: bytes | os.PathLike[str] = b""
    if kind == "file" and size != 0:
        content = content_below(base, _content_name(path, known), size)
    # Without these the entry would be something else: a device 0:0 is a whiteout.
    for needed, keywords in (("symlink", (b"link",)), ("char", _DEVICES), ("block", _DEVICES)):
        if kind == needed and not any(keyword in known for keyword in keywords):
            raise ValueError(f"type={os.fsdecode(word)} without {os.fsdecode(keywords[0])}=")
    return SourceEntry(
        path=path,
        type=kind,
        content=content,
        target=vis.plain(known[b"link"]) if kind == "symlink" else b"",
        mode=_mode(known[b"mode"], kind) if b"mode" in known else None,
        uid=number(known.get(b"uid", b"0"), "uid"),
        gid=number(known.get(b"gid", b"0"), "gid"),
        mtime_ns=time_ns(known.get(b"time", b"0")),
        rdev=_device(known) if kind in ("char", "block") else (0, 0),
    )


def _unchanged(path: bytes, file: Path) -> SourceEntry:
    """Make an entry with everything as a file has it."""
    found = file.lstat()
    kind = TYPES[stat.S_IFMT(found.st_mode)]
    return SourceEntry(
        path=path,
        type=kind,
        content=file if kind == "file" else b"",
        # Path.readlink() would make it a tidier one.
        target=os.readlink(file) if kind == "symlink" else "",  # noqa: PTH115
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        rdev=(os.major(found.st_rdev), os.minor(found.st_rdev)),
    )


def _mode(field: bytes, kind: str) -> int:
    if field[:1].isdigit():
        return number(field, "mode", 8)
    return permissions(field, is_directory=kind == "directory")


def _device(known: _Keywords) -> tuple[int, int]:
    """FORMAT,MAJOR,MINOR, or one number as this system packs it."""
    field = next(known[name] for name in _DEVICES if name in known)
    form, *numbers = field.split(b",")
    if len(numbers) not in (0, 2) or not all(_NUMBER.fullmatch(part) for part in numbers or [form]):
        raise ValueError(f"device {os.fsdecode(field)!r} is neither a number nor FORMAT,MAJOR,MINOR")
    found = [int(part, 16 if part.startswith(b"0x") else 10) for part in numbers or [form]]
    return (found[0], found[1]) if numbers else (os.major(found[0]), os.minor(found[0]))
