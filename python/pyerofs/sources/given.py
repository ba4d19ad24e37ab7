"""What the caller of :func:`pyerofs.build` gave as a source, as the builder takes it."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["plain_sources"]


def plain_sources(given: Any) -> list[tuple[str, Any, str]]:
    """Tell apart one source and several; each becomes its kind, what it is, and its name for messages.

    Raises:
        TypeError: something is no source.
    """
    if isinstance(given, (list, tuple)):
        return [_plain(source) for source in given]
    return [_plain(given)]


def _plain(source: Any) -> tuple[str, Any, str]:
    from ..image import Image

    match source:
        case bool():
            pass
        case int():
            return "descriptor", source, "<stdin>" if source == 0 else f"<descriptor {source}>"
        case str() | os.PathLike():
            return "path", os.fspath(source), os.fspath(source)
        case Image():
            return "image", source.core, source.name
        case bytes() | bytearray() | memoryview():
            raise TypeError(
                "bytes are no source; io.BytesIO() makes an archive of them, pyerofs.open() an image"
            )
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return "stream", source, name if isinstance(name, str) else "<stream>"
    raise TypeError(f"{type(source).__name__} is no source of a tree")
