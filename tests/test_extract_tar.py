"""`pyerofs extract --tar`: what other programs make of the archive, and that it is always the same."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from cases import CASES, Case
from extract_tools import let_end_early
from judges import Snapshot, as_tree, assert_same, of_directory
from pyerofs.cli import app
from tiny import DIRECTORY, REGULAR, Node

if TYPE_CHECKING:
    from pathlib import Path

    from trees import Trees

DOTS = ((b".", 0), (b"..", 0))
GNU = ("tar", "--xattrs", "--xattrs-include=*", "--same-owner", "--numeric-owner", "-p", "-x", "-f")
BSDTAR_CASES = {
    *("odd_names", "long_names", "hard_links", "symlinks", "devices", "modes", "owners", "xattrs"),
    *("shared_xattrs", "huge_xattrs", "acls_and_capabilities", "generated-1"),
}
BSD = ("bsdtar", "-x", "-p", "--numeric-owner", "--xattrs", "-f")


def archive(image: Path, **options: object) -> bytes:
    """The archive of an image."""
    stream = io.BytesIO()
    pyerofs.extract_tar(image, stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def comparable(snapshot: Snapshot) -> Snapshot:
    """A tree without its sockets."""
    return as_tree({path: entry for path, entry in snapshot.items() if not stat.S_ISSOCK(entry.mode)})


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gnu_tar_gets_the_tree_back(
    case: Case, trees: Trees, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("memory_path") if case.memory else tmp_path
    source, snapshot = trees.get(case)
    pyerofs.build(source, place / "image", xattrs="all")
    (place / "tar").write_bytes(archive(place / "image"))
    (place / "out").mkdir()
    done = subprocess.run(
        [*GNU, place / "tar"], cwd=place / "out", check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert_same(comparable(snapshot), as_tree(of_directory(place / "out")), "GNU tar")


def as_bsdtar_has_it(snapshot: Snapshot) -> Snapshot:
    """A tree without what bsdtar 3.6 loses: ACLs given as attributes, fractions of times before 1970."""
    kept = {
        path: replace(
            entry,
            mtime_ns=max(entry.mtime_ns, 0),
            xattrs=tuple(pair for pair in entry.xattrs if b"posix_acl" not in pair[0]),
        )
        for path, entry in snapshot.items()
    }
    # It leaves the directory that it is started in as it is.
    del kept[b""]
    return comparable(kept)


@pytest.mark.root
@pytest.mark.parametrize("case", [case for case in CASES if case.name in BSDTAR_CASES], ids=str)
def test_bsdtar_gets_the_tree_back(
    case: Case, trees: Trees, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if shutil.which("bsdtar") is None:
        pytest.skip("there is no bsdtar (libarchive-tools)")
    place = request.getfixturevalue("memory_path") if case.memory else tmp_path
    source, snapshot = trees.get(case)
    pyerofs.build(source, place / "image", xattrs="all")
    (place / "tar").write_bytes(archive(place / "image"))
    (place / "out").mkdir()
    done = subprocess.run(
        [*BSD, place / "tar"], cwd=place / "out", check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = of_directory(place / "out")
    assert_same(as_bsdtar_has_it(snapshot), as_bsdtar_has_it(found), "bsdtar")


@pytest.mark.parametrize("case", [case for case in CASES if not case.root], ids=str)
def test_pythons_tarfile_sees_the_tree(case: Case, trees: Trees, tmp_path: Path) -> None:
    source, snapshot = trees.get(case)
    pyerofs.build(source, tmp_path / "image", xattrs="all")
    data = archive(tmp_path / "image")
    assert len(data) % 10240 == 0
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as opened:
        for member in opened:
            path = b"" if member.name == "." else os.fsencode(member.name)
            found[path] = member
            entry = snapshot[path]
            first = found[os.fsencode(member.linkname)] if member.islnk() else member
            assert (first.mode, first.uid, first.gid) == (stat.S_IMODE(entry.mode), entry.uid, entry.gid)
            # A float has no more digits.
            assert first.mtime == pytest.approx(entry.mtime_ns / 10**9, abs=1e-5)
            assert member.islnk() == (entry.group != path and not stat.S_ISDIR(entry.mode))
            if member.issym():
                assert os.fsencode(member.linkname) == entry.target
            elif first.isreg():
                assert first.size == entry.size
            xattrs = {
                key.removeprefix("SCHILY.xattr.").replace("%3D", "=").replace("%25", "%").encode(): value
                for key, value in first.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            assert xattrs.keys() == {name for name, _value in entry.xattrs}
            for name, value in entry.xattrs:
                assert xattrs[name].encode("utf-8", "surrogateescape") == value
    assert found.keys() == comparable(snapshot).keys()


@pytest.mark.parametrize("name", ["hard_links", "a_large_file", "sparse_files", "wide_tree"])
def test_an_archive_is_the_same_however_it_is_made(name: str, trees: Trees, tmp_path: Path) -> None:
    source, _ = trees.get(next(case for case in CASES if case.name == name))
    image = tmp_path / "image"
    pyerofs.build(source, image)
    one = archive(image, threads=1)
    assert archive(image, threads=4) == one
    assert app.run(["extract", "-q", str(image), "--tar", str(tmp_path / "x.tar")]) == 0
    assert (tmp_path / "x.tar").read_bytes() == one
    # An image of what comes out of the archive is the same image.
    if name != "sparse_files":
        (tmp_path / "again").mkdir()
        subprocess.run(["tar", "-x", "-p", "-f", tmp_path / "x.tar", "-C", tmp_path / "again"], check=True)
        pyerofs.build(tmp_path / "again", tmp_path / "image2")
        assert (tmp_path / "image2").read_bytes() == image.read_bytes()


def test_an_archive_is_not_written_over_a_file(
    trees: Trees, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = trees.get(next(case for case in CASES if case.name == "empty_things"))
    pyerofs.build(source, tmp_path / "image")
    (tmp_path / "x.tar").write_text("precious")
    assert app.run(["extract", str(tmp_path / "image"), "--tar", str(tmp_path / "x.tar")]) == 1
    assert "exists already; --force replaces it" in capsys.readouterr().err
    assert (tmp_path / "x.tar").read_text() == "precious"
    assert app.run(["extract", "-f", str(tmp_path / "image"), "--tar", str(tmp_path / "x.tar")]) == 0
    with tarfile.open(tmp_path / "x.tar") as opened:
        assert opened.getnames() == [".", "dir", "file", "outer", "outer/inner"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "x.tar"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_archive_goes_into_a_pipe_that_has_a_name(force: list[str], trees: Trees, tmp_path: Path) -> None:
    source, _ = trees.get(next(case for case in CASES if case.name == "empty_things"))
    pyerofs.build(source, tmp_path / "image")
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        assert app.run(["extract", *force, str(tmp_path / "image"), "--tar", str(tmp_path / "pipe")]) == 0
        assert reader.communicate(timeout=60)[0] == archive(tmp_path / "image")
    # With --force it was replaced by a file, and so was /dev/null.
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_that_does_not_read_is_not_in_the_archive() -> None:
    nodes = [Node(REGULAR, b"one"), Node(REGULAR, b"", size=5000, layout=0, i_u=999), Node(REGULAR, b"three")]
    entries = ((b"1", 1), (b"2", 2), (b"3", 3), (b"4", 2))
    data = bytearray(tiny.image(Node(DIRECTORY, entries=(*DOTS, *entries)), *nodes))
    data[tiny.place(2) + 6] = 2
    failed: list[OSError] = []
    stream = io.BytesIO()
    report = pyerofs.extract_tar(bytes(data), stream, on_error=failed.append)
    assert [str(error.filename) for error in failed] == ["/2", "/4"]
    assert report.failed == 2
    stream.seek(0)
    with tarfile.open(fileobj=stream) as opened:
        assert [member.name for member in opened if member.isreg()] == ["1", "3"]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_file_that_ends_early_is_zeros_from_there_on(threads: int, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    content = os.urandom(32 << 20)
    (tmp_path / "tree/large").write_bytes(content)
    image = tmp_path / "image"
    pyerofs.build(tmp_path / "tree", image)
    let_end_early(image, "large", 10 << 20)
    failed: list[OSError] = []
    stream = io.BytesIO()
    pyerofs.extract_tar(image, stream, threads=threads, on_error=failed.append)
    assert len(failed) == 1
    assert "zeros in the archive" in str(failed[0])
    stream.seek(0)
    with tarfile.open(fileobj=stream) as opened:
        file = opened.extractfile("large")
        assert file is not None
        found = file.read()
    assert len(found) == len(content)
    assert found[: 16 << 20] in image.read_bytes()
    assert found[-(4 << 20) :] == bytes(4 << 20)


def test_a_stream_that_fails_ends_it(trees: Trees, tmp_path: Path) -> None:
    class Broken:
        def write(self, _data: bytes) -> int:
            raise LookupError("no more")

    source, _ = trees.get(next(case for case in CASES if case.name == "a_large_file"))
    pyerofs.build(source, tmp_path / "image")
    with pytest.raises(LookupError, match="no more"):
        pyerofs.extract_tar(tmp_path / "image", Broken())


def test_sockets_are_told_of(trees: Trees, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, _ = trees.get(next(case for case in CASES if case.name == "pipes_and_sockets"))
    pyerofs.build(source, tmp_path / "image")
    assert app.run(["extract", str(tmp_path / "image"), "--tar", str(tmp_path / "x.tar")]) == 0
    assert "sockets: not kept of 2 entries such as /bound" in capsys.readouterr().err


def test_names_that_no_old_header_holds(tmp_path: Path) -> None:
    tree = os.fsencode(tmp_path / "tree")
    deep = tree + (b"/" + b"d" * 99) * 3
    os.makedirs(deep)
    names = [b"n" * 255, b"\xff" * 200, b"\xff", b"plain", b"x" * 100, b"y" * 101]
    for name in names:
        with open(deep + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"\xfe" * 150, deep + b"/link")
    os.symlink(b"t" * 4000, deep + b"/long")
    os.link(deep + b"/" + names[1], deep + b"/z")
    snapshot = of_directory(tmp_path / "tree")
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    (tmp_path / "tar").write_bytes(archive(tmp_path / "image"))
    for tool in ("tar", "bsdtar"):
        if shutil.which(tool) is None:
            continue
        out = tmp_path / f"out-{tool}"
        out.mkdir()
        words = [tool, "-x", "-p", "-f", str(tmp_path / "tar")]
        done = subprocess.run(words, cwd=out, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = of_directory(out)
        if tool == "bsdtar" and os.environ.get("LC_ALL", "") in ("", "C"):
            assert len(found) == len(snapshot)
            continue
        assert_same(as_tree(snapshot), as_tree(found), tool)


def test_the_owner_of_an_archive_is_the_images(tmp_path: Path) -> None:
    data = tiny.image(Node(DIRECTORY, entries=(*DOTS, (b"x", 1))), Node(REGULAR, b"x", uid=7, gid=8))
    stream = io.BytesIO()
    pyerofs.extract_tar(data, stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as opened:
        member = opened.getmember("x")
    assert (member.uid, member.gid) == (7, 8)
    (tmp_path / "image").write_bytes(data)
    assert app.run(["extract", "--no-owners", str(tmp_path / "image"), "--tar", str(tmp_path / "t")]) == 2


def test_holes_take_no_room_in_an_archive_nor_behind_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    with open(tree / "d" / ("sparse" * 20), "wb") as file:
        for at in (1 << 20, 9 << 20, 18 << 20):
            file.seek(at)
            file.write(random.Random(at).randbytes(5000))
        file.truncate((18 << 20) + 5000)
    with open(os.fsencode(tree) + b"/begins\xff", "wb") as file:
        file.write(b"begins" * 100)
        file.truncate(3 << 20)
    os.setxattr(os.fsencode(tree) + b"/begins\xff", "user.x", b"kept")
    (tree / "zeros").touch()
    os.truncate(tree / "zeros", 1 << 30)
    os.link(tree / "zeros", tree / "zeros-too")
    pyerofs.build(tree, tmp_path / "image")
    with pyerofs.open(tmp_path / "image") as image:
        one = archive(tmp_path / "image", threads=1)
        assert archive(tmp_path / "image", threads=3) == one
        assert image.inodes == 5
    assert len(one) < 200_000
    (tmp_path / "x.tar").write_bytes(one)
    for program in ("tar", "bsdtar", "python"):
        out = tmp_path / program
        out.mkdir()
        if program == "python":
            with tarfile.open(tmp_path / "x.tar", errors="surrogateescape") as opened:
                opened.extraction_filter = staticmethod(lambda member, _path: member)
                opened.extractall(out)
        elif shutil.which(program):
            environment = {**os.environ, "LC_ALL": "C.UTF-8"}
            words = [program, "-x", "--xattrs", "-f", str(tmp_path / "x.tar")]
            subprocess.run(words, cwd=out, check=True, env=environment)
        else:
            continue
        assert (out / "zeros").stat().st_size == 1 << 30
        assert (out / "zeros-too").samefile(out / "zeros")
        for name in (b"begins\xff", b"d/" + b"sparse" * 20):
            with (
                open(os.fsencode(tree / "") + b"/" + name, "rb") as file,
                open(os.fsencode(out) + b"/" + name, "rb") as found,
            ):
                assert found.read() == file.read()
        taken = sum(path.stat().st_blocks * 512 for path in out.rglob("*"))
        assert taken < 4 << 20
        if program == "tar":
            assert os.getxattr(os.fsencode(out) + b"/begins\xff", "user.x") == b"kept"


@pytest.mark.root
def test_numbers_that_no_old_header_holds(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "x").write_bytes(b"x")
    os.chown(tree / "x", (1 << 32) - 2, 1 << 31)
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(0xFFF, 0xFFFFF))
    pyerofs.build(tree, tmp_path / "image")
    with tarfile.open(fileobj=io.BytesIO(archive(tmp_path / "image"))) as opened:
        x, device = opened.getmember("x"), opened.getmember("device")
    assert (x.uid, x.gid) == ((1 << 32) - 2, 1 << 31)
    assert (device.devmajor, device.devminor) == (0xFFF, 0xFFFFF)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An image that takes a moment to write."""
    (tmp_path / "tree").mkdir()
    for number in range(8):
        (tmp_path / f"tree/{number}").write_bytes(random.Random(number).randbytes(1 << 20) * 24)
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    return tmp_path / "image"


