"""Images that our builder compresses, or stores equals of once: every judge must see the tree that went in.

The first to look is fsck.erofs, which decodes everything by code of its own, then Linux 7.2 in the virtual
machine; this machine's kernel gets what both accept.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

import pyerofs
from builders import ALL_COMPRESSED, COMPRESSED, SHARED, Ours
from cases import CASES
from grid_trees import EQUALS, TREES
from judges import (
    Snapshot,
    as_extracted,
    as_tree,
    assert_same,
    differences,
    kernel_mount,
    of_directory,
    of_image,
)
from vm_judge import Refused, judge

if TYPE_CHECKING:
    from pathlib import Path

    from builders import Made
    from cases import Case
    from peers import Peers
    from trees import Trees

BATCH = 60
# No disk filesystem, to which fsck.erofs could extract, holds xattrs of any size.
SEEN_BY_ALL = [*TREES[1:], *(case for case in CASES if case.name != "huge_xattrs")]


def by_us(made: Made, builder: Ours, tree: Snapshot) -> Snapshot:
    """What our reader sees, which must be the tree."""
    with pyerofs.open(made.image, made.devices) as image:
        read = of_image(image)
    assert_same(builder.expected(tree), as_tree(read), f"our reader, {builder}")
    return read


def by_fsck(made: Made, builder: Ours, tree: Snapshot, peers: Peers, at: Path) -> None:
    """fsck.erofs has nothing to say, checks the fingerprints, and extracts the tree."""
    devices = [f"--device={device}" for device in made.devices]
    said = peers.fsck(made.image, *devices, *(["--xattr-inode-digest"] if builder.fingerprint else []))
    # The packed inode, which is no file of the tree, has no fingerprint in mkfs.erofs' images either.
    packed = re.search(r"packed nid:\s+(\d+)", peers.dump(made.image, *devices, "-s"))
    known = f"no digest xattr for nid {packed[1]}, skipped" if packed else "nothing"
    said = "\n".join(line for line in said.splitlines() if known not in line)
    assert "<W>" not in said, f"{builder}: {said}"
    assert "<E>" not in said, f"{builder}: {said}"
    if made.devices:
        # It extracts files whose last chunk is a hole without that one, those of mkfs.erofs --blobdev too.
        peers.fsck(made.image, *devices, "--extract")
        return
    peers.fsck(made.image, f"--extract={at}", "--preserve", "--xattrs")
    expected = builder.expected(tree)
    found = as_extracted(as_tree(of_directory(at)), expected)
    assert_same(as_extracted(expected, expected), found, f"fsck --extract, {builder}")
    shutil.rmtree(at)


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
    failures = []
    for builder, made, ours, newest in zip(builders, images, seen, judge(peers, images), strict=True):
        if isinstance(newest, Refused):
            failures.append(f"{builder}: Linux 7.2: {newest.error}")
        elif lines := differences(newest, ours):
            failures.append(f"{builder}: Linux 7.2: {lines}")
        else:
            with kernel_mount(made.image, work / "mnt", devices=made.devices) as at:
                assert_same(of_directory(at), ours, f"this kernel, {builder}")
    assert not failures, "\n".join(failures)


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
