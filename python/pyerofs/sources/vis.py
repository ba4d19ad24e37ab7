"""Names as vis(3) encodes them: in octal, as libarchive does, or as C and ``cat -v`` would, as mtree does."""

from __future__ import annotations

import re

__all__ = ["plain"]

_ESCAPE = re.compile(
    rb"\\(?:(?P<octal>[0-3]?[0-7]{1,2})|x(?P<hex>[0-9a-fA-F]{2})|(?P<marks>M-|M\^|\^)(?P<byte>.)|(?P<letter>.|$))",
    re.DOTALL,
)
_LETTERS = {
    b"\\": b"\\", b"s": b" ", b"t": b"\t", b"n": b"\n", b"r": b"\r", b"#": b"#", b"a": b"\a", b"b": b"\b",
    b"f": b"\f", b"v": b"\v", b"E": b"\x1b", b'"': b'"', b"=": b"=", b"*": b"*", b"?": b"?", b"[": b"[",
}  # fmt: skip


def plain(name: bytes) -> bytes:
    r"""Decode ``\040``, ``\s``, ``\x20``, ``\M-C`` (0xc3), ``\^A`` (1) and ``\M^A`` (0x81).

    Raises:
        ValueError: a backslash is followed by something else.
    """
    return _ESCAPE.sub(_byte, name)


def _byte(match: re.Match[bytes]) -> bytes:
    if match["octal"]:
        return bytes([int(match["octal"], 8)])
    if match["hex"]:
        return bytes([int(match["hex"], 16)])
    if match["marks"]:
        byte = match["byte"][0]
        if match["marks"].endswith(b"^"):
            byte = 0x7F if byte == ord("?") else byte & 0x1F
        return bytes([byte | (0x80 if match["marks"].startswith(b"M") else 0)])
    if match["letter"] not in _LETTERS:
        raise ValueError(f"{match[0]!r} is no escape")
    return _LETTERS[match["letter"]]
