"""Walking and matching below a directory.

Both end on any image: no directory is entered twice, and the limits on depth and entries are those of the
walk in Rust.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from fnmatch import translate
from functools import partial
from typing import TYPE_CHECKING

from ._core import Inode
from .errors import CorruptImage, ask, over_limit

if TYPE_CHECKING:
    from ._core import Scan
    from .entry import Entry
    from .image import Image

__all__: list[str] = []

_Step = tuple["Entry", list[str], list[str]]
_OnError = Callable[[OSError], object]


class Bounds:
    """What keeps a walk that chooses its way itself from going on for ever.

    It may go so deep and see so many entries, and enters no directory twice.
    """

    def __init__(self, image: Image) -> None:
        self._depth = image.limit("depth")
        self._entries = image.limit("walk_entries")
        self._seen = 0
        self._entered: set[int] = set()
        #: Whether the walk has seen all that it may.
        self.used_up = False

    def enter(self, path: str, depth: int) -> None:
        """Look at a directory so many below the one that the walk began with.

        Raises:
            LimitExceeded: it is too deep.
        """
        if depth >= self._depth:
            raise over_limit(path, "depth", depth + 1, self._depth)

    def visit(self, path: str, nid: int, *, links: bool = False) -> bool:
        """Note a directory as entered. Where `links` are followed, False for one that was entered before.

        Raises:
            CorruptImage: it was entered before, and no honest link leads there.
        """
        if nid not in self._entered:
            self._entered.add(nid)
            return True
        if links:  # two links to one directory are honest, and one visit is enough
            return False
        message = "the directory is reached a second time, so the tree loops"
        raise CorruptImage(CorruptImage.default_errno, message, path, nid=nid)

    def see(self, path: str, entries: int) -> None:
        """Count entries.

        Raises:
            LimitExceeded: there were too many, and the walk is to end.
        """
        self._seen += entries
        if self._seen > self._entries:
            self.used_up = True
            raise over_limit(path, "walk_entries", self._entries + 1, self._entries)


def walk(top: Entry, top_down: bool, on_error: _OnError | None, follow: bool) -> Iterator[_Step]:
    """See ``Entry.walk``."""
    bounds = Bounds(top.image)
    # A tuple of three is a directory that was read already and only waits for its children (bottom up).
    waiting: list[tuple[Entry, int] | _Step] = [(top, 0)]
    while waiting and not bounds.used_up:
        step = waiting.pop()
        if len(step) == 3:
            yield step
            continue
        item, depth = step
        children: dict[str, Entry] = {}
        others: list[str] = []
        try:
            bounds.enter(item.path, depth)
            if not bounds.visit(item.path, item.inode(follow=True).nid, links=follow):
                continue
            for child in item.scan(recursive=False):
                if _is_directory(child, follow, on_error):
                    children[child.name] = child
                else:
                    others.append(child.name)
            bounds.see(item.path, len(children) + len(others))
        except OSError as error:
            _pass_on(error, on_error)
            continue
        names = list(children)
        if top_down:
            yield item, names, others
        else:
            waiting.append((item, names, others))
        waiting.extend((children.get(name) or item / name, depth + 1) for name in reversed(names))


def scan(top: Entry, nid: int, on_error: _OnError | None) -> Iterator[Entry]:
    """See ``Entry.scan``."""
    from .entry import Entry

    image = top.image
    base = "" if top.path == "/" else top.path
    steps = ask(top.path, image.core.scan, nid, os.fsencode(base))
    for path, inode in scanned(steps, partial(_pass_on, on_error=on_error)):
        yield Entry(image, path, None, inode)


def scanned(steps: Scan, pass_on: _OnError) -> Iterator[tuple[str, Inode]]:
    """Yield the paths and inodes that a scan in Rust finds, and give `pass_on` what can't be read."""
    while batch := steps.next():
        for path, found in batch:
            if isinstance(found, Inode):
                yield path, found
            elif isinstance(found, OSError):
                pass_on(found)
            else:
                raise found


def _is_directory(entry: Entry, follow: bool, on_error: _OnError | None = None) -> bool:
    try:
        return stat.S_ISDIR(entry.mode(follow=follow))
    except OSError as error:
        _pass_on(error, on_error)
        return False


def _pass_on(error: OSError, on_error: _OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


def glob(top: Entry, pattern: str) -> Iterator[Entry]:
    """See ``Entry.glob``. ``**`` as the last part yields everything below, as in Python 3.13."""
    if not pattern:
        raise ValueError("unacceptable pattern: ''")
    if pattern.startswith("/"):
        raise NotImplementedError("absolute patterns are not supported")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    only_directories = pattern.endswith("/")
    yielded: set[str] = set()
    for entry in _select(top, parts):
        if entry.path not in yielded and (not only_directories or entry.is_dir()):
            yielded.add(entry.path)
            yield entry


def _select(base: Entry, parts: list[str]) -> Iterator[Entry]:
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for directory, _, others in walk(base, True, None, False):
            yield from _select(directory, rest)
            if not rest:
                yield from (directory / name for name in others)
    elif part == "..":
        yield from _select(base / part, rest)
    elif not any(character in part for character in "*?["):
        found = base / part
        if found.exists(follow_symlinks=False):
            yield from _select(found, rest)
    else:
        matches = re.compile(translate(part)).match
        for child in _children(base):
            if matches(child.name) and (not rest or child.is_dir()):
                yield from _select(child, rest)


def _children(entry: Entry) -> Iterator[Entry]:
    return entry.iterdir() if entry.is_dir() else iter(())
