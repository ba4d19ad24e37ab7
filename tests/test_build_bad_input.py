"""What goes wrong with a source or an output: a clear error, and nothing left; or it is simply built."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from pyerofs.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ordinary_user import OrdinaryUser

PROGRAM = [sys.executable, "-m", "pyerofs"]
LARGEST = 2**63 - 1


@pytest.fixture(autouse=True)
def _hangup() -> Iterator[None]:
    """Have programs that tests start die of a hangup, also where pytest itself runs under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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
    again = target.with_name("again.erofs")
    pyerofs.build(target, again, compress="lz4")
    assert again.read_bytes() == target.read_bytes()


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


@pytest.fixture
def forbidding(user: OrdinaryUser) -> Iterator[Path]:
    """A place of the user's: a tree with a file and a directory that it may not read, and room for output."""
    place = Path(tempfile.mkdtemp(dir=user.home))
    place.chmod(0o777)
    script = """
        mkdir -p tree/dir/forbidden tree/dir/kept out
        seq 99999 >tree/dir/first; seq 9999 >tree/secret; seq 999 >tree/visible; touch tree/empty
        seq 99 >tree/dir/forbidden/x; ln tree/visible tree/dir/link; ln tree/secret tree/dir/secret-too
        chmod 0 tree/secret tree/empty tree/dir/forbidden
    """
    user.run(["sh", "-ec", script], cwd=place, check=True)
    yield place
    user.run(["chmod", "700", "tree/dir/forbidden"], cwd=place, check=True)
    shutil.rmtree(place)


