"""`pyerofs.extract()`: what comes out is what went in, and what is bad does not stop the rest."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from cases import CASES, Case
from extract_tools import THREADS, below, everything, let_end_early, of_file
from judges import Snapshot, as_tree, assert_same, kernel_mount, of_directory
from pyerofs.cli import app
from tiny import DIRECTORY, REGULAR, Node

if TYPE_CHECKING:
    from pathlib import Path

    from ordinary_user import OrdinaryUser
    from trees import Trees

DOTS = ((b".", 0), (b"..", 0))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory on a disk, or in memory for cases that need it."""
    case = request.node.callspec.params.get("case") if hasattr(request.node, "callspec") else None
    if case is not None and case.memory:
        memory: Path = request.getfixturevalue("memory_path")
        return memory
    return tmp_path


@pytest.mark.root
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_root_gets_the_tree_back(case: Case, threads: int, trees: Trees, place: Path) -> None:
    source, snapshot = trees.get(case)
    image = everything(source, place / "image")
    report = pyerofs.extract(image, place / "out", threads=threads)
    assert_same(as_tree(snapshot), as_tree(of_directory(place / "out")), "extracted against the tree")
    assert (report.failed, report.losses) == (0, ())
    names = report.files + report.directories + report.symlinks + report.special + report.hard_links
    assert names == len(snapshot)


def callers(snapshot: Snapshot, uid: int) -> Snapshot:
    """A tree as an ordinary user can have it: his own, without devices and set-id bits of others."""
    kept = {}
    for path, entry in snapshot.items():
        # A character device 0:0, a whiteout, anybody may make.
        if stat.S_ISBLK(entry.mode) or (stat.S_ISCHR(entry.mode) and entry.rdev):
            continue
        mode = entry.mode if (entry.uid, entry.gid) == (uid, uid) else entry.mode & ~0o6000
        xattrs = tuple(pair for pair in entry.xattrs if not pair[0].startswith((b"trusted.", b"security.")))
        kept[path] = replace(entry, uid=uid, gid=uid, mode=mode, xattrs=xattrs)
    return kept


