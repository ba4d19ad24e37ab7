"""What commands write: JSON lines, names that are safe on a terminal, and the columns of a listing."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ask
from ..usage import stored

if TYPE_CHECKING:
    from ..entry import Entry

#: Version of every JSON object's fields: grows when a field changes its meaning or goes.
SCHEMA = 1

#: What errors call it.
STDOUT = "standard output"


def emit_json(value: dict[str, Any], out: TextIO | None = None) -> None:
    """Write one object as one line, its schema version first, to standard output or another stream."""
    import json

    line = json.dumps({"schema": SCHEMA, **value}) + "\n"
    if out is None:
        write(line)
    else:
        out.write(line)


def name_fields(name: str, key: str = "name") -> dict[str, str]:
    """Return the JSON fields of a name: the string, and its bytes in base64 where they are not UTF-8."""
    fields = {key: name}
    try:
        name.encode()
    except UnicodeEncodeError:
        import base64

        fields[f"{key}_b64"] = base64.b64encode(os.fsencode(name)).decode()
    return fields


def entry_fields(entry: Entry) -> dict[str, Any]:
    """Return the JSON fields that every listing has for an entry."""
    inode = entry.inode()
    fields: dict[str, Any] = {
        **name_fields(entry.name),
        **name_fields(entry.path, "path"),
        "type": file_type(inode.mode),
        "nid": inode.nid,
        "mode": stat.S_IMODE(inode.mode),
        "nlink": inode.nlink,
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
        "mtime": inode.mtime,
        "mtime_nsec": inode.mtime_nsec,
    }
    if stat.S_ISREG(inode.mode):
        fields |= {"layout": inode.layout, "stored": stored(inode)}
    if stat.S_ISLNK(inode.mode):
        fields |= name_fields(entry.readlink(), "target")
    if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        fields |= {"major": os.major(inode.rdev), "minor": os.minor(inode.rdev)}
    return fields


def file_type(mode: int) -> str:
    """Return the word for a file type."""
    words = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
    }
    return words.get(stat.S_IFMT(mode), "unknown")


def kernel(version: tuple[int, int]) -> str:
    """Return a Linux version as people write it."""
    return f"{version[0]}.{version[1]}"


def short_time(seconds: int) -> str:
    """Return a time of a listing, to the minute, in the local time zone; the number if no calendar has it."""
    return _time("%Y-%m-%d %H:%M", seconds)


def time_text(seconds: int, nanoseconds: int = 0) -> str:
    """Return a time in full with its offset from UTC; the number if no calendar has it."""
    fraction = f".{nanoseconds:09}" if nanoseconds else ""
    return _time(f"%Y-%m-%d %H:%M:%S{fraction} %z", seconds)


def _time(pattern: str, seconds: int) -> str:
    try:
        return time.strftime(pattern, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"@{seconds}"


def quoted(text: str) -> str:
    """Return text with control characters and undecodable bytes as escapes, harmless to a terminal."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not read as UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def shown(name: str) -> str:
    """Return a name as standard output should get it: quoted on a terminal, as it is elsewhere."""
    return quoted(name) if sys.stdout.isatty() else name


def write(text: str) -> None:
    """Write text to standard output; bytes that names could not decode come out as they were."""
    write_bytes(os.fsencode(text))


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output, all of them."""
    rest = memoryview(data)
    while rest:  # with PYTHONUNBUFFERED the stream is a raw one, which may take a part only
        rest = rest[ask(STDOUT, sys.stdout.buffer.write, rest) :]


def flush() -> None:
    """Write what standard output holds back.

    Raises:
        OSError: it can't be written to; its ``filename`` says that it is about standard output.
    """
    ask(STDOUT, sys.stdout.flush)


def human_size(size: int) -> str:
    """Return a number of bytes with a binary unit, to three digits."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        value /= 1024
        if value < 1024 or unit == "EiB":
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    raise AssertionError("unreachable")
