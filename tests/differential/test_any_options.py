"""Whatever the tree and the options, an image holds that tree, and is the same with any number of threads.

HYPOTHESIS_PROFILE=deep looks at a thousand instead of a few (`make test-deep`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from builders import Made
from judged import by_fsck, by_kernels, by_us
from judges import of_directory
from random_options import Drawn, ways
from random_trees import LARGE_TREES, TREES, Node, make

if TYPE_CHECKING:
    from judges import Snapshot
    from peers import Peers

BATCH = 50


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs", "machine")
@pytest.mark.timeout(7200)
def test_any_tree_in_any_way(peers: Peers, tmp_path: Path) -> None:
    waiting: list[tuple[Drawn, Made, Snapshot]] = []

    @given(tree=LARGE_TREES | TREES, way=ways())
    def build(tree: Node, way: Drawn) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            place = Path(name)
            source = place / "tree"
            make(tree, os.fsencode(source))
            snapshot = of_directory(source)
            made, *others = (with_threads(way, threads, source, place) for threads in (2, 1, 8))
            for other in others:
                for one, again in zip(
                    (made.image, *made.devices), (other.image, *other.devices), strict=True
                ):
                    assert one.read_bytes() == again.read_bytes(), f"not the same with {again.parent}: {way}"
            if "compress" in way.options and way.fingerprint:
                assert over(way, made, source, place) == made.image.read_bytes(), (
                    f"not the same over itself: {way}"
                )
            seen = by_us(made, way, snapshot)
            by_fsck(made, way, snapshot, peers, place / "extracted")
            (place / "2").rename(kept := tmp_path / str(len(waiting)))
        made = Made(kept / made.image.name, tuple(kept / blob.name for blob in made.devices))
        waiting.append((way, made, seen))
        if len(waiting) == BATCH:
            ask_kernels()

    def ask_kernels() -> None:
        if waiting:
            ways, images, seen = zip(*waiting, strict=True)
            by_kernels(ways, images, seen, peers, tmp_path / "mnt")
        for number in range(len(waiting)):
            shutil.rmtree(tmp_path / str(number))
        waiting.clear()

    build()
    ask_kernels()


def with_threads(way: Drawn, threads: int, source: Path, place: Path) -> Made:
    """Build with so many threads, in a directory that is named as they are."""
    target = place / str(threads)
    target.mkdir()
    return replace(way, options={**way.options, "threads": threads}).make(source, target)


def over(way: Drawn, made: Made, source: Path, place: Path) -> bytes:
    """The same image, built with an image as a base."""
    target = place / "over"
    target.mkdir()
    return replace(way, options={**way.options, "base": made.image}).make(source, target).image.read_bytes()
