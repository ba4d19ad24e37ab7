"""Whatever the tree, an image of it holds exactly that tree, as our reader and the kernel see it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyerofs
from judges import as_tree, assert_same, kernel_mount, of_directory, of_image
from random_trees import TREES, Node, make


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
@given(tree=TREES, block_size=st.sampled_from([512, 1024, 4096]))
def test_an_image_holds_the_tree_and_the_kernel_agrees(
    tree: Node, block_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        directory = Path(name)
        source, image = directory / "tree", directory / "image"
        make(tree, os.fsencode(source))
        pyerofs.build(source, image, block_size=block_size)
        expected = of_directory(source)
        with pyerofs.open(image) as opened:
            read = of_image(opened)
        assert_same(as_tree(expected), as_tree(read), "our reader")
        with kernel_mount(image, directory / "mnt") as at:
            assert_same(of_directory(at), read, "the kernel")
