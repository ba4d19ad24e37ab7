"""The filesystem itself; the package tells what it is for."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fsspec.spec import AbstractFileSystem

from pyerofs.errors import CorruptImage, ErofsError, ask
from pyerofs.image import Image
from pyerofs.image import open as open_image

from .blobs import blob
from .file import ErofsFile

_Value = TypeVar("_Value")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyerofs._core import Inode
    from pyerofs.entry import Entry

    Info = dict[str, Any]
    OnError = str | Callable[[OSError], object] | None
    Make = Callable[[str, Inode], _Value]
    _Step = tuple[str, dict[str, _Value], dict[str, _Value]]

__all__ = ["ErofsFileSystem"]

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}

#: Errors that say that there is no such entry, rather than that the image is broken.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class ErofsFileSystem(AbstractFileSystem):
    """A read-only filesystem over one image.

    Instances may be used from several threads at once. They can be pickled where their arguments can, so by
    path, URL or bytes; the image is opened anew where they arrive. As for fsspec's archives, fsspec keeps no
    instance: a file that was replaced is seen by the next instance.

    Args:
        fo: the image: a path or URL (chained ones too), bytes, a binary file object, an
            ``fsspec.core.OpenFile``, or an open :class:`pyerofs.Image`, which stays the caller's to close.
        target_protocol: protocol of ``fo``, where its URL does not say it.
        target_options: arguments for the filesystem that ``fo`` lies in.
        devices: the further blobs that the image's device table names, each as ``fo``.
        offset: where the image begins, in bytes.
        profile: as for :func:`pyerofs.open`.
        limits: as for :func:`pyerofs.open`.
        block_size: bytes of the blocks in which a remote image is fetched.
        cache_bytes: bytes of such blocks that are kept in memory, for each blob.

    Raises:
        OSError: the image can't be opened, as :func:`pyerofs.open` says.
    """

    protocol = "erofs"
    root_marker = ""
    cachable = False

    def __init__(
        self,
        fo: Any = None,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        *,
        devices: Sequence[Any] = (),
        offset: int = 0,
        profile: str = "full",
        limits: Mapping[str, int] | None = None,
        block_size: int = 1 << 18,
        cache_bytes: int = 1 << 25,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if fo is None or (isinstance(fo, str) and not fo):
            raise ValueError("which image? give fo=..., or chain its place: erofs://PATH::file://IMAGE")
        self._own = not isinstance(fo, Image)
        if isinstance(fo, Image):
            #: The open image.
            self.image = fo
            self._source_key: Callable[[], str] = partial(str, fo.name)
            return
        source = partial(
            blob,
            protocol=target_protocol,
            options=dict(target_options or {}),
            block_size=block_size,
            cache_bytes=cache_bytes,
        )
        primary, self._source_key = source(fo)
        others = [source(device)[0] for device in devices]
        self.image = open_image(primary, others, offset, profile=profile, limits=limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.image.name!r}>"

    __str__ = __repr__

    def close(self) -> None:
        """Close the image, unless it was given open. Open files stay readable."""
        if self._own:
            self.image.close()

    # Paths and what lies there

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        path = super()._strip_protocol(path)
        if not isinstance(path, str):
            return path
        if path.startswith(("/", "./")) or "//" in path or "/." in path or path == ".":
            return "/".join(part for part in path.split("/") if part not in ("", "."))
        return path

    def _entry(self, path: Any) -> Entry:
        return self.image.root.joinpath(self._strip_protocol(path))

    def _inode(self, path: str, *, follow: bool = True) -> Inode:
        return ask(path, self.image.core.resolve, os.fsencode(path), follow)

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
            "ino": inode.nid,
            "nlink": inode.nlink,
        }

    def _child(self, name: str, inode: Inode) -> Info:
        """What a listing says of an entry: a link itself, with its target's size, 0 if it leads nowhere."""
        info = self._facts(name, inode)
        if info["islink"]:
            info["destination"] = os.fsdecode(ask(name, self.image.core.read_link, inode.nid))
            target = _unless_missing(partial(self._inode, name), None)
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
        inode = _unless_missing(partial(self._inode, path, follow=follow), None)
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

    @property
    def fsid(self) -> str:
        """The image's UUID, the same in every process."""
        return f"erofs-{self.image.uuid}"

    def ukey(self, path: Any) -> str:
        """Return a key that changes when the image's file or the entry in it was replaced."""
        image = self.image
        identity = (self._source_key(), str(image.uuid), image.checksum, image.build_time, image.blocks)
        return sha256(repr((identity, self.info(path))).encode("utf-8", "surrogatepass")).hexdigest()

    def checksum(self, path: Any) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    # Directories

    def _children(self, path: str, nid: int) -> Iterator[tuple[str, str, Inode]]:
        """Yield name, path and inode of the entries of a directory."""
        core, base = self.image.core, f"{path}/" if path else ""
        for name, child, inode in ask(path, core.list, nid, True):
            # One that could not be read with the others is asked for once more, for the reason.
            yield name, base + name, inode or ask(base + name, core.inode, child)

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
        children = self._children(path, inode.nid)
        return [self._child(name, child) if detail else name for _, name, child in children]

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
        """
        make = self._child if detail else _path_only
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
        entered: set[int] = set()
        # A tuple of three is a directory that was listed and waits for what it holds (bottom up).
        waiting: list[tuple[str, int] | _Step[_Value]] = [(self._strip_protocol(path), 1)]
        while waiting:
            item = waiting.pop()
            if len(item) == 3:
                yield item
                continue
            here, depth = item
            try:
                directories, others = self._listing(here, entered, make)
            except OSError as error:
                _pass_on(error, on_error, missing_is_fine=depth == 1)
                continue
            if topdown:
                yield here, directories, others
            else:
                waiting.append((here, directories, others))
            if maxdepth is None or depth < maxdepth:
                base = f"{here}/" if here else ""
                waiting.extend((base + name, depth + 1) for name in reversed(directories))

    def _listing(
        self, path: str, entered: set[int], make: Make[_Value]
    ) -> tuple[dict[str, _Value], dict[str, _Value]]:
        """The directories and the rest in `path`, by name; what is no directory holds itself, as ""."""
        top = self._inode(path)
        if not stat.S_ISDIR(top.mode):
            return {}, {"": make(path, self._inode(path, follow=False))}
        if top.nid in entered:
            message = "the directory is reached a second time, so the tree loops"
            raise CorruptImage(CorruptImage.default_errno, message, path, nid=top.nid)
        entered.add(top.nid)
        directories: dict[str, _Value] = {}
        others: dict[str, _Value] = {}
        for name, child, inode in self._children(path, top.nid):
            kind = directories if stat.S_ISDIR(inode.mode) else others
            kind[name] = make(child, inode)
        return directories, others

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
        make = self._child if detail else _path_only
        found: dict[str, Any] = {}
        if withdirs and path and self.isdir(path):
            found[path] = self.info(path)
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

    # Content

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``; negative ones count from the end.

        Raises:
            IsADirectoryError: the path is a directory.
            LimitExceeded: far more bytes are asked for than the blobs hold; :meth:`open` still reads them.
        """
        entry = self._entry(path)
        if start is None and end is None:
            return entry.read_bytes()
        with entry.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            first, last, _ = slice(start, end).indices(size)
            file.seek(first)
            return file.read(max(0, last - first)) or b""

    def cat_ranges(
        self,
        paths: list[Any],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Return a range of each file, or the error in its place, as ``AbstractFileSystem.cat_ranges``.

        ``max_gap`` changes nothing: here it costs nothing to read only what was asked for.
        """
        return super().cat_ranges(paths, starts, ends, on_error=on_error, **options)  # type: ignore[no-any-return]

    def _open(
        self, path: Any, mode: str = "rb", block_size: int | str | None = None, **_options: Any
    ) -> ErofsFile:
        if set(mode) & set("wax+"):
            self._refuse(path)
        entry = self._entry(path)
        return ErofsFile(self, self._strip_protocol(path), entry, block_size)

    # What would modify

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: an image is never written to.

        Raises:
            OSError: (``EROFS``) always.
        """
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.image.name)

    mkdir = makedir = makedirs = mkdirs = rmdir = rm = rm_file = _rm = delete = _refuse
    mv = move = rename = cp = copy = cp_file = put = put_file = upload = _refuse
    pipe = pipe_file = write_bytes = write_text = touch = chmod = link = symlink = _refuse
    start_transaction = end_transaction = _refuse

    @property
    def transaction(self) -> NoReturn:
        """Refused, as all that would modify.

        Raises:
            OSError: (``EROFS``) always.
        """
        self._refuse()


def _path_only(path: str, _inode: Inode) -> str:
    """What a walk keeps of an entry when nobody asks for more."""
    return path


def _unless_missing(question: Callable[[], _Value], default: _Value) -> _Value:
    """The answer, or `default` where there is no such entry. Other trouble is raised."""
    try:
        return question()
    except OSError as error:
        if error.errno in _MISSING and not isinstance(error, ErofsError):
            return default
        raise


def _pass_on(error: OSError, on_error: OnError, *, missing_is_fine: bool) -> None:
    """Do with an error of a walk what the caller wants."""
    if callable(on_error):
        on_error(error)
    elif on_error is None:
        if not missing_is_fine or error.errno not in _MISSING:
            raise error
    elif on_error != "omit":
        raise error