@pytest.mark.parametrize("options", [[], ["-z", "zstd"], ["-z", "lz4", "--dedupe"], ["--chunk", "64k"]])
def test_keep_going_leaves_out_what_can_not_be_read_and_says_so(
    user: OrdinaryUser, forbidding: Path, options: list[str]
) -> None:
    words: list[str | Path] = [user.python, "-m", "pyerofs", "build", *options]
    failed = user.run([*words, "tree", "out/image"], cwd=forbidding, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "Permission denied" in failed.stderr
    assert os.listdir(forbidding / "out") == []

    words += ["--exclude", "secret*", "--exclude", "/dir/forbidden"]
    user.run([*words, "tree", "out/without"], cwd=forbidding, check=True)
    words = [*words[:-4], "--keep-going", "--json"]
    done = user.run([*words, "tree", "out/image"], cwd=forbidding, capture_output=True, text=True)
    assert done.returncode == 1
    refused = "can't open: Permission denied"
    names = ["tree/dir/forbidden", "tree/dir/secret-too", "tree/secret"]
    assert done.stderr == "".join(f"pyerofs: {name}: {refused}; left out\n" for name in names)
    made = json.loads(done.stdout)
    assert made["skipped"] == [{"path": name, "reason": refused} for name in names]
    # An empty file has nothing that would have to be read.
    assert (made["files"], made["hard_links"], made["excluded"]) == (3, 1, 0)
    assert (forbidding / "out/image").read_bytes() == (forbidding / "out/without").read_bytes()


def test_keep_going_without_a_reason_is_no_failure(tmp_path: Path, target: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("readable")
    assert app.run(["build", "--keep-going", str(tmp_path / "tree"), str(target)]) == 0
    assert pyerofs.build(tmp_path / "tree", target, keep_going=True, force=True).skipped == ()


def test_keep_going_is_no_excuse_for_a_source_that_can_not_be_listed(
    user: OrdinaryUser, forbidding: Path
) -> None:
    script = "import pyerofs; pyerofs.build('tree/dir/forbidden', 'out/image', keep_going=True)"
    done = user.run([user.python, "-c", script], cwd=forbidding, capture_output=True, text=True)
    assert done.returncode == 1
    assert "PermissionError: [Errno 13] can't open: Permission denied: 'tree/dir/forbidden'" in done.stderr
    assert os.listdir(forbidding / "out") == []


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A tree that one thread compresses for a while."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).write_bytes(os.urandom(1 << 18) * 4)
    return tree


def wait_for_output(process: subprocess.Popen[str], directory: Path, count: int) -> None:
    """Wait until a build has opened so many files in a directory; they have no names."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            opened = [os.readlink(descriptor) for descriptor in descriptors.iterdir()]
            if sum(name.startswith(f"{directory}/") for name in opened) >= count:
                return
        time.sleep(0.002)


@pytest.mark.parametrize("options", [["-z", "lzma,level=9"], ["--chunk", "4k", "--blob", "BLOB"]])
@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_build_that_a_signal_ends_leaves_nothing(
    slow: Path, target: Path, number: str, status: int, options: list[str]
) -> None:
    words = [str(target.parent / "blob") if word == "BLOB" else word for word in options]
    words = [*PROGRAM, "build", "--threads", "1", *words, str(slow), str(target)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        wait_for_output(process, target.parent, 2 if "BLOB" in options else 1)
        process.send_signal(signal.Signals[number])
        told = process.communicate()[1]
    if process.returncode == 0:
        pytest.skip("it was done before it could be interrupted")
    assert (process.returncode, told) == (status, f"pyerofs: {target}: interrupted\n")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("options", [[], ["-z", "lz4"]])
def test_a_signal_ends_a_build_into_a_pipe_that_nobody_reads(
    slow: Path, target: Path, number: str, status: int, options: list[str]
) -> None:
    words = [*PROGRAM, "build", *options, str(slow), "-"]
    environment = {**os.environ, "TMPDIR": str(target.parent)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        waiting = bytearray(4)
        deadline = time.monotonic() + 60
        while not any(waiting) and time.monotonic() < deadline:  # until the first bytes are in the pipe
            fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.Signals[number])
        try:
            assert process.wait(timeout=10) == status
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == "pyerofs: -: interrupted\n"
    assert list(target.parent.iterdir()) == []


def test_a_stream_that_raises_ends_the_build_with_its_own_exception(slow: Path) -> None:
    class Stream:
        """Takes a little, and then raises."""

        taken = 0

        def write(self, data: bytes) -> int:
            """Take some of the bytes."""
            if self.taken:
                raise ZeroDivisionError("mine")
            self.taken += 1000
            return min(len(data), 1000)

    with pytest.raises(ZeroDivisionError, match="mine"):
        pyerofs.build(slow, Stream())


def test_a_hangup_that_is_ignored_does_not_end_a_build(slow: Path, target: Path) -> None:
    words = [*PROGRAM, "build", "-q", "--threads", "1", "-z", "zstd", str(slow), str(target)]
    with subprocess.Popen(["nohup", *words], stdout=subprocess.DEVNULL, text=True) as process:
        wait_for_output(process, target.parent, 1)
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 0
    assert target.exists()


@pytest.mark.root
@pytest.mark.parametrize(
    "options", [[], ["-z", "lz4"], ["--chunk", "64k"], ["--chunk", "64k", "--blob", "BLOB"]]
)
def test_a_full_output_is_an_io_error_and_leaves_nothing(
    slow: Path, target: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", target.parent], check=True)
    try:
        words = [str(target.parent / "blob") if word == "BLOB" else word for word in options]
        # What can be left out is not what is wrong here.
        for more in ([], ["--keep-going"]):
            assert app.run(["build", *words, *more, str(slow), str(target)]) == 5
            assert "No space left on device" in capfd.readouterr().err
            assert list(target.parent.iterdir()) == []
    finally:
        subprocess.run(["umount", target.parent], check=True)


@pytest.mark.root
def test_a_bomb_that_fills_the_directory_for_temporary_files_leaves_nothing_there(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    header = tarfile.TarInfo("zeros")
    header.size = 64 << 20
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", 1) as bomb:
        bomb.write(header.tobuf())
        for _ in range(64):
            bomb.write(bytes(1 << 20))
        bomb.write(bytes(1024))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        monkeypatch.setenv("TMPDIR", str(small))
        for more in ([], ["--keep-going"]):
            assert app.run(["build", *more, str(tmp_path / "bomb.tar.gz"), str(target)]) == 5
            said = capfd.readouterr().err
            assert f"{small}" in said, said
            assert "No space left on device" in said
            assert list(target.parent.iterdir()) == []
        free = os.statvfs(small)
        assert free.f_bfree == free.f_blocks
    finally:
        subprocess.run(["umount", small], check=True)


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
