"""Images that our builder makes: every judge must see the tree that went in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import pyerofs
from builders import OURS, Ours
from cases import CASES, Case
from judges import (
    as_extracted,
    as_tree,
    assert_same,
    erofsfuse_mount,
    kernel_mount,
    of_directory,
    of_image,
    with_times,
)

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers
    from trees import Trees

KERNEL_BLOCKS = (512, 1024, 2048, 4096)


@pytest.mark.parametrize("builder", OURS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reader_and_the_kernel_see_the_tree(
    case: Case, builder: Ours, trees: Trees, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, snapshot = trees.get(case)
    made = builder.make(source, tmp_path)
    with pyerofs.open(made.image) as image:
        read = of_image(image)
    assert_same(builder.expected(snapshot), as_tree(read), "our reader against the tree")
    if builder.block in KERNEL_BLOCKS:
        request.getfixturevalue("kernel_erofs")
        with kernel_mount(made.image, tmp_path / "mnt") as at:
            assert_same(of_directory(at), read, "our reader against the kernel")


@pytest.mark.parametrize("builder", [row for row in OURS if row.fsck], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fsck_and_dump_agree(case: Case, builder: Ours, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    source, snapshot = trees.get(case)
    made = builder.make(source, tmp_path)
    options = ["--xattr-inode-digest"] if builder.fingerprint else []
    said = peers.fsck(made.image, *options)
    assert "<W>" not in said, said
    assert "<E>" not in said, said
    about = peers.dump(made.image, "-s")
    inodes = re.search(r"Filesystem inode count:\s+(\d+)", about)
    assert inodes is not None, about
    assert int(inodes[1]) == len({entry.ino for entry in snapshot.values()})


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fsck_extracts_the_tree(case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    if case.name == "huge_xattrs":
        pytest.skip("no disk filesystem holds such xattrs")
    source, snapshot = trees.get(case)
    made = OURS[0].make(source, tmp_path)
    peers.fsck(made.image, f"--extract={tmp_path / 'out'}", "--preserve", "--xattrs")
    extracted = of_directory(tmp_path / "out")
    expected = OURS[0].expected(snapshot)
    assert_same(
        as_extracted(expected, expected), as_extracted(as_tree(extracted), expected), "fsck --extract"
    )


@pytest.mark.root
@pytest.mark.usefixtures("fuse_device")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_erofsfuse_serves_the_tree(case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    source, snapshot = trees.get(case)
    made = OURS[0].make(source, tmp_path)
    with erofsfuse_mount(peers, made.image, tmp_path / "mnt") as at:
        seen = of_directory(at)
    # erofsfuse drops the nanoseconds.
    expected, found = (
        with_times(each, lambda when: when // 10**9) for each in (OURS[0].expected(snapshot), as_tree(seen))
    )
    assert_same(expected, found, "erofsfuse")
