"""Images and neighbours that want an extraction to write where it must not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from tiny import DIRECTORY, REGULAR, SYMLINK, Node

if TYPE_CHECKING:
    from pathlib import Path

DOTS = ((b".", 0), (b"..", 0))
THREADS = (1, 3)


def below(root: Path) -> set[str]:
    """The paths in a directory."""
    return {os.fspath(path.relative_to(root)) for path in root.rglob("*")}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A small tree of several directories, as an image."""
    for path in ("usr/bin/tool", "etc/conf", "var/log/a.log"):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_text(path)
    pyerofs.build(tmp_path / "tree", tmp_path / "sample.erofs")
    return tmp_path / "sample.erofs"


def escape(target: bytes) -> tuple[bytes, set[str]]:
    """An image that makes a link and then, by a lying directory, writes through it."""
    rows = [(b".", 0, 2), (b"..", 0, 2), (b"a", 1 * 128, 7), (b"a", 2 * 128, 2)]
    inner = Node(DIRECTORY, entries=((b".", 2), (b"..", 0), (b"pwned", 3)))
    data = tiny.image(
        Node(DIRECTORY, tiny.dirents(rows)), Node(SYMLINK, target), inner, Node(REGULAR, b"outside")
    )
    return data, {"a"}


@pytest.mark.parametrize("force", [False, True])
def test_a_link_and_a_directory_of_one_name_do_not_lead_outside(force: bool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    data, _ = escape(os.fsencode(outside))
    failed: list[OSError] = []
    pyerofs.extract(data, tmp_path / "out", force=force, on_error=failed.append)
    assert failed
    assert below(outside) == set()


@pytest.mark.parametrize("name", [b"..", b"a/b", b"../pwned", b"/tmp/pwned", b"", b".", b"a\0b", b"\0"])
def test_names_that_are_paths_are_refused(name: bytes, tmp_path: Path) -> None:
    rows = sorted([(b"~", 1 * 128, 1), (name, 1 * 128, 1)])
    data = tiny.image(Node(DIRECTORY, tiny.dirents(rows)), Node(REGULAR, b"outside"))
    try:
        pyerofs.extract(data, tmp_path / "deep/out", on_error=lambda _error: None)
    except OSError:
        (tmp_path / "deep/out").mkdir(parents=True)
        pyerofs.extract(data, tmp_path / "deep/out", on_error=lambda _error: None)
    assert below(tmp_path) <= {"deep", "deep/out", "deep/out/~"}


def test_links_in_the_target_are_never_followed(sample: Path, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "conf").write_bytes(b"precious")
    (out / "usr").symlink_to(outside)
    (out / "etc").mkdir()
    (out / "etc/conf").symlink_to(outside / "conf")
    (out / "var").symlink_to(tmp_path / "nowhere")
    pyerofs.extract(sample, out, force=True)
    assert below(outside) == {"conf"}
    assert (outside / "conf").read_bytes() == b"precious"
    assert not (out / "usr").is_symlink()
    assert (out / "etc/conf").read_text() == "etc/conf"
    assert not (out / "etc/conf").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_hard_link_in_the_target_is_replaced_and_not_written_to(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "out/etc").mkdir(parents=True)
    os.link(tmp_path / "precious", tmp_path / "out/etc/conf")
    pyerofs.extract(sample, tmp_path / "out", force=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("threads", THREADS)
def test_directories_with_several_names_and_loops_end(threads: int, tmp_path: Path) -> None:
    entries = (*DOTS, (b"again", 0), (b"d", 1), (b"e", 1), (b"f", 2))
    inner = Node(DIRECTORY, entries=((b".", 1), (b"..", 0), (b"up", 0), (b"x", 2)))
    data = tiny.image(Node(DIRECTORY, entries=entries), inner, Node(REGULAR, b"x"))
    failed: list[OSError] = []
    report = pyerofs.extract(data, tmp_path / "out", threads=threads, on_error=failed.append)
    assert {str(error.filename) for error in failed} == {"/again", "/d/up", "/e"}
    assert below(tmp_path / "out") == {"d", "d/x", "f"}
    assert report.failed == 3


def test_more_names_than_links_and_more_links_than_names(tmp_path: Path) -> None:
    # tiny's inodes claim one link; the first of two names must not be waited for, nor the second fail.
    for links in (1, 2, 60_000):
        rows = tuple((f"n{number}".encode(), 1) for number in range(50))
        data = bytearray(tiny.image(Node(DIRECTORY, entries=(*DOTS, *rows)), Node(REGULAR, b"x")))
        data[tiny.place(1) + 6 : tiny.place(1) + 8] = links.to_bytes(2, "little")
        out = tmp_path / f"out{links}"
        report = pyerofs.extract(bytes(data), out)
        assert report.files + report.hard_links == 50
        assert {path.read_bytes() for path in out.iterdir()} == {b"x"}


def test_a_tree_deeper_than_descriptors_and_paths(tmp_path: Path) -> None:
    nodes = [Node(DIRECTORY, entries=DOTS) for _ in range(1500)]
    for number in range(1499):
        entries = ((b".", number), (b"..", max(number - 1, 0)), (b"d" * 20, number + 1))
        nodes[number] = Node(DIRECTORY, entries=entries)
    nodes[1499] = Node(DIRECTORY, entries=((b".", 1499), (b"..", 1498), (b"end", 1500)))
    data = tiny.image(*nodes, Node(REGULAR, b"x"))
    try:
        report = pyerofs.extract(data, tmp_path / "out")
        assert (report.directories, report.files, report.failed) == (1500, 1, 0)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)


#: Puts links to the outside where an extraction makes things, as fast as it can.
RACER = r"""
import contextlib, os, sys
out, outside = map(os.fsencode, sys.argv[1:])
print(flush=True)
while True:
    for number in range(16):
        directory = out + b"/d%d" % number
        for name in (b"file", b"link", b"pipe"):
            place, target = directory + b"/" + name, b"/dangling" if name == b"link" else b"/precious"
            with contextlib.suppress(OSError):
                os.unlink(place)
                os.link(outside + target, place)
        with contextlib.suppress(OSError):
            os.rename(directory, directory + b".moved%d" % number)
            os.symlink(outside, directory)
"""


@pytest.mark.parametrize("threads", THREADS)
def test_links_that_appear_meanwhile_are_never_followed(threads: int, tmp_path: Path) -> None:
    nodes = [Node(DIRECTORY)]
    for number in range(16):
        first = 1 + 4 * number
        inner = ((b".", first), (b"..", 0), (b"file", first + 1), (b"link", first + 2), (b"pipe", first + 3))
        nodes += [
            Node(DIRECTORY, entries=inner),
            Node(REGULAR, b"written", uid=7),
            Node(SYMLINK, b"anywhere", uid=7),
            Node(tiny.FIFO, layout=0, uid=7),
        ]
    nodes[0].entries = (*DOTS, *((f"d{number}".encode(), 1 + 4 * number) for number in range(16)))
    data = tiny.image(*nodes)
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    (outside / "dangling").symlink_to("nowhere")
    before = {
        path.name: (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns)
        for path in (outside, *outside.iterdir())
    }
    words = [sys.executable, "-c", RACER, str(out), str(outside)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as racer:
        assert racer.stdout is not None
        racer.stdout.readline()
        for _ in range(60):
            pyerofs.extract(data, out, threads=threads, force=True, on_error=lambda _error: None)
            shutil.rmtree(out, ignore_errors=True)
        racer.send_signal(signal.SIGKILL)
    assert below(outside) == {"precious", "dangling"}
    assert (outside / "precious").read_bytes() == b"precious"
    after = {
        path.name: (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns)
        for path in (outside, *outside.iterdir())
    }
    # Links to precious were made and removed: that is no change of what is asked for here.
    assert after == before
