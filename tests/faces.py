"""Every other way to read an image: it gives the bytes that reading whole files gave."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyerofs
from judges import Snapshot, as_tree, assert_same, of_directory
from pyerofs.fsspec import ErofsFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builders import Made

# Of the files of an image that many large and as many other ones are read in pieces.
FILES = 6
PIECES = 6
# Lengths around blocks and pages, and whatever crosses clusters.
LENGTHS = (1, 2, 511, 512, 4095, 4096, 4097, 10_007, 65_537, 300_001)
# The default, one that holds hardly a cluster, and none.
CACHES: tuple[dict[str, int], ...] = ({}, {}, {"decoded_cache_bytes": 100_000}, {"decoded_cache_bytes": 0})


def check(made: Made, seen: Snapshot, seed: str, extracted: Path | None = None) -> None:
    """Read an image in every other way.

    Args:
        made: the image.
        seen: what reading each file in one go gave, which others agreed to.
        seed: says which pieces are read; the same for the same.
        extracted: where to extract the image to; without it extraction is left out.
    """
    draw = random.Random(seed)
    contents = {os.fsdecode(name): entry.content for name, entry in seen.items() if entry.content is not None}
    names = sorted(contents, key=lambda name: seen[os.fsencode(name)].size)
    some = {*names[-FILES:], *draw.sample(names, min(FILES, len(names)))}
    whole = many_at_once(made, contents, some, draw)
    in_pieces(made, whole, draw)
    through_fsspec(made, whole, draw)
    if extracted:
        with opened(made) as image:
            pyerofs.extract(image, extracted)
        assert_same(as_tree(seen), as_tree(of_directory(extracted)), "the extracted tree")


def opened(made: Made, **options: Any) -> pyerofs.Image:
    """The image, opened anew, so that nothing of it is in a cache."""
    return pyerofs.open(made.image, devices=made.devices, **options)


def many_at_once(
    made: Made, contents: dict[str, str], some: set[str], draw: random.Random
) -> dict[str, bytes]:
    """Read all files with `read_many`; what is in `some` of them."""
    names = draw.sample(sorted(contents), len(contents))
    kept: dict[str, bytes] = {}
    with opened(made, limits=draw.choice(CACHES)) as image:
        budget = draw.choice((1, 100_000, 64 << 20))
        for name, (asked, content) in zip(
            names, image.read_many(names, threads=draw.randint(1, 3), budget=budget), strict=True
        ):
            assert asked == name
            assert not isinstance(content, OSError), content
            assert hashlib.sha256(content).hexdigest() == contents[name], f"read_many: {name}"
            if name in some:
                kept[name] = content
    return kept


def pieces(draw: random.Random, size: int) -> Iterator[tuple[int, int]]:
    """Offsets and lengths, some of them behind the end."""
    for _ in range(PIECES):
        yield (
            draw.choice((0, draw.randint(0, size), max(0, size - draw.choice(LENGTHS)))),
            draw.choice(LENGTHS),
        )


def in_pieces(made: Made, whole: dict[str, bytes], draw: random.Random) -> None:
    """Read pieces here and there of all files by turns, with and without a buffer, then the rest in a row."""
    with opened(made, limits=draw.choice(CACHES)) as image, ExitStack() as stack:
        files = {name: stack.enter_context((image / name).open("rb")) for name in sorted(whole)}
        raw = {name: stack.enter_context((image / name).open("rb", 0)) for name in sorted(whole)}
        turns = [(name, piece) for name, data in sorted(whole.items()) for piece in pieces(draw, len(data))]
        for name, (offset, length) in draw.sample(turns, len(turns)):
            wanted = whole[name][offset : offset + length]
            files[name].seek(offset - len(whole[name]), os.SEEK_END)
            assert files[name].read(length) == wanted, f"open: {name} at {offset}, {length} bytes"
            buffer = bytearray(length)
            raw[name].seek(offset)
            count = raw[name].readinto(buffer)
            assert buffer[:count] == wanted, f"readinto: {name} at {offset}, {length} bytes"
        for name, file in files.items():
            file.seek(0)
            row = bytearray()
            while piece := file.read(draw.choice(LENGTHS)):
                row += piece
            assert row == whole[name], f"open: {name} in a row"


def through_fsspec(made: Made, whole: dict[str, bytes], draw: random.Random) -> None:
    """Read files and ranges of them through fsspec."""
    devices = [os.fspath(device) for device in made.devices]
    files = ErofsFileSystem(os.fspath(made.image), devices=devices)
    assert files.cat(sorted(whole)) == whole
    ranges = [(name, *piece) for name, data in sorted(whole.items()) for piece in pieces(draw, len(data))]
    ranges = draw.sample(ranges, min(PIECES, len(ranges)))
    names, starts, lengths = (
        (list(column) for column in zip(*ranges, strict=True)) if ranges else ([], [], [])
    )
    ends = [start + length for start, length in zip(starts, lengths, strict=True)]
    found = files.cat_ranges(names, starts, ends)
    assert found == [whole[name][a:b] for name, a, b in zip(names, starts, ends, strict=True)]
    files.close()
