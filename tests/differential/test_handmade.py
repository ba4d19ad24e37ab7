"""Compressed files that Linux reads and mkfs.erofs doesn't make: the newest kernel and our reader agree."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import pyerofs
from builders import Made
from judges import assert_same, of_image
from tiny_compressed import (
    BIG_1,
    BIG_2,
    DEFLATE,
    HEAD2,
    INTERLACED,
    LZ4,
    ZSTD,
    Extent,
    compressed_image,
    encoded,
    hole,
    plain,
)
from vm_judge import Refused, judge

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers

BIG = BIG_1 | BIG_2
# Linux 7.2 remembers the mark of a hole that starts in the middle of 4096 bytes when it then looks for the
# extent that ends there, and reads zeros for that one too.
MISREAD_BY_LINUX = "hole-midway"
CODECS = {"lz4": LZ4, "deflate": DEFLATE, "zstd": ZSTD}


def twice(extent: Extent, size: int) -> list[Extent]:
    """An extent whose cluster another one takes the beginning of."""
    return [extent, replace(extent, size=size, partial=True, again=True)]


def files() -> dict[str, tuple[int, list[Extent], str]]:
    """Files by what is special about them."""
    made: dict[str, tuple[int, list[Extent], str]] = {}
    for name, codec in CODECS.items():
        some = [encoded(1, 20_000, codec), encoded(2, 9000, codec), encoded(3, 30_001, codec)]
        for kind, advise in (("full", 0), ("full", BIG), ("compact", BIG)):
            made[f"{name}-{kind}-{advise}"] = (advise, some, kind)
        made[f"{name}-4"] = (0, [encoded(n, 4096, codec) for n in range(9)] + [encoded(9, 999, codec)], "4")
        made[f"{name}-8"] = (0, [encoded(n, 4096, codec) for n in range(9)] + [encoded(9, 999, codec)], "8")
        made[f"{name}-4-of-16k"] = (0, [encoded(n, 16384, codec) for n in range(5)], "4/2")
        made[f"{name}-8-of-16k"] = (0, [encoded(n, 16384, codec) for n in range(4)], "8/2")
        made[f"{name}-16"] = (0, some, "16")
        made[f"{name}-32"] = (0, some, "32")
    data = [encoded(1, 20_000, LZ4), encoded(2, 8672, LZ4)]
    for record in ("4", "8"):
        mixed = [
            encoded(1, 4096, LZ4),
            plain(2, 4096),
            hole(4096),
            hole(4096),
            encoded(3, 4096, ZSTD),
            plain(4, 77),
        ]
        made[f"mixed-{record}"] = (0, mixed, record)
        made[f"mixed-{record}-interlaced"] = (INTERLACED, mixed, record)
    for record in ("16", "32"):
        mixed = [
            *(hole(10_000), encoded(1, 50_000, LZ4), plain(2, 777), hole(1), encoded(3, 4096, ZSTD)),
            *(plain(4, 8192), encoded(5, 100_001, DEFLATE), hole(1_000_000), plain(6, 1)),
        ]
        made[f"mixed-{record}"] = (0, mixed, record)
        made[f"mixed-{record}-interlaced"] = (INTERLACED, mixed, record)
        made[f"all-hole-{record}"] = (0, [hole(5_000_000)], record)
        made[f"shared-{record}"] = (0, [*twice(encoded(7, 40_000, ZSTD), 15_000), *data], record)
    for flagged in (True, False):
        word = "flagged" if flagged else "empty"
        gap = hole(50_000, flagged=flagged)
        made[f"hole-{word}"] = (BIG, [*data, gap, encoded(3, 20_001, LZ4)], "full")
        made[f"hole-{word}-first"] = (BIG, [gap, *data], "full")
        made[f"hole-{word}-last"] = (BIG, [*data, gap], "full")
        made[f"holes-{word}"] = (BIG, [gap, gap, *data, gap], "full")
        made[f"all-hole-{word}"] = (BIG, [gap], "full")
    made["hole-without-big"] = (0, [*data, hole(50_000), encoded(3, 19_632, LZ4), hole(9000)], "full")
    for place, extents in (
        ("", [*data, hole(50_000, flagged=False), encoded(3, 20_001, LZ4)]),
        ("-first", [hole(50_000, flagged=False), *data]),
        ("-last", [*data, hole(50_000, flagged=False)]),
    ):
        made[f"hole-compact{place}"] = (BIG, extents, "compact")
    two = [
        *(encoded(1, 20_000, LZ4), encoded(2, 20_000, DEFLATE, HEAD2), encoded(3, 9000, LZ4)),
        *(encoded(4, 70_000, DEFLATE, HEAD2), plain(5, 4096), encoded(6, 5000, DEFLATE, HEAD2)),
    ]
    for advise in (0, BIG_1, BIG_2, BIG):
        made[f"two-algorithms-{advise}"] = (advise, two, "full")
    made["two-algorithms-compact"] = (BIG, two, "compact")
    made["shared"] = (0, [*twice(encoded(7, 40_000, LZ4), 15_000), *data], "full")
    made["shared-zstd"] = (BIG, [*twice(encoded(7, 40_000, ZSTD), 15_000)], "full")
    made["large-clusters"] = (0, [encoded(1, 12 << 20, LZ4), encoded(2, 5000, LZ4)], "16")
    made[MISREAD_BY_LINUX] = (0, [encoded(1, 9000, LZ4), hole(50_000), encoded(2, 9000, LZ4)], "full")
    return made


@pytest.mark.root
@pytest.mark.usefixtures("machine")
def test_the_newest_kernel_and_our_reader_agree(peers: Peers, tmp_path: Path) -> None:
    data, contents = compressed_image(files())
    path = tmp_path / "image"
    path.write_bytes(data)
    (kernel,) = judge(peers, [Made(path)])
    assert not isinstance(kernel, Refused), kernel
    with pyerofs.open(path) as image:
        ours = of_image(image)
    for name, content in contents.items():
        wanted = hashlib.sha256(content).hexdigest()
        assert ours[name.encode()].content == wanted, f"{name} holds something else"
    misread = MISREAD_BY_LINUX.encode()
    kernel[misread] = replace(kernel[misread], content=ours[misread].content)
    assert_same(kernel, ours, "our reader against the newest kernel")
