"""Where a run of a file's bytes lies."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Extent"]


class Extent(NamedTuple):
    """A run of a file's bytes and where it lies; all positions and lengths are in bytes.

    Attributes:
        offset: where the run begins in the file.
        length: how long it is there.
        blob_offset: where it lies in the blob (an encoded one: where its whole cluster begins), or in the
            data of the inode ``nid`` for one that is ``inside``; None for a hole.
        blob: 0 for the primary blob, N for the N-th device.
        kind: ``"raw"``: as it is; ``"hole"``: zeros that are stored nowhere; ``"encoded"``: in a cluster that
            must be decoded; ``"inside"``: in the data of another inode, as fragments are in the packed inode.
        stored: how many bytes it takes there; neighbours that lie in one cluster say the same ones.
        algorithm: how it is compressed, None if it isn't.
        nid: the other inode of one that is ``inside``.
    """

    offset: int
    length: int
    blob_offset: int | None
    blob: int
    kind: str
    stored: int
    algorithm: str | None
    nid: int | None
