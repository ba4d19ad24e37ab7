"""The extended attributes of an entry as a mapping."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .errors import ask

if TYPE_CHECKING:
    from .entry import Entry

__all__ = ["XattrMap"]


class XattrMap(Mapping[str, bytes]):
    """Names with their namespace (``user.``, ``security.``, ...) and raw values.

    A single look-up uses the image's name filter and does not read the other attributes.
    """

    __slots__ = ("_all", "_entry", "_nid")

    def __init__(self, entry: Entry, nid: int) -> None:
        self._entry = entry
        self._nid = nid
        self._all: dict[str, bytes] | None = None

    def _load(self) -> dict[str, bytes]:
        if self._all is None:
            found = ask(self._entry.path, self._entry.image.core.xattrs, self._nid)
            self._all = {os.fsdecode(name): value for name, value in found}
        return self._all

    def __getitem__(self, name: str) -> bytes:
        if self._all is not None:
            return self._all[name]
        value = ask(self._entry.path, self._entry.image.core.xattr, self._nid, os.fsencode(name))
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def __repr__(self) -> str:
        return f"XattrMap({self._load()!r})"
