"""Permissions as chmod(1) takes them."""

from __future__ import annotations

import os
import re

__all__ = ["permissions"]

_CLAUSE = re.compile(rb"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(rb"([-+=])([^-+=]*)")
_SHIFTS = {ord("u"): 6, ord("g"): 3, ord("o"): 0}
_RIGHTS = {ord("r"): 4, ord("w"): 2, ord("x"): 1}
_SPECIAL = {ord("u"): 0o4000, ord("g"): 0o2000}
_STICKY = 0o1000


def permissions(text: bytes, *, is_directory: bool) -> int:
    """Give what ``chmod text`` makes of a file without any permissions; no umask counts.

    Raises:
        ValueError: chmod would not understand it.
    """
    mode = 0
    for clause in text.split(b","):
        parts = _CLAUSE.fullmatch(clause)
        if parts is None:
            raise ValueError(f"mode {os.fsdecode(text)!r} is neither octal nor what chmod takes")
        who = b"ugo" if not parts[1] or b"a" in parts[1] else parts[1]
        for action, rights in _ACTION.findall(parts[2]):
            mode = _changed(mode, who, action, rights, is_directory)
    return mode


def _changed(mode: int, who: bytes, action: bytes, rights: bytes, is_directory: bool) -> int:
    """Apply one action to the permissions of some."""
    executable = is_directory or mode & 0o111 != 0
    bits = mask = 0
    # Sticky is nobody's in particular, but not for others alone.
    if set(who) != {ord("o")}:
        bits = _STICKY if b"t" in rights else 0
    if set(who) >= _SHIFTS.keys():
        mask = _STICKY
    for whose in who:
        shift, special = _SHIFTS[whose], _SPECIAL.get(whose, 0)
        mask |= 7 << shift | special
        for right in rights:
            if right in _SHIFTS:
                bits |= (mode >> _SHIFTS[right] & 7) << shift
            elif right == ord("s"):
                bits |= special
            else:
                is_x = right == ord("X") and executable
                bits |= (1 if is_x else _RIGHTS.get(right, 0)) << shift
    if action == b"-":
        return mode & ~bits
    return (mode & ~mask if action == b"=" else mode) | bits
