"""Images of archives, of images and of layers: as if from the tree, and as overlayfs sees layers."""

from __future__ import annotations

import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

import pyerofs
import vm
from cases import CASES
from judges import as_tree, assert_same, of_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cases import Case
    from peers import Peers
    from trees import Trees

GNU = ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"]
LIBARCHIVE = ["bsdtar", "--format=pax", "--xattrs", "--acls"]


@pytest.mark.parametrize("program", [GNU, LIBARCHIVE], ids=lambda program: program[0])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tree_and_its_archive_give_the_same_bytes(
    case: Case, program: Sequence[str], trees: Trees, tmp_path: Path
) -> None:
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]}")
    source, snapshot = trees.get(case)
    entries = snapshot.values()
    if any(stat.S_ISSOCK(entry.mode) for entry in entries):
        pytest.skip("no archive holds sockets")
    if program is GNU and any(stat.S_ISFIFO(entry.mode) and entry.nlink > 1 for entry in entries):
        pytest.skip("GNU tar makes several pipes of one with several names")
    if program is LIBARCHIVE and any(entry.mtime_ns < 0 and entry.mtime_ns % 10**9 for entry in entries):
        pytest.skip("libarchive writes fractions before 1970 as nobody else reads them")
    archive = tmp_path / "archive.tar"
    subprocess.run([*program, "-cf", archive, "-C", source, "."], check=True)
    pyerofs.build(source, tmp_path / "direct", xattrs="all")
    pyerofs.build(archive, tmp_path / "archived", xattrs="all")
    assert (tmp_path / "direct").read_bytes() == (tmp_path / "archived").read_bytes()


@pytest.mark.parametrize("compress", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_image_of_an_image_says_the_same(case: Case, compress: str, trees: Trees, tmp_path: Path) -> None:
    source, _ = trees.get(case)
    pyerofs.build(source, tmp_path / "first", xattrs="all", compress=compress)
    pyerofs.build(tmp_path / "first", tmp_path / "again", xattrs="all")
    with pyerofs.open(tmp_path / "first") as first, pyerofs.open(tmp_path / "again") as again:
        assert_same(as_tree(of_image(first)), as_tree(of_image(again)), "an image of the image")


def test_mkfs_erofs_makes_the_same_tree_of_layers(peers: Peers, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "dir/below").mkdir(parents=True)
    for name in ("dir/.wh.gone", "dir/below/.wh..wh..opq", "dir/below/kept", ".wh.all"):
        (layer / name).touch()
    with (tmp_path / "layer.tar").open("wb") as archive:
        command = ["tar", "--format=gnu", "--mtime=@9", "-C", str(layer), "-c", "."]
        subprocess.run(command, check=True, stdout=archive)
    peers.run("mkfs.erofs", "--tar=f", "--aufs", tmp_path / "theirs", tmp_path / "layer.tar")
    pyerofs.build(tmp_path / "layer.tar", tmp_path / "ours", whiteouts="overlay", time=9)
    with pyerofs.open(tmp_path / "theirs") as theirs, pyerofs.open(tmp_path / "ours") as ours:
        for entry in [theirs.root, *theirs.root.scan()]:
            same = ours / entry.path
            assert same.stat().st_rdev == entry.stat().st_rdev
            assert same.extended_attributes() == entry.extended_attributes(), entry.path


@pytest.mark.usefixtures("machine")
def test_overlayfs_shows_what_a_merged_image_has(tmp_path: Path) -> None:
    base = {"etc/a": "a0", "etc/b": "b0", "usr/x": "x0", "usr/sub/y": "y0", "opt/z": "z0", "file/was": "dir"}
    layer = {
        "etc/.wh.a": "", "etc/c": "c1", "usr/.wh..wh..opq": "", "usr/new": "n1", ".wh.opt": "",
        "opt/own": "o1", "file": "a file", "alone/here": "h1", "alone/.wh.nothing": "",
    }  # fmt: skip
    images = [tmp_path / "base", tmp_path / "layer"]
    pyerofs.build(base, images[0])
    pyerofs.build(layer, images[1], whiteouts="overlay")
    pyerofs.build([base, layer], tmp_path / "merged")
    printed = vm.run(
        images,
        """
        mkdir -p /base /layer /over
        mount -t erofs -o ro /dev/vda /base && mount -t erofs -o ro /dev/vdb /layer
        mount -t overlay -o ro,lowerdir=/layer:/base overlay /over && cd /over
        find . | sort; find . -type f | sort | xargs cat; echo
        """,
    )
    with pyerofs.open(tmp_path / "merged") as image:
        entries = [image.root, *sorted(image.root.scan(), key=lambda entry: entry.path)]
        names = ["." + entry.path.rstrip("/") for entry in entries]
        contents = "".join(entry.read_text() for entry in entries if entry.is_file())
    assert printed == "".join(f"{name}\n" for name in names) + contents + "\n"
