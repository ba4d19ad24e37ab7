"""The grid of mkfs.erofs' options: our reader sees the tree that went in, and all that kernels see.

`make test` asks for the short form: some rows, the first tree, this machine's kernel. `make test-grid` takes
every row with every tree, and asks the newest kernel too, about each row, and about each image that this
kernel doesn't read as we do. Where one of them doesn't agree the test counts as skipped, with the reason.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import faces
import pyerofs
from grid import GRID, Row
from grid_trees import TREES
from judges import Snapshot, assert_same, differences, keeping_xattrs, kernel_mount, of_directory, of_image
from vm import NoMachineError
from vm_judge import Refused, judge

if TYPE_CHECKING:
    from pathlib import Path

    from builders import Made, Mkfs
    from cases import Case
    from peers import Peers
    from trees import Trees

BATCH = 40


def flaw(row: Mkfs) -> str:
    """What mkfs.erofs is known to do wrongly in this row."""
    return row.flawed if isinstance(row, Row) else ""


def read_by_us(made: Made) -> Snapshot | Refused:
    """What our reader sees in an image."""
    try:
        with pyerofs.open(made.image, devices=made.devices) as image:
            return of_image(image)
    except OSError as error:
        return Refused(str(error))


def read_by_the_kernel(made: Made, at: Path) -> Snapshot | Refused:
    """What this machine's kernel sees in an image."""
    try:
        with kernel_mount(made.image, at, devices=made.devices) as mounted:
            return of_directory(mounted)
    except OSError as error:
        return Refused(str(error))


def compare(row: Mkfs, tree: Snapshot, ours: Snapshot | Refused, kernel: Snapshot | Refused, who: str) -> str:
    """Our reader, a kernel and the tree agree; where something goes wrong with a row, our reader is right.

    Returns:
        Why the kernel couldn't judge; mostly nothing.
    """
    right = isinstance(ours, dict) and not differences(row.expected(tree), row.comparable(ours))
    if flaw(row) and (right or isinstance(kernel, Refused)):
        if isinstance(kernel, dict) and isinstance(ours, dict):
            assert_same(keeping_xattrs(kernel, no_xattr), keeping_xattrs(ours, no_xattr), f"ours and {who}")
        assert right or isinstance(ours, Refused), "our reader reads wrongly what a kernel refuses"
        return f"{who} doesn't read it: {kernel.error}: {flaw(row)}" if isinstance(kernel, Refused) else ""
    assert not isinstance(kernel, Refused), f"{who}: {kernel}"
    assert not isinstance(ours, Refused), f"our reader: {ours}"
    assert_same(kernel, ours, f"our reader against {who}")
    assert_same(row.expected(tree), row.comparable(ours), "our reader against the tree")
    return ""


def no_xattr(_name: bytes) -> bool:
    """Keeps none."""
    return False


def check(row: Mkfs, case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    """Make one image, and ask our reader and this machine's kernel, or the newest where this one is wrong."""
    if case.name in row.cannot:
        pytest.skip("mkfs.erofs or tar can't take this tree")
    source, snapshot = trees.get(case)
    made = row.make(peers, source, tmp_path)
    ours = read_by_us(made)
    kernel = read_by_the_kernel(made, tmp_path / "mnt")
    try:
        remark = compare(row, snapshot, ours, kernel, "this kernel")
    except AssertionError as error:
        try:
            (newest,) = judge(peers, [made])
        except NoMachineError:
            raise error from None
        remark = compare(row, snapshot, ours, newest, "the newest kernel")
        remark = remark or f"only the newest kernel reads what we read: {row}, {case}: {error}"
    if isinstance(ours, dict):
        faces.check(made, ours, f"{row} {case}", tmp_path / "extracted" if case is TREES[0] else None)
    if remark:
        pytest.skip(remark)


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
@pytest.mark.parametrize("row", [row for row in GRID if isinstance(row, Row) and row.quick], ids=str)
def test_the_short_grid(row: Mkfs, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check(row, TREES[0], trees, peers, tmp_path)


@pytest.mark.grid
@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
@pytest.mark.parametrize("case", TREES, ids=str)
@pytest.mark.parametrize("row", GRID, ids=str)
@pytest.mark.timeout(600)
def test_the_whole_grid(row: Mkfs, case: Case, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    check(row, case, trees, peers, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.grid
@pytest.mark.root
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("first", range(0, len(GRID), BATCH))
@pytest.mark.timeout(900)
def test_the_newest_kernel_agrees(first: int, trees: Trees, peers: Peers, tmp_path: Path) -> None:
    source, snapshot = trees.get(TREES[0])
    rows = GRID[first : first + BATCH]
    images = []
    for number, row in enumerate(rows):
        target = tmp_path / str(number)
        target.mkdir()
        images.append(row.make(peers, source, target))
    failures = []
    for row, made, kernel in zip(rows, images, judge(peers, images), strict=True):
        try:
            compare(row, snapshot, read_by_us(made), kernel, "the newest kernel")
        except AssertionError as error:
            failures.append(f"{row}: {error}")
    shutil.rmtree(tmp_path)
    assert not failures, "\n".join(failures)
