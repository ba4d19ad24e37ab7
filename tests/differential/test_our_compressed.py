"""Images that our builder compresses, or stores equals of once: every judge must see the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builders import ALL_COMPRESSED, COMPRESSED, SHARED
from cases import CASES
from grid_trees import EQUALS, TREES
from judged import by_fsck, by_kernels, by_us

if TYPE_CHECKING:
    from pathlib import Path

    from builders import Ours
    from cases import Case
    from peers import Peers
    from trees import Trees

BATCH = 60
# No disk filesystem, to which fsck.erofs could extract, holds xattrs of any size.
SEEN_BY_ALL = [*TREES[1:], *(case for case in CASES if case.name != "huge_xattrs")]


def check(builders: list[Ours], case: Case, trees: Trees, peers: Peers, work: Path) -> None:
    """Make images of one tree, and ask all judges."""
    source, snapshot = trees.get(case)
    images, seen = [], []
    for number, builder in enumerate(builders):
        target = work / str(number)
        target.mkdir()
        made = builder.make(source, target)
        images.append(made)
        seen.append(by_us(made, builder, snapshot))
        by_fsck(made, builder, snapshot, peers, target / "out")
    by_kernels(builders, images, seen, peers, work / "mnt")


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs", "machine")
@pytest.mark.timeout(900)
def test_all_judges_see_the_tree(trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check(COMPRESSED, TREES[0], trees, peers, tmp_path)


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs", "machine")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [TREES[0], EQUALS], ids=str)
def test_all_judges_see_what_is_stored_once(case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check(SHARED, case, trees, peers, tmp_path)


@pytest.mark.grid
@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs", "machine")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(0, len(ALL_COMPRESSED), BATCH))
def test_all_judges_see_the_tree_in_all_ways(first: int, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check(ALL_COMPRESSED[first : first + BATCH], TREES[0], trees, peers, tmp_path)


@pytest.mark.grid
@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs", "machine")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", SEEN_BY_ALL, ids=str)
def test_all_judges_see_any_tree(case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check([*COMPRESSED, *SHARED], case, trees, peers, tmp_path)
