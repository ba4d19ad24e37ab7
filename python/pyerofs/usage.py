"""What is in an image, in numbers."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from .errors import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Inode
    from .image import Image

__all__ = ["Usage"]

_SECTOR = 512


class Usage(NamedTuple):
    """What is in an image; an inode counts once, whatever names it has.

    Attributes:
        files: regular files.
        compressed: those of them that are compressed.
        directories: directories, the root too.
        symlinks: symbolic links.
        others: devices, pipes and sockets.
        hard_links: names of files beyond the first.
        size: bytes of all files together.
        stored: bytes that they take in the image, see :func:`stored`; what they share of the packed inode is
            in it.
    """

    files: int
    compressed: int
    directories: int
    symlinks: int
    others: int
    hard_links: int
    size: int
    stored: int


def stored(inode: Inode) -> int:
    """Return how many bytes a file's data takes in the image.

    For a compressed file these are its clusters, in whole blocks as the image counts them. What it has in the
    packed inode, or shares with other files, is not taken into account. Holes take what they would if they
    were data, as in ``st_blocks``.
    """
    return inode.sectors * _SECTOR if inode.layout.startswith("compressed") else inode.size


def usage(image: Image, on_error: Callable[[OSError], object] | None) -> Usage:
    """See ``Image.usage``."""
    files = compressed = symlinks = others = hard_links = size = taken = 0
    directories = 1  # the root, which a scan does not yield
    seen: set[int] = set()
    for entry in image.root.scan(on_error=on_error):
        inode = entry.inode()
        mode = inode.mode
        if stat.S_ISDIR(mode):
            directories += 1
            continue
        if inode.nlink > 1:
            if inode.nid in seen:
                hard_links += 1
                continue
            seen.add(inode.nid)
        if stat.S_ISREG(mode):
            files += 1
            compressed += inode.layout.startswith("compressed")
            size += inode.size
            taken += stored(inode)
        elif stat.S_ISLNK(mode):
            symlinks += 1
        else:
            others += 1
    if image.packed_nid is not None:
        taken += stored(ask("the packed inode", image.core.inode, image.packed_nid))
    return Usage(files, compressed, directories, symlinks, others, hard_links, size, taken)
