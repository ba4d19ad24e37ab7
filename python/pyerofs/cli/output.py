"""What commands write: JSON lines, names that are safe on a terminal, and the columns of a listing."""

from __future__ import annotations

import os
import sys
from typing import Any

#: Version of every JSON object's fields: grows when a field changes its meaning or goes.
SCHEMA = 1


def emit_json(value: dict[str, Any]) -> None:
    """Write one object as one line, its schema version first."""
    import json

    sys.stdout.write(json.dumps({"schema": SCHEMA, **value}, separators=(", ", ": ")) + "\n")


def name_fields(name: str, key: str = "name") -> dict[str, str]:
    """Return the JSON fields of a name: the string, and its bytes in base64 where they are not UTF-8."""
    fields = {key: name}
    try:
        name.encode()
    except UnicodeEncodeError:
        import base64

        fields[f"{key}_b64"] = base64.b64encode(os.fsencode(name)).decode()
    return fields


def bytes_fields(value: bytes, key: str = "value") -> dict[str, str]:
    """Return the JSON fields of a byte string, in the same two forms as a name."""
    return name_fields(os.fsdecode(value), key)


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
    sys.stdout.buffer.write(os.fsencode(text))


def write_name(name: str, end: str = "\n") -> None:
    """Write one name; with ``end="\\0"`` never quoted, for ``xargs -0``."""
    write((name if end == "\0" else shown(name)) + end)


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
