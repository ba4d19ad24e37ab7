"""What people who know mkfs.erofs ask of `pyerofs build`: the same options do the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from builders import Mkfs
from judges import as_tree, assert_same, of_image, with_times
from pyerofs.cli import app

if TYPE_CHECKING:
    from peers import Peers

CONTEXTS = """
# labels
/.*                     system_u:object_r:root_t:s0
/bin(/.*)?              system_u:object_r:bin_t:s0
/bin/.*         -l      system_u:object_r:link_t:s0
/bin/su         --      system_u:object_r:su_t:s0
/bin/s.         --      system_u:object_r:two_t:s0
/lib(64)?/ld-[0-9]+\\.so system_u:object_r:ld_t:s0
/tmp/.*                 <<none>>
/odd\\.name              system_u:object_r:odd_t:s0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in (
        "bin/su",
        "bin/sh",
        "bin/long",
        "lib64/ld-2.so",
        "lib/ld-x.so",
        "tmp/file",
        "odd.name",
        "oddxname",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "bin/link").symlink_to("sh")
    os.link(root / "bin/su", root / "lib/also-su")
    os.link(root / "bin/su", root / "another")
    return root


def test_hard_dereference_gives_each_name_an_inode(tree: Path, tmp_path: Path) -> None:
    report = pyerofs.build(tree, tmp_path / "image", hard_dereference=True)
    assert report.hard_links == 0
    with pyerofs.open(tmp_path / "image") as image:
        nids = {(image / name).inode().nid for name in ("bin/su", "lib/also-su", "another")}
        assert len(nids) == 3
        assert (image / "another").read_text() == "bin/su"
        assert {entry.stat().st_nlink for entry in image.root.rglob("*") if entry.is_file()} == {1}
    copies = tmp_path / "copies"
    subprocess.run(["cp", "-r", "--preserve=mode,timestamps", tree, copies], check=True)
    pyerofs.build(copies, tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "image").read_bytes()


def test_exclude_regex_leaves_out_what_it_is_found_in(tree: Path, tmp_path: Path) -> None:
    options = ["--exclude-regex", "^bin/s", "--exclude-regex", "x", "-q"]
    assert app.run(["build", *options, str(tree), str(tmp_path / "image")]) == 0
    with pyerofs.open(tmp_path / "image") as image:
        names = {entry.path for entry in image.root.rglob("*") if not entry.is_dir()}
    assert names == {
        "/bin/long",
        "/bin/link",
        "/lib64/ld-2.so",
        "/lib/also-su",
        "/another",
        "/odd.name",
        "/tmp/file",
    }


def test_labels_and_links_are_those_of_mkfs_erofs(tree: Path, tmp_path: Path, peers: Peers) -> None:
    contexts = tmp_path / "contexts"
    contexts.write_text(CONTEXTS)
    words = (f"--file-contexts={contexts}", "--hard-dereference")
    row = Mkfs("labels", words)
    theirs = row.make(peers, tree, tmp_path)
    assert app.run(["build", "-q", *words, str(tree), str(tmp_path / "ours")]) == 0
    with pyerofs.open(theirs.image) as one, pyerofs.open(tmp_path / "ours") as other:
        expected, found = of_image(one), of_image(other)
    labels = {entry.xattrs for entry in found.values()}
    assert len(labels) == 8
    theirs_and_ours = (with_times(as_tree(each), lambda when: when // 10**9) for each in (expected, found))
    assert_same(next(theirs_and_ours), next(theirs_and_ours), "mkfs.erofs")


def test_a_label_takes_the_place_of_the_sources(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "contexts").write_text("/.* new\n/tmp/file <<none>>\n")
    if os.geteuid() == 0:
        os.setxattr(tree / "odd.name", "security.selinux", b"old\0")
    pyerofs.build(tree, tmp_path / "image", xattrs="all", file_contexts=tmp_path / "contexts")
    with pyerofs.open(tmp_path / "image") as image:
        assert (image / "odd.name").extended_attributes()["security.selinux"] == b"new"
        assert "security.selinux" not in (image / "tmp/file").extended_attributes()


def test_a_bad_file_of_labels_is_named_with_the_line(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "contexts").write_text("/a l\n/b( l\n")
    image = tmp_path / "image"
    assert app.run(["build", "--file-contexts", str(tmp_path / "contexts"), str(tree), str(image)]) == 2
    assert re.search(r"contexts, line 2: '/b\('", capfd.readouterr().err)
    assert app.run(["build", "--file-contexts", str(tmp_path / "none"), str(tree), str(image)]) == 1
    (tmp_path / "contexts").write_bytes(b"/a \xff\n")
    for option in ("--file-contexts", "--exclude-from"):
        capfd.readouterr()
        assert app.run(["build", option, str(tmp_path / "contexts"), str(tree), str(image)]) == 2
        assert str(tmp_path / "contexts") in capfd.readouterr().err
    assert not image.exists()


def test_the_guide_names_every_option_of_mkfs_erofs(peers: Peers) -> None:
    page = (Path(__file__).parent.parent / "docs/guides/from-mkfs-erofs.md").read_text()
    said = peers.run("mkfs.erofs", "--help").stdout
    options = set(re.findall(r"(?<=[ ,])--[a-zA-Z0-9][a-zA-Z0-9-]*", said)) - {"--help", "--version"}
    assert len(options) > 30
    missing = sorted(option for option in options if option not in page)
    assert not missing
