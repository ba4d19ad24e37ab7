"""The filesystem itself; the package tells what it is for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pyerofs.image import Image
from pyerofs.image import open as open_image
from pyerofs.ranges import RangeSource

from .blobs import blob
from .file import ErofsFile
from .tree import TreeFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyerofs.entry import Entry

__all__ = ["ErofsFileSystem"]

#: Files that are read at once from an image that is far away: each waits for its requests most of the time.
_REMOTE_THREADS = 16


class ErofsFileSystem(TreeFileSystem):
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
        cache_bytes: bytes of such blocks that are kept in memory, for each blob; reading on in order fetches
            up to a sixteenth of it at once.

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
        self._remote = False
        if isinstance(fo, Image):
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
        self._remote = isinstance(primary, RangeSource)
        others = [source(device)[0] for device in devices]
        self.image = open_image(primary, others, offset, profile=profile, limits=limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.image.name!r}>"

    __str__ = __repr__

    def close(self) -> None:
        """Close the image, unless it was given open. Open files stay readable."""
        if self._own:
            self.image.close()

    # What tells one version from another

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

    # Content

    def _entry(self, path: Any) -> Entry:
        return self.image.root.joinpath(self._strip_protocol(path))

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``; negative ones count from the end.

        Raises:
            IsADirectoryError: the path is a directory.
            LimitExceeded: more bytes are asked for, beyond those that are stored, than ``memory_bytes``;
                :meth:`open` still reads them.
        """
        entry = self._entry(path)
        if start is None and end is None:
            return entry.read_bytes()
        with entry.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            first, last, _ = slice(start, end).indices(size)
            file.seek(first)
            return file.read(max(0, last - first)) or b""

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """Return a file's bytes, or a dict of them for several paths, a pattern or, recursively, a directory.

        Several files are read at once: by all processors, or from a remote image by 16 threads.

        Args:
            path: a path, a pattern, or a list of them.
            recursive: whether to take all files below.
            on_error: ``"raise"``, ``"omit"`` or, to find the exception in the dict, ``"return"``.
            options: ``start`` and ``end``, as for :meth:`cat_file`.
        """
        paths = self.expand_path(path, recursive=recursive)
        if recursive:
            paths = [name for name in paths if not self.isdir(name)]
        elif not isinstance(path, list) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **options)
        if options:
            return super().cat(paths, on_error=on_error, **options)
        found: dict[str, Any] = {}
        with self.image.read_many(paths, threads=_REMOTE_THREADS if self._remote else None) as files:
            for name, content in files:
                if not isinstance(content, OSError) or on_error == "return":
                    found[name] = content
                elif on_error == "raise":
                    raise content
        return found

    def cat_ranges(
        self,
        paths: list[Any],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Return a range of each file, or the error in its place; remote images are asked by 16 threads.

        Args:
            paths: the files.
            starts: where each range begins, or one number for all.
            ends: where each range ends, or one number for all.
            max_gap: changes nothing: here it costs nothing to read only what was asked for.
            on_error: ``"return"`` puts an exception in its file's place, anything else raises it.
            options: nothing more is known.

        Raises:
            TypeError: ``paths`` is no list.
            ValueError: there are not as many starts and ends as paths.
        """
        if not isinstance(paths, list):
            raise TypeError("paths is a list")
        firsts = starts if isinstance(starts, Iterable) else [starts] * len(paths)
        lasts = ends if isinstance(ends, Iterable) else [ends] * len(paths)

        def part(path: Any, start: int | None, end: int | None) -> bytes | Exception:
            try:
                return self.cat_file(path, start, end)
            except Exception as error:
                if on_error == "return":
                    return error
                raise

        asked = list(zip(paths, firsts, lasts, strict=True))
        if not self._remote or len(asked) < 2:
            return [part(*each) for each in asked]
        with ThreadPoolExecutor(min(_REMOTE_THREADS, len(asked))) as pool:
            return list(pool.map(part, *zip(*asked, strict=True)))

    def _open(
        self, path: Any, mode: str = "rb", block_size: int | str | None = None, **_options: Any
    ) -> ErofsFile:
        if set(mode) & set("wax+"):
            self._refuse(path)
        return ErofsFile(self, self._strip_protocol(path), self._entry(path), block_size)