def test_an_archive_that_can_not_be_written_is_said_with_its_name(large: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pyerofs", "extract", "-q", str(large), "--tar"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*words, "-"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    said = "pyerofs: standard output: can't write: No space left on device\n"
    assert (done.returncode, done.stderr) == (5, said)
    limit = f'ulimit -f 1000; trap "" XFSZ; exec "$@" {tmp_path}/x.tar'
    limited = ["bash", "-c", limit, "bash", *words]
    done = subprocess.run(limited, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (5, f"pyerofs: {tmp_path}/x.tar: can't write: File too large\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "tree"]


def test_a_reader_that_goes_away_is_not_worth_a_word(large: Path) -> None:
    words = [sys.executable, "-m", "pyerofs", "extract", str(large), "--tar", "-"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1000)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_ctrl_c_and_other_signals_leave_no_archive(
    number: str, status: int, large: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "pyerofs", "extract", "-j1", str(large), "--tar", str(tmp_path / "x.tar")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".x.tar*")):
            time.sleep(0.002)
        process.send_signal(signal.Signals[number])
        told = process.communicate()[1]
    if process.returncode == 0:
        pytest.skip("it was done before it could be interrupted")
    assert process.returncode == status
    assert told == f"pyerofs: {tmp_path}/x.tar: interrupted; nothing of it is left\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "tree"]


def test_a_hangup_that_is_ignored_stays_so(large: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pyerofs", "extract", "-q", str(large), "--tar", str(tmp_path / "x.tar")]
    with subprocess.Popen(["nohup", *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob(".x.tar*")):
            time.sleep(0.002)
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 0
    assert (tmp_path / "x.tar").exists()
