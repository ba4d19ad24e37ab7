"""Comparing two trees, each in an image or in a directory: :func:`diff`."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from . import _core
from .entry import Entry
from .image import Image
from .image import open as open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    Tree = str | os.PathLike[str] | Image | Entry

__all__ = ["Change", "Diff", "Facts", "diff"]


class Facts(NamedTuple):
    """What a tree says of an entry.

    Attributes:
        mode: file type and permissions, as in ``st_mode``.
        uid: owner.
        gid: group.
        size: bytes of data.
        mtime: modification time in seconds since 1970.
        mtime_nsec: its nanoseconds.
        device: number of a device node, as in ``st_rdev``; else 0.
        nlink: names that the file has.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    mtime_nsec: int
    device: int
    nlink: int


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs between two trees.

    Attributes:
        kind: ``"added"`` (only the second tree has it), ``"removed"`` (only the first one), ``"changed"``, or
            ``"moved"``: a regular file whose bytes were at ``old_path`` in the first tree.
        path: from the root of the tree, without a slash before it; ``"."`` is the root itself.
        old_path: the path in the first tree, if that is another.
        fields: what differs, of ``type``, ``content``, ``mode``, ``owner`` (or group), ``mtime``,
            ``xattrs``, ``target`` (of a symbolic link), ``device`` (its number) and ``links``: which other
            names, of those that both trees have, are the same file. Empty for what is in one tree only.
        old: what the first tree says of the entry, None if it has none.
        new: what the second tree says of it.
        targets: the targets of two symbolic links that differ.
        xattrs: the names of the extended attributes that differ, each with ``"added"``, ``"removed"`` or
            ``"changed"``.
    """

    kind: str
    path: str
    old_path: str | None
    fields: tuple[str, ...]
    old: Facts | None
    new: Facts | None
    targets: tuple[str, str] | None = None
    xattrs: tuple[tuple[str, str], ...] = ()


class Diff:
    """A comparison under way: an iterator of :class:`Change` in the order of the paths.

    Threads of its own compare ahead of the caller. Close it, or leave it to be collected, to end them early.
    """

    def __init__(self, core: _core.Diff, on_error: Callable[[OSError], object] | None) -> None:
        self._core = core
        self._on_error = on_error
        self._ready: deque[tuple[Any, ...]] = deque()
        #: Whether there were more changes than ``move_limit``, so that no file is reported as moved.
        self.gave_up_moves = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        while True:
            if not self._ready:
                self._ready.extend(self._core.next())
                if not self._ready:
                    raise StopIteration
            event = self._ready.popleft()
            if event[0] == "failure":
                self._fail(event)
            elif event[0] == "too many":
                self.gave_up_moves = True
            else:
                return _change(event)

    def _fail(self, event: tuple[Any, ...]) -> None:
        _, side, path, error = event
        if isinstance(error, OSError):
            error.filename = os.fsdecode(path) or "."
        # Which tree it is about, for whoever has to tell the user.
        error.tree = side
        if self._on_error is None or not isinstance(error, OSError):
            raise error
        self._on_error(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the comparison; nothing more is yielded."""
        self._ready.clear()
        self._core.close()

    @property
    def entries(self) -> tuple[int, int, int]:
        """Entries met so far in the first tree and in the second one, and paths that both have."""
        return self._core.counts()


def diff(
    a: Tree,
    b: Tree,
    *,
    path: str | None = None,
    path_b: str | None = None,
    ignore: Iterable[str] = (),
    content_only: bool = False,
    whole_seconds: bool = False,
    xattrs: str = "auto",
    trust_fingerprints: bool = False,
    move_limit: int = 200_000,
    threads: int | None = None,
    on_error: Callable[[OSError], object] | None = None,
) -> Diff:
    """Compare two trees: what was added, removed, changed and moved on the way from ``a`` to ``b``.

    Contents are equal if their bytes are; what an image claims about them is not asked. A file that was
    removed at one path and added at another with the same content has moved; an empty one only if its name
    stayed the same.

    Args:
        a: the old tree: the path of an image or of a directory, an :class:`Image` (for one with devices or at
            an offset), or an :class:`Entry`, for what lies below it.
        b: the new tree.
        path: compare what lies there in both trees, a directory or a single file.
        path_b: where that lies in ``b``, if elsewhere than in ``a``.
        ignore: what does not count: ``mode``, ``owner``, ``mtime``, ``xattrs``, ``links``, ``target``,
            ``device``, ``content``.
        content_only: ignore ``mode``, ``owner``, ``mtime``, ``xattrs`` and ``links``.
        whole_seconds: leave the nanoseconds of times out.
        xattrs: which extended attributes count: ``"all"``; ``"usual"``, which are those that a build takes
            from a directory by default; or ``"auto"``, ``"usual"`` if one tree is an image and the other a
            directory, else ``"all"``.
        trust_fingerprints: believe the digests that images carry instead of reading the files.
        move_limit: how many differences are kept in memory, some 300 bytes each, to find out which are moves;
            with more of them none is. With 0 each change is yielded as soon as it is found.
        threads: threads that compare; by default one per CPU.
        on_error: called with the error of an entry that can't be read, after which the others go on. Its
            ``tree`` is ``"a"`` or ``"b"`` and its ``filename`` the path in that tree. By default it is
            raised.

    Raises:
        ValueError: an argument makes no sense.
        NotAnImage: ``a`` or ``b`` is a file that is no image.
        OSError: ``a`` or ``b`` can't be opened.
    """
    if xattrs not in ("auto", "all", "usual"):
        raise ValueError(f"xattrs: {xattrs!r} is none of auto, all and usual")
    ignored = {ignore} if isinstance(ignore, str) else set(ignore)
    if content_only:
        ignored |= {"mode", "owner", "mtime", "xattrs", "links"}
    core = _core.Diff(
        *_root(a, path),
        *_root(b, path if path_b is None else path_b),
        ignore=sorted(ignored),
        whole_seconds=whole_seconds,
        usual_xattrs_only=None if xattrs == "auto" else xattrs == "usual",
        trust_fingerprints=trust_fingerprints,
        threads=threads,
        move_limit=move_limit,
    )
    return Diff(core, on_error)


def _root(tree: Tree, path: str | None) -> tuple[_core.Image | None, str]:
    """Return an image and a path in it, or None and the path of a directory."""
    below = (path or "").strip("/")
    if isinstance(tree, Image):
        tree = tree.root
    if not isinstance(tree, Entry):
        name = os.fspath(tree)
        if not isinstance(name, str):
            raise TypeError(f"a tree is a path, an Image or an Entry, not {type(tree).__name__}")
        if os.path.isdir(name):  # noqa: PTH112
            return None, os.path.join(name, below) if below else name  # noqa: PTH118
        tree = open_image(name).root
    entry = tree / below
    return entry.image.core, entry.path


def _change(event: tuple[Any, ...]) -> Change:
    kind, path, old_path, fields, old, new, targets, xattrs = event
    return Change(
        kind,
        os.fsdecode(path) or ".",
        None if old_path is None else os.fsdecode(old_path),
        tuple(fields),
        None if old is None else Facts(*old),
        None if new is None else Facts(*new),
        None if targets is None else (os.fsdecode(targets[0]), os.fsdecode(targets[1])),
        tuple((os.fsdecode(name), way) for name, way in xattrs),
    )
