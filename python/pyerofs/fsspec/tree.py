"""What a filesystem says of an image's tree: single paths, directories, and all that is below."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pyerofs.errors import ask
from pyerofs.walk import Bounds, scanned

from .read_only import ReadOnlyFileSystem
from .trouble import OnError, pass_on, unless_missing

_Value = TypeVar("_Value")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyerofs._core import Inode

    Info = dict[str, Any]
    Make = Callable[[str, Inode], _Value]
    _Step = tuple[str, dict[str, _Value], dict[str, _Value]]

__all__ = ["TreeFileSystem"]

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}


class TreeFileSystem(ReadOnlyFileSystem):
    """The half of the filesystem that reads metadata only."""

    # Paths and what lies there

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        path = super()._strip_protocol(path)
        if not isinstance(path, str):
            return path
        if path.startswith(("/", "./")) or "//" in path or "/." in path or path == ".":
            return "/".join(part for part in path.split("/") if part not in ("", "."))
        return path

    def _inode(self, path: str, *, follow: bool = True) -> Inode:
        return ask(path, self.image.core.resolve, os.fsencode(path), follow)

    def _unread(self, path: str, nid: int) -> Inode:
        """Ask once more for an inode that a listing could not read, for the reason."""
        return ask(path, self.image.core.inode, nid)

    def _facts(self, name: str, inode: Inode) -> Info:
        """What an inode says, under fsspec's names."""
        mode = inode.mode
        when = inode.mtime + inode.mtime_nsec / 1e9
        return {
            "name": name,
            "size": inode.size,
            "type": _TYPES.get(stat.S_IFMT(mode), "other"),
            "created": when,
            "islink": stat.S_ISLNK(mode),
            "mode": mode,
            "uid": inode.uid,
            "gid": inode.gid,
            "mtime": when,
            "ino": inode.number,
            "nlink": inode.nlink,
        }

    def _child(self, name: str, inode: Inode) -> Info:
        """What a listing says of an entry: a link itself, with its target's size, 0 if it leads nowhere."""
        info = self._facts(name, inode)
        if info["islink"]:
            info["destination"] = os.fsdecode(ask(name, self.image.core.read_link, inode.nid))
            target = unless_missing(partial(self._inode, name), None)
            info["size"] = 0 if target is None else target.size
        return info

    def info(self, path: Any, **_options: Any) -> Info:
        """Return what is known of an entry; a link is followed, and has a ``destination``.

        Raises:
            FileNotFoundError: there is no such entry, or a link leads nowhere.
            CorruptImage: what lies there breaks a rule of the format.
        """
        path = self._strip_protocol(path)
        link = self._inode(path, follow=False)
        if not stat.S_ISLNK(link.mode):
            return self._facts(path, link)
        info = self._facts(path, self._inode(path))
        info["islink"] = True
        info["destination"] = os.fsdecode(ask(path, self.image.core.read_link, link.nid))
        return info

    def _mode(self, path: Any, *, follow: bool = True) -> int:
        """The type and permissions of an entry, 0 if there is none."""
        path = self._strip_protocol(path)
        inode = unless_missing(partial(self._inode, path, follow=follow), None)
        return 0 if inode is None else inode.mode

    def exists(self, path: Any, **_options: Any) -> bool:
        """Whether there is an entry; a link that leads nowhere is none.

        Raises:
            CorruptImage: that can't be told, since the image is broken there.
        """
        return self._mode(path) != 0

    def lexists(self, path: Any, **_options: Any) -> bool:
        """Whether there is an entry, a link that leads nowhere included."""
        return self._mode(path, follow=False) != 0

    def isdir(self, path: Any) -> bool:
        """Whether it is a directory, or a link to one."""
        return stat.S_ISDIR(self._mode(path))

    def isfile(self, path: Any) -> bool:
        """Whether it is a regular file, or a link to one."""
        return stat.S_ISREG(self._mode(path))

    def islink(self, path: Any) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self._mode(path, follow=False))

    def created(self, path: Any) -> datetime:
        """As :meth:`modified`: an image knows no other time."""
        return self.modified(path)

    def modified(self, path: Any) -> datetime:
        """Return when the entry was modified, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    # Directories

    def ls(self, path: Any, detail: bool = True, **_options: Any) -> Any:
        """List a directory, or the file itself: dicts as of :meth:`info`, or paths without ``detail``.

        A symbolic link is listed as such: of type ``other``, with the size of what it leads to.

        Raises:
            FileNotFoundError: there is no such entry.
        """
        path = self._strip_protocol(path)
        inode = self._inode(path)
        if not stat.S_ISDIR(inode.mode):
            return [self.info(path)] if detail else [path]
        base = f"{path}/" if path else ""
        children = ask(path, self.image.core.list, inode.nid, detail)
        if not detail:
            return [base + name for name, _, _ in children]
        # One that could not be read with the others is asked for once more, for the reason.
        asked = self.image.core.inode
        return [
            self._child(base + name, known or ask(base + name, asked, nid)) for name, nid, known in children
        ]

    def walk(
        self,
        path: Any,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: OnError = None,
        detail: bool = False,
        **_options: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield (path, directories, the rest) for a tree. Links are not followed.

        Args:
            path: where to begin.
            maxdepth: how many levels to list; None for all.
            topdown: whether a directory comes before what it holds; then its list may be changed to prune.
            on_error: ``"omit"`` passes over a directory that can't be read, ``"raise"`` does not, a function
                is called with the error. None, the default, omits a ``path`` that does not exist and raises
                all else, so that a broken image is not taken for a smaller one.
            detail: whether the two are dicts from name to info instead of lists of names.

        Raises:
            CorruptImage: a directory can't be read, or is reached a second time.
            LimitExceeded: the tree is deeper, or has more entries, than the limits allow.
        """
        make = self._child if detail else path_only
        for here, directories, others in self._steps(path, maxdepth, topdown, on_error, make):
            if detail:
                yield here, directories, others
                continue
            names = list(directories)
            yield here, names, list(others)
            kept = {name: directories[name] for name in names if name in directories}
            directories.clear()
            directories.update(kept)

    def _steps(
        self, path: Any, maxdepth: int | None, topdown: bool, on_error: OnError, make: Make[_Value]
    ) -> Iterator[_Step[_Value]]:
        """Walk, with what `make` says of each entry. Top down the directories may be changed meanwhile."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        bounds = Bounds(self.image)
        # A tuple of three is a directory that was listed and waits for what it holds (bottom up).
        waiting: list[tuple[str, int] | _Step[_Value]] = [(self._strip_protocol(path), 1)]
        while waiting and not bounds.used_up:
            item = waiting.pop()
            if len(item) == 3:
                yield item
                continue
            here, depth = item
            try:
                bounds.enter(here, depth - 1)
                directories, others = self._listing(here, bounds, on_error, make)
                bounds.see(here, len(directories) + len(others))
            except OSError as error:
                pass_on(error, on_error, missing_is_fine=depth == 1)
                continue
            if topdown:
                yield here, directories, others
            else:
                waiting.append((here, directories, others))
            if maxdepth is None or depth < maxdepth:
                base = f"{here}/" if here else ""
                waiting.extend((base + name, depth + 1) for name in reversed(directories))

    def _listing(
        self, path: str, bounds: Bounds, on_error: OnError, make: Make[_Value]
    ) -> tuple[dict[str, _Value], dict[str, _Value]]:
        """The directories and the rest in `path`, by name; what is no directory holds itself, as ""."""
        top = self._inode(path)
        if not stat.S_ISDIR(top.mode):
            return {}, {"": make(path, self._inode(path, follow=False))}
        bounds.visit(path, top.nid)
        base = f"{path}/" if path else ""
        directories: dict[str, _Value] = {}
        others: dict[str, _Value] = {}
        for name, nid, known in ask(path, self.image.core.list, top.nid, True):
            try:
                inode = known or self._unread(base + name, nid)
                kind = directories if stat.S_ISDIR(inode.mode) else others
                kind[name] = make(base + name, inode)
            except OSError as error:
                pass_on(error, on_error)
        return directories, others

    def _below(self, path: str, on_error: OnError) -> Iterator[tuple[str, Inode]]:
        """Every entry below a directory, walked in Rust; what is no directory is below itself."""
        try:
            top = self._inode(path)
            if not stat.S_ISDIR(top.mode):
                yield path, self._inode(path, follow=False)
                return
            scan = ask(path, self.image.core.scan, top.nid, os.fsencode(f"/{path}" if path else ""))
        except OSError as error:
            pass_on(error, on_error, missing_is_fine=True)
            return
        for name, inode in scanned(scan, partial(pass_on, on_error=on_error)):
            yield name[1:], inode

    def find(
        self,
        path: Any,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """List everything below a path but directories, sorted; a file is found as itself.

        Args:
            path: where to begin; what does not exist holds nothing.
            maxdepth: how many levels to list; None for all.
            withdirs: whether directories count too, ``path`` itself included.
            detail: whether to return a dict from path to info.
            options: ``on_error`` as for :meth:`walk`.
        """
        path = self._strip_protocol(path)
        on_error = options.get("on_error")
        make = self._child if detail else path_only
        found: dict[str, Any] = {}
        if withdirs and path and self.isdir(path):
            found[path] = self.info(path)
        if maxdepth is None:
            for name, inode in self._below(path, on_error):
                if withdirs or not stat.S_ISDIR(inode.mode):
                    try:
                        found[name] = make(name, inode)
                    except OSError as error:
                        pass_on(error, on_error)
        else:
            for here, directories, others in self._steps(path, maxdepth, True, on_error, make):
                base = f"{here}/" if here else ""
                for kind in (directories, others) if withdirs else (others,):
                    found.update((base + name if name else here, value) for name, value in kind.items())
        return {name: found[name] for name in sorted(found)} if detail else sorted(found)

    def du(
        self,
        path: Any,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **options: Any,
    ) -> Any:
        """Return the bytes of all files below a path, or a dict from path to bytes without ``total``."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, **{**options, "detail": True})
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes


def path_only(path: str, _inode: Inode) -> str:
    """What a walk keeps of an entry when nobody asks for more."""
    return path
