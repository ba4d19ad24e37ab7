"""Our own mounts as judges of the table: through every back end the tree must look as it went in."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from builders import OURS
from cases import CASES, Case
from judges import as_tree, assert_same, of_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trees import Trees

BACKENDS: dict[str, dict[str, Any]] = {
    "fuse": {"backend": "fuse"},
    "overlay": {"backend": "overlay", "domain": "table"},
    "passthrough": {"backend": "fuse", "domain": "table"},
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One state root for all mounts here, so that later ones meet the objects of earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYEROFS_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.mark.root
@pytest.mark.usefixtures("fuse_device", "state")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mount_shows_the_tree(case: Case, backend: str, trees: Trees, tmp_path: Path) -> None:
    source, snapshot = trees.get(case)
    made = OURS[0].make(source, tmp_path)
    with pyerofs.mount(made.image, **BACKENDS[backend]) as mounted:
        seen = of_directory(mounted.path)
    expected = OURS[0].expected(snapshot)
    if backend == "overlay":
        # Overlayfs takes 0:0 in a layer for a whiteout, so the metadata layer shows another number.
        expected = {
            path: replace(entry, rdev=1) if stat.S_ISCHR(entry.mode) and entry.rdev == 0 else entry
            for path, entry in expected.items()
        }
    assert_same(expected, as_tree(seen), backend)
