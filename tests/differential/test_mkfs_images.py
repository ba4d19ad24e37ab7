"""Images that mkfs.erofs makes: our reader sees the tree that went in, and all that the kernel sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pyerofs
from builders import MKFS, Mkfs
from cases import CASES, Case
from judges import assert_same, kernel_mount, of_directory, of_image

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers
    from trees import Trees


@pytest.mark.parametrize("builder", MKFS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("kernel_erofs")
def test_the_reader_sees_what_the_kernel_sees(
    case: Case, builder: Mkfs, trees: Trees, peers: Peers, tmp_path: Path
) -> None:
    if case.name in builder.cannot:
        pytest.skip("mkfs.erofs refuses this tree")
    source, snapshot = trees.get(case)
    made = builder.make(peers, source, tmp_path)
    with pyerofs.open(made.image, devices=made.devices) as image:
        read = of_image(image)
    assert_same(builder.expected(snapshot), builder.comparable(read), "our reader against the tree")
    with kernel_mount(made.image, tmp_path / "mnt", devices=made.devices) as at:
        assert_same(of_directory(at), read, "our reader against the kernel")
