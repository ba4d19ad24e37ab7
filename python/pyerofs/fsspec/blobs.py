"""Blobs wherever fsspec reaches them, as what :func:`pyerofs.open` reads from."""

from __future__ import annotations

import os
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fsspec.core import OpenFile, url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from pyerofs.ranges import RangeSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec.spec import AbstractFileSystem

__all__ = ["blob"]


def blob(
    given: Any, *, protocol: str | None, options: dict[str, Any], block_size: int, cache_bytes: int
) -> tuple[Any, Callable[[], str]]:
    """What :func:`pyerofs.open` reads a blob from, and what tells one version of the blob from another."""
    if isinstance(given, (str, os.PathLike)):
        fs, path = url_to_fs(os.fspath(given), **options, **({"protocol": protocol} if protocol else {}))
    elif isinstance(given, (OpenFile, AbstractBufferedFile)) and not getattr(given, "compression", None):
        fs, path = given.fs, given.path
    else:
        source = given.open() if isinstance(given, OpenFile) else given
        return source, partial(_content_key, source)
    if isinstance(fs, LocalFileSystem):
        return path, partial(fs.ukey, path)
    if getattr(fs, "local_file", False):
        # A cache of whole files: what it has fetched is a local file.
        with fs.open(path, "rb") as file:
            if isinstance(getattr(file, "name", None), str):
                return file.name, partial(fs.ukey, path)
    size = fs.info(path)["size"]
    if size is None:
        return fs.open(path, "rb"), partial(fs.ukey, path)
    fetch = partial(_fetch, fs, path)
    return RangeSource(fetch, size, fs.unstrip_protocol(path), block_size, cache_bytes), partial(
        fs.ukey, path
    )


def _fetch(fs: AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    return bytes(fs.cat_file(path, start=start, end=end))


def _content_key(source: Any) -> str:
    """The digest of what was given as memory; of a file object nothing but its name is known."""
    try:
        return sha256(source).hexdigest()
    except TypeError:
        return str(getattr(source, "name", ""))
