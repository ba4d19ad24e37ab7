"""What goes wrong with a source or an output: a clear error, and nothing left; or it is simply built."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import pyerofs
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from ordinary_user import OrdinaryUser

PROGRAM = [sys.executable, "-m", "pyerofs"]
LARGEST = 2**63 - 1


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "made.erofs"


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_file_that_is_one_hole_of_8_eib_is_built_without_a_fingerprint(
    memory_path: Path, target: Path, compress: str
) -> None:
    tree = memory_path / "tree"
    tree.mkdir()
    with open(tree / "endless", "wb") as file:
        file.truncate(LARGEST)
    (tree / "other").write_text("other")
    report = pyerofs.build(tree, target, compress=compress)
    assert report.fingerprints == 1
    assert report.bytes < 8 << 20  # a map of the coarsest chunks
    with pyerofs.open(target) as image:
        endless = image / "endless"
        assert endless.stat().st_size == LARGEST
        assert endless.fingerprint is None
        with endless.open("rb") as read:
            read.seek(1 << 40)
            assert read.read(12) == bytes(12)


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_sparse_file_of_8_eib_with_data_is_refused_at_once(
    memory_path: Path, target: Path, compress: str
) -> None:
    (memory_path / "tree").mkdir()
    with open(memory_path / "tree/endless", "wb") as file:
        file.truncate(LARGEST)
        file.seek(1 << 40)
        file.write(b"here")
    with pytest.raises(OSError, match=r"endless: too sparse: [0-9]+ bytes of zeros") as refused:
        pyerofs.build(memory_path / "tree", target, compress=compress)
    assert refused.value.errno == errno.EFBIG
    assert list(target.parent.iterdir()) == []


def test_holes_that_can_not_be_kept_are_too_large_and_leave_nothing(memory_path: Path, target: Path) -> None:
    (memory_path / "tree").mkdir()
    with open(memory_path / "tree/endless", "wb") as file:
        file.truncate(LARGEST)
    with pytest.raises(OSError, match="more than EROFS holds"):
        pyerofs.build(memory_path / "tree", target, holes=False)
    assert list(target.parent.iterdir()) == []


def test_paths_over_4096_bytes_are_built(tmp_path: Path, target: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    at = os.open(root, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 250, dir_fd=at)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
    os.close(at)
    report = pyerofs.build(root, target, compress="lz4")
    assert (report.directories, report.files) == (31, 1)
    with pyerofs.open(target) as image:
        depth, entry = 0, image.root
        while entry.is_dir():
            (entry,) = entry.iterdir()
            depth += 1
        assert (depth, entry.name) == (31, "bottom")


def test_an_xattr_over_64_kib_is_refused_by_name(memory_path: Path, target: Path) -> None:
    (memory_path / "tree").mkdir()
    (memory_path / "tree/file").touch()
    try:
        os.setxattr(memory_path / "tree/file", "user.large", bytes(65536))
    except OSError:
        pytest.skip("no filesystem here has such an xattr")
    with pytest.raises(OSError, match=r"file: xattr user\.large: its value is longer than 65535 bytes"):
        pyerofs.build(memory_path / "tree", target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o000, 0o200])
def test_an_unreadable_file_is_named_and_nothing_is_left(user: OrdinaryUser, mode: int) -> None:
    place = user.home / f"unreadable{mode}"
    user.run(["mkdir", "-p", place / "tree", place / "out"], check=True)
    user.run(["sh", "-c", f"seq 9999 >{place}/tree/secret; chmod {mode:o} {place}/tree/secret"], check=True)
    for more in ([], ["-z", "zstd"]):
        done = user.run(
            [user.python, "-m", "pyerofs", "build", *more, place / "tree", place / "out/image"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done.stderr
        assert f"{place}/tree/secret: can't open: Permission denied" in done.stderr
        listed = user.run(["ls", "-A", place / "out"], capture_output=True, text=True, check=True)
        assert listed.stdout == ""


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.2, 0.4, 0.8])
def test_a_killed_build_leaves_nothing_or_all(tmp_path: Path, target: Path, delay: float) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).write_bytes(os.urandom(1 << 19) * 2)
    with subprocess.Popen(
        [*PROGRAM, "build", "-z", "lzma", "--threads", "1", str(tree), str(target)], stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    if target.exists():  # it was done before the signal came
        with pyerofs.open(target) as image:
            assert all(entry.read_bytes() for entry in image.root.scan() if entry.is_file())
        target.unlink()
    assert list(target.parent.iterdir()) == []


@pytest.mark.root
def test_a_read_only_output_is_an_io_error(
    tmp_path: Path, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tree").mkdir()
    subprocess.run(["mount", "--bind", target.parent, target.parent], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", target.parent], check=True)
        assert app.run(["build", "-z", "zstd", str(tmp_path / "tree"), str(target)]) == 5
    finally:
        subprocess.run(["umount", target.parent], check=True)
    assert "Read-only file system" in capfd.readouterr().err
    assert list(target.parent.iterdir()) == []
