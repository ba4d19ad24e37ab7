"""An image as an fsspec filesystem: ``erofs://``, for pandas, dask, zarr, pyarrow and others.

    fs = fsspec.filesystem("erofs", fo="data.erofs")
    with fsspec.open("erofs://images/0001.png::s3://bucket/data.erofs") as file: ...

Names are relative to the image's root, as in fsspec's own archives; what is said about them has the keys and
the values that ``LocalFileSystem`` gives for a mount of the image. Symbolic links are followed as there: by
what takes a path, not by what walks, and inside the image only. Whatever would modify is ``EROFS``.

Nothing here is imported by ``import pyerofs``; fsspec is the extra ``pyerofs[fsspec]``.
"""

from __future__ import annotations

from .file import ErofsFile
from .filesystem import ErofsFileSystem

__all__ = ["ErofsFile", "ErofsFileSystem"]
