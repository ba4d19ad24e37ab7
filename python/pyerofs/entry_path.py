"""The path of an entry: what can be said of it without looking into the image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    Path = str | os.PathLike[str]

__all__ = ["EntryPath"]


class EntryPath:
    """An absolute path in an image."""

    __slots__ = ("_path",)

    _path: str

    @property
    def path(self) -> str:
        """The absolute path in the image."""
        return self._path

    @property
    def name(self) -> str:
        """The last component; empty for the root."""
        return self._path.rpartition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        """The components, the root's ``/`` first."""
        return ("/", *(part for part in self._path.split("/") if part))

    @property
    def suffix(self) -> str:
        """The name's last suffix with its dot, or an empty string."""
        return self._pure().suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes of the name."""
        return self._pure().suffixes

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self._pure().stem

    def relative_to(self, other: EntryPath | Path) -> PurePosixPath:
        """Return the path from another entry of the image to this one.

        Raises:
            ValueError: this entry is not below the other.
        """
        return self._pure().relative_to(_path_of(other))

    def is_relative_to(self, other: EntryPath | Path) -> bool:
        """Whether this path is the other or below it."""
        return self._pure().is_relative_to(_path_of(other))

    def match(self, pattern: str) -> bool:
        """Whether the path matches a pattern, as ``PurePath.match``."""
        return self._pure().match(pattern)

    def _pure(self) -> PurePosixPath:
        from pathlib import PurePosixPath

        return PurePosixPath(self._path)

    def __str__(self) -> str:
        return self._path


def below(path: str, *others: Path) -> str:
    """Return the path of others below a path, as ``joinpath`` puts them together.

    Raises:
        TypeError: one of them is bytes.
    """
    for other in others:
        text = os.fspath(other)
        if not isinstance(text, str):
            raise TypeError(f"a path in an image is str, not {type(text).__name__}")
        if text.startswith("/"):
            path = "/"
        for part in text.split("/"):
            if part and part != ".":
                path = f"{path}/{part}" if path != "/" else f"/{part}"
    return path


def _path_of(other: EntryPath | Path) -> str:
    return other.path if isinstance(other, EntryPath) else os.fspath(other)