@pytest.mark.root
@pytest.mark.parametrize("case", [case for case in CASES if not case.memory], ids=str)
def test_an_ordinary_user_gets_all_that_he_may_have(
    case: Case, trees: Trees, tmp_path: Path, user: OrdinaryUser
) -> None:
    source, snapshot = trees.get(case)
    image = everything(source, tmp_path / "image")
    copy = user.home / f"{case}.erofs"
    copy.write_bytes(image.read_bytes())
    out = user.home / f"{case}.out"
    done = user.run(["pyerofs", "extract", copy, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The user can't list what has mode 0, and root can.
    assert_same(as_tree(callers(snapshot, user.uid)), as_tree(of_directory(out)), "extracted by a user")
    assert len(done.stderr.splitlines()) <= 6


@pytest.mark.root
def test_what_a_user_may_not_set_is_told_once_for_each_kind(user: OrdinaryUser) -> None:
    files = tuple((f"f{number}".encode(), 1 + number) for number in range(20))
    nodes = [Node(REGULAR | 0o4000, b"x", uid=5) for _ in files]
    device = ((b"null", 21),)
    image = tiny.image(
        Node(DIRECTORY, entries=(*DOTS, *files, *device)), *nodes, Node(tiny.CHARACTER, i_u=0x103, layout=0)
    )
    of_file(user.home / "kinds.erofs", image)
    done = user.run(["pyerofs", "extract", "kinds.erofs"], capture_output=True, text=True)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 3
    for words in (
        "owners: not kept of 21 entries such as /: only root may set them",
        "setuid and setgid bits: not kept of 20 entries such as /f0",
        "devices: not kept of 1 entries such as /null: only root may make them",
    ):
        assert words in done.stderr
    again = ["pyerofs", "extract", "--force", "--strict", "kinds.erofs"]
    assert user.run(again, capture_output=True).returncode == 1
    quiet = ["pyerofs", "extract", "--force", "--no-owners", "--exclude", "null", "kinds.erofs"]
    told = user.run(quiet, capture_output=True, text=True).stderr.splitlines()
    assert len(told) == 1
    assert "setuid" in told[0]


def runs_of_data(path: Path) -> list[tuple[int, int]]:
    """Where in a file the system says that there is data."""
    runs, at = [], 0
    with open(path, "rb") as file, suppress(OSError):
        while True:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            runs.append((start, at))
    return runs


def test_holes_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree/sparse", "wb") as file:
        for at in (0, 20 << 20, 40 << 20):
            file.seek(at)
            file.write(b"data" * 1000)
        file.truncate(64 << 20)
    image = everything(tmp_path / "tree", tmp_path / "image")
    with pyerofs.open(image) as opened:
        extents = (opened / "sparse").extents()
        stored = [(one.offset, one.offset + one.length) for one in extents if one.kind != "hole"]
    assert len(stored) == 3
    for threads in THREADS:
        out = tmp_path / f"out{threads}"
        pyerofs.extract(image, out, threads=threads)
        about = (out / "sparse").stat()
        assert about.st_size == 64 << 20
        assert about.st_blocks * 512 < 1 << 20
        assert runs_of_data(out / "sparse") == stored
        assert (out / "sparse").read_bytes() == (tmp_path / "tree/sparse").read_bytes()


@pytest.mark.root
@pytest.mark.usefixtures("kernel_erofs")
def test_the_kernels_mount_and_the_extracted_tree_are_the_same(trees: Trees, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "hard_links")
    image = everything(trees.get(case)[0], tmp_path / "image")
    pyerofs.extract(image, tmp_path / "out")
    with kernel_mount(image, tmp_path / "mnt") as at:
        mounted = of_directory(at)
    assert_same(as_tree(mounted), as_tree(of_directory(tmp_path / "out")), "extracted against the kernel")


@pytest.mark.root
def test_a_block_device_is_as_good_as_a_file(trees: Trees, tmp_path: Path) -> None:
    source, snapshot = trees.get(next(case for case in CASES if case.name == "a_large_file"))
    image = everything(source, tmp_path / "image")
    made = subprocess.run(["losetup", "-rf", "--show", image], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        pyerofs.extract(device, tmp_path / "out")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert_same(as_tree(snapshot), as_tree(of_directory(tmp_path / "out")), "extracted from a device")


def test_an_image_inside_a_larger_file(trees: Trees, tmp_path: Path) -> None:
    source, snapshot = trees.get(next(case for case in CASES if case.name == "sparse_files"))
    image = everything(source, tmp_path / "image")
    of_file(tmp_path / "larger", bytes(12345) + image.read_bytes() + b"behind")
    with pyerofs.open(tmp_path / "larger", offset=12345) as opened:
        pyerofs.extract(opened, tmp_path / "out")
    assert_same(as_tree(snapshot), as_tree(of_directory(tmp_path / "out")), "extracted from inside")
    assert (
        app.run(["extract", "-q", "--offset", "12345", str(tmp_path / "larger"), str(tmp_path / "cli")]) == 0
    )


# -- What is bad ----------------------------------------------------------------------------------------


def with_bad_file() -> bytes:
    """An image of three files, of which the second has its data beyond the end."""
    nodes = [Node(REGULAR, b"one"), Node(REGULAR, b"", size=5000, layout=0, i_u=999), Node(REGULAR, b"three")]
    entries = ((b"1", 1), (b"2", 2), (b"3", 3), (b"4", 2))
    return tiny.image(Node(DIRECTORY, entries=(*DOTS, *entries)), *nodes)


@pytest.mark.parametrize("threads", THREADS)
def test_one_bad_file_does_not_stop_the_others(
    threads: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(of_file(tmp_path / "bad.erofs", with_bad_file()))
    assert app.run(["extract", f"-j{threads}", image, str(tmp_path / "out")]) == 1
    assert below(tmp_path / "out") == {"1", "3"}
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith(f"pyerofs: {image}: /2: corrupt image: ")
    assert "nid 256" in told[0]
    assert app.run(["extract", "--test", f"-j{threads}", image]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("threads", THREADS)
def test_a_large_file_that_ends_early_leaves_nothing(threads: int, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    of_file(tmp_path / "tree/a", b"a")
    of_file(tmp_path / "tree/large", os.urandom(32 << 20))
    of_file(tmp_path / "tree/z", b"z")
    os.link(tmp_path / "tree/large", tmp_path / "tree/too")
    image = everything(tmp_path / "tree", tmp_path / "image")
    let_end_early(image, "large", 4 << 20)
    failed: list[OSError] = []
    report = pyerofs.extract(image, tmp_path / "out", threads=threads, on_error=failed.append)
    assert below(tmp_path / "out") == {"a", "z"}
    assert report.failed == len(failed) == 2
    assert sorted(str(error.filename) for error in failed) == ["/large", "/too"]
    tested = pyerofs.extract(image, None, threads=threads, on_error=failed.append)
    assert tested.failed == 1


def test_trouble_of_the_disk_below_the_image_is_an_io_error(tmp_path: Path) -> None:
    class Broken:
        def __init__(self, data: bytes) -> None:
            self._data, self._at = data, 0

        def seek(self, offset: int, whence: int = 0) -> int:
            self._at = offset if whence == 0 else len(self._data)
            return self._at

        def read(self, size: int) -> bytes:
            if self._at < 800_000 and self._at + size > 400_000:  # in the blocks of the large file
                raise OSError(errno.EIO, "the disk is broken")
            return self._data[self._at : self._at + size]

    (tmp_path / "tree").mkdir()
    of_file(tmp_path / "tree/good", os.urandom(50_000))
    of_file(tmp_path / "tree/large", os.urandom(1 << 20))
    data = everything(tmp_path / "tree", tmp_path / "image").read_bytes()
    failed: list[OSError] = []
    pyerofs.extract(Broken(data), tmp_path / "out", on_error=failed.append)
    assert below(tmp_path / "out") == {"good"}
    assert [error.errno for error in failed] == [errno.EIO]


def test_a_limit_that_is_hit_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/long").symlink_to("x" * 100)
    (tmp_path / "tree/short").symlink_to("x")
    image = everything(tmp_path / "tree", tmp_path / "image")
    words = ["extract", str(image), "--limit", "symlink_length=99"]
    assert app.run([*words, str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert f"{image}: /long: " in told
    assert "--limit symlink_length=" in told
    assert below(tmp_path / "out") == {"short"}
    assert app.run([*words, "--test"]) == 1
    assert app.run([*words, "--tar", str(tmp_path / "tar")]) == 1
    assert app.run(["extract", str(image), "--limit", "symlink_length=100", str(tmp_path / "all")]) == 0
