"""`pyerofs.diff()`: exactly what differs, from either kind of tree, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
import tiny
from builders import MKFS
from cases import CASES, Case
from diff_tools import WHEN, built, edited, keeping_times, told
from judges import kernel_mount
from pyerofs.cli import app
from tiny import DIRECTORY, REGULAR, Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ordinary_user import OrdinaryUser
    from peers import Peers
    from trees import Trees


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_image_does_not_differ_from_its_source(case: Case, trees: Trees, tmp_path: Path) -> None:
    root, _ = trees.get(case)
    image = tmp_path / "image.erofs"
    pyerofs.build(root, image)
    assert told(image, root) == set()
    assert told(root, image) == set()
    assert told(image, image) == set()
    assert told(root, root) == set()


@pytest.mark.parametrize("way", [MKFS[0], MKFS[4], MKFS[6]], ids=str)
def test_a_foreign_image_does_not_differ_from_its_source(
    way: Any, old: Path, tmp_path: Path, peers: Peers
) -> None:
    made = way.make(peers, old, tmp_path)
    with pyerofs.open(made.image, made.devices) as image:
        assert told(image, old, whole_seconds=True) == set()
        assert told(old, image, ignore=["mtime"]) == set()


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
@pytest.mark.parametrize("name", ["xattrs", "devices", "odd_names", "sparse_files", "hard_links"])
def test_a_mounted_image_is_a_directory_like_any_other(name: str, trees: Trees, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    root, _ = trees.get(case)
    image = tmp_path / "image.erofs"
    pyerofs.build(root, image)
    at = tmp_path / "at"
    at.mkdir()
    with kernel_mount(image, at) as mounted:
        assert told(image, mounted) == set()
        assert told(mounted, root) == set()


CHANGES: dict[str, tuple[Callable[[Path], object], set[tuple[Any, ...]]]] = {
    "content": (
        lambda root: edited(root / "lib/file5", b"other"),
        {("changed", "lib/file5", None, ("content",))},
    ),
    "content of equal size": (
        lambda root: edited(root / "lib/file5", b"x" * (root / "lib/file5").stat().st_size),
        {("changed", "lib/file5", None, ("content",))},
    ),
    "mode": (
        lambda root: (root / "lib/file5").chmod(0o4755),
        {("changed", "lib/file5", None, ("mode",))},
    ),
    "time": (
        lambda root: os.utime(root / "link", ns=(1, WHEN + 1), follow_symlinks=False),
        {("changed", "link", None, ("mtime",))},
    ),
    "xattr": (
        lambda root: os.setxattr(root / "lib/file5", "user.new", b"value"),
        {("changed", "lib/file5", None, ("xattrs",))},
    ),
    "target": (
        lambda root: keeping_times(
            root, (root / "link").unlink, lambda: (root / "link").symlink_to("lib/file2")
        ),
        {("changed", "link", None, ("mtime", "target"))},
    ),
    "type": (
        lambda root: keeping_times(root, (root / "pipe").unlink, (root / "pipe").mkdir),
        {("changed", "pipe", None, ("type", "mtime"))},
    ),
    "a directory that became a file": (
        lambda root: keeping_times(
            root, lambda: shutil.rmtree(root / "lib/deep"), lambda: edited(root / "lib/deep", b"x")
        ),
        {
            ("changed", "lib", None, ("mtime",)),
            ("changed", "lib/deep", None, ("type",)),
            ("removed", "lib/deep/large", None, ()),
        },
    ),
    "links apart": (
        lambda root: keeping_times(
            root / "lib",
            (root / "lib/hard").unlink,
            lambda: subprocess.run(["cp", "-a", root / "lib/file3", root / "lib/hard"], check=True),
        ),
        {("changed", "lib/hard", None, ("links",))},
    ),
    "one of two names": (
        lambda root: keeping_times(root / "lib", (root / "lib/hard").unlink),
        {("removed", "lib/hard", None, ())},
    ),
    "added and removed": (
        lambda root: keeping_times(
            root, (root / "empty").rmdir, (root / "more").mkdir, (root / "more/x").touch
        ),
        {
            ("removed", "empty", None, ()),
            ("added", "more", None, ()),
            ("added", "more/x", None, ()),
        },
    ),
    "moved": (
        lambda root: keeping_times(
            root / "empty",
            lambda: keeping_times(
                root / "lib/deep", lambda: (root / "lib/deep/large").rename(root / "empty/big")
            ),
        ),
        {("moved", "empty/big", "lib/deep/large", ())},
    ),
    "moved and changed": (
        lambda root: keeping_times(
            root / "lib",
            lambda: (root / "lib/file7").chmod(0o600),
            lambda: (root / "lib/file7").rename(root / "lib/seven"),
        ),
        {("moved", "lib/seven", "lib/file7", ("mode",))},
    ),
    "within a hole": (
        lambda root: keeping_times(root / "sparse", lambda: _poke(root / "sparse", 30 << 20)),
        {("changed", "sparse", None, ("content",))},
    ),
    "at the end": (
        lambda root: keeping_times(
            root / "lib/deep/large", lambda: _poke(root / "lib/deep/large", (3 << 20) - 1)
        ),
        {("changed", "lib/deep/large", None, ("content",))},
    ),
}


def _poke(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff")


@pytest.mark.parametrize("kinds", ["di", "id", "ii", "dd"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_nothing_else(name: str, kinds: str, old: Path, new: Path) -> None:
    change, expected = CHANGES[name]
    change(new)
    a = old if kinds[0] == "d" else built(old)
    b = new if kinds[1] == "d" else built(new)
    assert told(a, b) == expected
    # The way back is the same with the words turned round.
    turned = {"added": "removed", "removed": "added"}
    back = {(turned.get(kind, kind), *rest) for kind, *rest in expected if kind != "moved"}
    back |= {(kind, old, path, fields) for kind, path, old, fields in expected if kind == "moved"}
    assert told(b, a) == back


COMPRESSED = {
    "lz4": ("-zlz4", "-C65536"),
    "fragments": ("-zzstd,level=3", "-Eall-fragments,dedupe", "-C32768"),
    "tails": ("-zdeflate,level=1", "-Eztailpacking"),
    "metabox": ("-zlzma,level=1", "-m4096"),
}


@pytest.mark.parametrize("way", COMPRESSED)
def test_compressed_images_are_compared_by_what_they_decode_to(
    way: str, old: Path, new: Path, peers: Peers
) -> None:
    packed = old.parent / "packed.erofs"
    peers.mkfs(packed, old, *COMPRESSED[way])
    image = built(old)
    assert pyerofs.open(packed).compressed

    def seen(a: Path, b: Path) -> set[tuple[Any, ...]]:
        # A metabox comes with inodes that have no nanoseconds.
        return told(a, b, whole_seconds=True)

    assert seen(packed, old) == seen(old, packed) == seen(packed, image) == seen(packed, packed) == set()
    # The fragments of two images lie in different places.
    keeping_times(new / "lib/deep/large", lambda: _poke(new / "lib/deep/large", 2_000_000))
    edited(new / "lib/file5", b"x" * (new / "lib/file5").stat().st_size)
    keeping_times(new / "lib", lambda: (new / "lib/file7").rename(new / "lib/seven"))
    packed_too = old.parent / "packed-too.erofs"
    peers.mkfs(packed_too, new, *COMPRESSED[way])
    expected = {
        ("changed", "lib/deep/large", None, ("content",)),
        ("changed", "lib/file5", None, ("content",)),
        ("moved", "lib/seven", "lib/file7", ()),
    }
    for a, b in ((packed, packed_too), (image, packed_too), (packed, new), (old, packed_too)):
        assert seen(a, b) == expected


@pytest.mark.root
def test_owners_and_device_numbers_are_compared(old: Path, new: Path) -> None:
    os.chown(new / "lib/file1", 7, 8)
    for root, number in ((old, 5), (new, 300)):
        os.mknod(root / "node", stat.S_IFCHR | 0o600, os.makedev(1, number))
        os.utime(root / "node", ns=(WHEN, WHEN))
        os.utime(root, ns=(WHEN, WHEN))
    image = built(old)
    assert told(image, new) == {
        ("changed", "lib/file1", None, ("owner",)),
        ("changed", "node", None, ("device",)),
    }
    change = next(change for change in pyerofs.diff(image, built(new)) if change.path == "node")
    assert change.old is not None
    assert change.new is not None
    assert (os.minor(change.old.device), os.minor(change.new.device)) == (5, 300)


def test_what_is_ignored_does_not_count(old: Path, new: Path) -> None:
    (new / "lib/file1").chmod(0o600)
    os.utime(new / "lib/file2", ns=(5, 5))
    os.setxattr(new / "lib/file4", "user.x", b"")
    edited(new / "lib/file5", b"other")
    image = built(old)
    assert len(told(image, new)) == 4
    assert told(image, new, content_only=True) == {("changed", "lib/file5", None, ("content",))}
    assert told(image, new, ignore=["mtime", "mode", "content"]) == {
        ("changed", "lib/file4", None, ("xattrs",))
    }
    with pytest.raises(ValueError, match="no 'colour'"):
        pyerofs.diff(image, new, ignore=["colour"])


def test_attributes_that_a_build_leaves_out_do_not_count_against_a_directory(tmp_path: Path) -> None:
    root = tmp_path / "old"
    root.mkdir()
    if os.geteuid() != 0:
        pytest.skip("trusted attributes need root")
    os.setxattr(root, "trusted.secret", b"1")
    image = built(root)
    assert told(image, root) == set()
    assert told(image, root, xattrs="all") == {("changed", ".", None, ("xattrs",))}
    (change,) = pyerofs.diff(image, root, xattrs="all")
    assert change.xattrs == (("trusted.secret", "added"),)


def test_a_claimed_fingerprint_counts_only_if_the_caller_says_so(old: Path) -> None:
    image = built(old)
    digest = bytes.fromhex((pyerofs.open(image) / "lib/file5").fingerprint.removeprefix("sha256:"))  # type: ignore[union-attr]
    data = image.read_bytes()
    liar = old.parent / "liar.erofs"
    # The claim stays and one byte of the content changes.
    with pyerofs.open(image) as opened:
        at = (opened / "lib/file5").extents()[0].blob_offset
    assert at is not None
    assert digest in data
    liar.write_bytes(data[:at] + b"#" + data[at + 1 :])
    assert told(image, liar) == {("changed", "lib/file5", None, ("content",))}
    assert told(image, liar, trust_fingerprints=True) == set()


def test_fingerprints_are_no_attributes_of_the_files(old: Path) -> None:
    with_them = built(old, fingerprint="user.digest")
    without = old.parent / "without.erofs"
    pyerofs.build(old, without, fingerprint=False)
    assert told(with_them, without) == set()
    assert told(with_them, old) == set()


def test_a_moved_file_is_matched_by_its_name_first(old: Path, new: Path) -> None:
    for name in ("a", "b", "c"):
        (old / "empty" / name).write_bytes(b"the same bytes")
        (new / "link.d").mkdir(exist_ok=True)
        (new / "link.d" / name).write_bytes(b"the same bytes")
    (new / "link.d/b").rename(new / "link.d/z")
    (old / "empty/nothing").touch()
    (new / "link.d/nothing").touch()
    (new / "link.d/also-nothing").touch()
    assert {row[:3] for row in told(built(old), new, ignore=["mtime"]) if row[0] != "changed"} == {
        ("moved", "link.d/a", "empty/a"),
        ("moved", "link.d/c", "empty/c"),
        ("moved", "link.d/z", "empty/b"),
        ("moved", "link.d/nothing", "empty/nothing"),
        ("added", "link.d", None),
        ("added", "link.d/also-nothing", None),
    }


def test_too_many_changes_to_keep_are_reported_without_moves(old: Path, new: Path) -> None:
    shutil.rmtree(new / "lib")
    (new / "moved").mkdir()
    (new / "moved/large").write_bytes((old / "lib/deep/large").read_bytes())
    image = built(old)
    all_of_them = list(pyerofs.diff(image, new))
    assert "moved" in {change.kind for change in all_of_them}
    for limit in (0, 3):
        found = pyerofs.diff(image, new, move_limit=limit)
        changes = list(found)
        assert found.gave_up_moves == (limit != 0)
        assert {change.kind for change in changes} == {"added", "removed", "changed"}
        assert len(changes) == len(all_of_them) + 1
        assert [change.path for change in changes if change.kind == "removed"][:2] == ["lib", "lib/deep"]


def test_entries_and_open_images_are_trees_too(old: Path, new: Path, tmp_path: Path) -> None:
    edited(new / "lib/file5", b"other")
    image = built(old)
    shifted = tmp_path / "shifted"
    shifted.write_bytes(b"x" * 4096 + image.read_bytes())
    with pyerofs.open(shifted, offset=4096) as opened:
        expected = {("changed", "lib/file5", None, ("content",))}
        assert told(opened, new) == expected
        assert told(opened / "lib", new / "lib") == {("changed", "file5", None, ("content",))}
        assert told(opened, new, path="lib/file5") == {("changed", ".", None, ("content",))}
        assert told(opened / "lib/file3", opened / "lib/hard") == set()
    data = image.read_bytes()
    with pyerofs.open(data) as in_memory:
        assert told(in_memory, image) == set()


def test_a_file_object_can_be_compared_from_the_threads(old: Path, new: Path) -> None:
    edited(new / "lib/file5", b"other")
    with built(old).open("rb") as file, pyerofs.open(file) as image:
        assert told(image, new) == {("changed", "lib/file5", None, ("content",))}


def test_closing_a_comparison_ends_it(old: Path, new: Path) -> None:
    image = built(old)
    shutil.rmtree(new / "lib")
    before = threading.active_count()
    with pyerofs.diff(image, new, move_limit=0) as changes:
        next(changes)
    assert list(changes) == []
    assert threading.active_count() == before


def test_the_order_is_that_of_the_paths(old: Path, new: Path) -> None:
    for path in new.rglob("*"):
        os.utime(path, ns=(3, 3), follow_symlinks=False)
    image = built(old)
    runs = [[change.path for change in pyerofs.diff(image, new, threads=n)] for n in (1, 2, 4, 4)]
    assert runs[0] == sorted(runs[0], key=lambda path: path.split("/"))
    assert all(run == runs[0] for run in runs)


# -- what is bad ---------------------------------------------------------------------------------------------


def test_a_bad_file_is_reported_and_the_others_are_compared(
    old: Path, new: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited(new / "lib/file5", b"other")
    image = built(old)
    with pyerofs.open(image) as opened:
        at = (opened / "lib/deep/large").extents()[0].blob_offset
        smaller = [(opened / f"lib/file{n}").extents()[0].blob_offset or 0 for n in range(1, 12)]
    assert at is not None
    if max(smaller) > at:
        pytest.skip("the large file does not lie last in the image")
    os.truncate(image, at + 4096)
    errors: list[OSError] = []
    assert told(image, new, on_error=errors.append) >= {("changed", "lib/file5", None, ("content",))}
    assert [(error.filename, error.tree) for error in errors if error.filename == "lib/deep/large"] == [  # type: ignore[attr-defined]
        ("lib/deep/large", "a")
    ]
    assert isinstance(errors[0], pyerofs.CorruptImage)
    with pytest.raises(pyerofs.CorruptImage):
        told(image, new)
    assert app.run(["diff", str(image), str(new)]) == 2
    out, err = capfd.readouterr()
    assert "M  lib/file5 (content, " in out
    assert f"pyerofs: {image}: lib/deep/large: " in err


def test_what_a_user_may_not_read_is_reported_and_the_others_are_compared(user: OrdinaryUser) -> None:
    place = user.home / "unreadable"
    old, new = place / "old", place / "new"
    for root in (old, new):
        for name in ("closed", "open"):
            (root / name).mkdir(parents=True)
            (root / name / "file").write_bytes(b"one")
        (root / "secret").write_bytes(b"one")
        (root / "plain").write_bytes(b"one")
    image = built(old)
    (new / "plain").write_bytes(b"two")
    (new / "open/more").touch()
    (new / "secret").chmod(0)
    (new / "closed").chmod(0)
    for path in [place, *place.rglob("*")]:
        os.chown(path, user.uid, user.uid)
    words = ["pyerofs", "diff", "-I", "mtime,mode,owner", str(image), str(new)]
    done = user.run(words, cwd=place, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["A  open/more", "M  plain (content, 3 bytes)"]
    assert sorted(done.stderr.splitlines()) == [
        f"pyerofs: {new}: closed: Permission denied",
        f"pyerofs: {new}: secret: Permission denied",
    ]


def test_an_image_that_loops_ends() -> None:
    dots = ((b".", 0), (b"..", 0))
    loop = tiny.image(
        Node(DIRECTORY, entries=(*dots, (b"sub", 1), (b"x", 2))),
        Node(DIRECTORY, entries=((b".", 1), (b"..", 0), (b"up", 0))),
        Node(REGULAR, b"data"),
    )
    errors: list[OSError] = []
    with pyerofs.open(loop) as image, pyerofs.open(tiny.sample()) as sample:
        told(image, image, on_error=errors.append)
        assert {error.filename for error in errors} == {"sub/up"}
        told(image, sample, on_error=errors.append)
    with pyerofs.open(loop, limits={"walk_entries": 1}) as image, pytest.raises(pyerofs.LimitExceeded):
        told(image, image)


def test_a_claimed_hole_is_not_read() -> None:
    def sparse(size: int) -> bytes:
        dots = ((b".", 0), (b"..", 0))
        return tiny.image(
            Node(DIRECTORY, entries=(*dots, (b"x", 1))),
            Node(REGULAR, size=size, layout=0, i_u=0xFFFFFFFF),  # all of it is a hole
        )

    with pyerofs.open(sparse((1 << 32) - 1)) as one, pyerofs.open(sparse((1 << 32) - 1)) as new:
        assert told(one, new) == set()
