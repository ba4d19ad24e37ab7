"""Building through Python and the command line: options, reports, refusals, interruption, full disks."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyerofs
from pyerofs.cli import app
from pyerofs.errors import UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-m", "pyerofs"]
CONTENT = bytes(range(256)) * 33


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(CONTENT)
    (root / "sub" / "notes.txt").write_text("notes")
    (root / "sub" / "cache.o").write_text("object")
    (root / "empty").touch()
    (root / "link").symlink_to("sub/notes.txt")
    os.link(root / "file", root / "sub" / "again")
    for path in (*root.rglob("*"), root):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "made.erofs"


@pytest.fixture(autouse=True)
def no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def names(image: Path | bytes) -> set[str]:
    with pyerofs.open(image) as opened:
        return {entry.path for entry in opened.root.rglob("*")}


def test_what_is_built_is_what_is_read(tree: Path, target: Path) -> None:
    report = pyerofs.build(tree, target)
    assert report.bytes == target.stat().st_size
    assert (report.directories, report.files, report.hard_links) == (2, 4, 1)
    assert report.inodes == 7
    assert report.fingerprints == 3
    assert report.content_bytes == len(CONTENT) + 11
    assert report.oldest_kernel == (6, 4)
    assert ("fingerprints", (6, 4), "build without fingerprints") in report.features
    assert report.target_kernel == (6, 6)
    with pyerofs.open(target) as image:
        assert image.uuid == report.uuid
        assert image.build_time == report.build_time == 1_600_000_000
        assert image.oldest_kernel == (6, 4)
        file = image / "file"
        assert file.read_bytes() == CONTENT
        assert file.samefile("sub/again")
        assert file.stat().st_nlink == 2
        assert file.fingerprint == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        assert (image / "empty").fingerprint is None
        assert (image / "link").read_text() == "notes"


def test_every_way_to_name_source_and_target_gives_the_same_bytes(tree: Path, target: Path) -> None:
    pyerofs.build(tree, target)
    expected = target.read_bytes()
    stream = io.BytesIO()
    pyerofs.build(str(tree), stream)
    assert stream.getvalue() == expected
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        pyerofs.build(descriptor, str(target), force=True, threads=1)
    finally:
        os.close(descriptor)
    assert target.read_bytes() == expected


def test_a_raw_stream_that_takes_little_gets_everything(tree: Path) -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self.got = bytearray()

        def write(self, data: Any, /) -> int:
            taken = min(len(data), 1000)
            self.got += data[:taken]
            return taken

    slow, whole = Slow(), io.BytesIO()
    pyerofs.build(tree, slow)
    pyerofs.build(tree, whole)
    assert bytes(slow.got) == whole.getvalue()


def test_options_change_what_they_say(tree: Path, target: Path) -> None:
    pyerofs.build(
        tree,
        target,
        block_size=512,
        label="vol",
        uuid="12345678-1234-5678-1234-567812345678",
        time=1_500_000_000,
        force_uid=12,
        force_gid=34,
        fingerprint=False,
        exclude=["*.o", "/empty"],
    )
    with pyerofs.open(target) as image:
        assert image.block_size == 512
        assert image.label == "vol"
        assert image.uuid == UUID("12345678-1234-5678-1234-567812345678")
        found = (image / "file").stat()
        assert (found.st_mtime, found.st_uid, found.st_gid) == (1_500_000_000, 12, 34)
        assert (image / "file").fingerprint is None
    assert names(target) == {"/file", "/link", "/sub", "/sub/again", "/sub/notes.txt"}


def test_owners_are_mapped(tree: Path, target: Path) -> None:
    uid, gid = os.getuid(), os.getgid()
    pyerofs.build(tree, target, uid_map=[(uid, 5000, 1)], gid_map=[(gid, 6000, 1)], gid_offset=7)
    with pyerofs.open(target) as image:
        assert ((image / "file").uid, (image / "file").gid) == (5000, 6007)
    pyerofs.build(tree, target, all_root=True, force=True)
    with pyerofs.open(target) as image:
        assert ((image / "file").uid, (image / "file").gid) == (0, 0)


def test_xattrs_are_chosen_by_pattern(tree: Path, target: Path) -> None:
    try:
        os.setxattr(tree / "file", "user.colour", b"blue")
        os.setxattr(tree / "file", "user.shape", b"round")
    except OSError as error:
        pytest.skip(f"no user xattrs here: {error.strerror}")
    chosen: list[tuple[Any, set[str]]] = [
        ("default", {"user.colour", "user.shape"}),
        ("none", set()),
        ("user.col*", {"user.colour"}),
        (["user.s*", "trusted.*"], {"user.shape"}),
    ]
    for choice, expected in chosen:
        pyerofs.build(tree, target, xattrs=choice, force=True)
        with pyerofs.open(target) as image:
            assert set((image / "file").xattrs) == expected


def test_the_environment_s_epoch_bounds_times(
    tree: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert pyerofs.build(tree, target).build_time == 1_000_000_000
    with pyerofs.open(target) as image:
        assert (image / "file").stat().st_mtime == 1_000_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ValueError, match="SOURCE_DATE_EPOCH"):
        pyerofs.build(tree, target, force=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_size": 1000},
        {"label": "x" * 17},
        {"uuid": "nonsense"},
        {"target_kernel": "six"},
        {"target_kernel": (4, 19), "fingerprint": False},
        {"threads": 0},
        {"uid_map": [(0, 1, 0)]},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_a_value_error(
    tree: Path, target: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        pyerofs.build(tree, target, **wrong)
    assert list(target.parent.iterdir()) == []


def test_a_kernel_that_is_too_old_is_unsupported_with_a_remedy(tree: Path, target: Path) -> None:
    with pytest.raises(UnsupportedFeature, match=r"6\.4.*without fingerprints") as caught:
        pyerofs.build(tree, target, target_kernel="5.10")
    assert caught.value.errno == errno.EOPNOTSUPP
    assert pyerofs.build(tree, target, target_kernel="5.10", fingerprint=False).oldest_kernel <= (5, 10)


def test_an_image_that_exists_is_kept_unless_forced(tree: Path, target: Path) -> None:
    target.write_text("precious")
    with pytest.raises(FileExistsError) as caught:
        pyerofs.build(tree, target)
    assert caught.value.filename == str(target)
    assert target.read_text() == "precious"
    pyerofs.build(tree, target, force=True)
    assert "/file" in names(target)


def test_what_is_missing_is_named(tree: Path, target: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        pyerofs.build(tree / "gone", target)
    assert caught.value.filename == str(tree / "gone")
    with pytest.raises(pyerofs.errors.SourceError, match="no tar archive"):
        pyerofs.build(tree / "file", target)
    with pytest.raises(FileNotFoundError):
        pyerofs.build(tree, target.parent / "gone" / "x.erofs")


def test_progress_is_told_in_order_and_ends_full(tree: Path, target: Path) -> None:
    (tree / "large").write_bytes(os.urandom(1 << 20) * 64)
    told: list[Any] = []
    here = threading.get_ident()

    def progress(state: Any) -> None:
        assert threading.get_ident() == here
        told.append(state)

    pyerofs.build(tree, target, progress=progress)
    order = ["scan", "plan", "pack", "finish"]
    phases = [order.index(state.phase) for state in told]
    assert phases == sorted(phases)
    assert told[-1].phase == "finish"
    assert all(state.bytes <= state.total_bytes for state in told if state.phase == "pack")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("options", [{}, {"chunk": 4096, "blob": "blob"}])
def test_an_exception_from_progress_ends_the_build_and_leaves_nothing(
    tree: Path, target: Path, last: bool, options: dict[str, Any]
) -> None:
    def progress(state: Any) -> None:
        if state.phase == "finish" or not last:
            raise LookupError("enough")

    if "blob" in options:
        options = {**options, "blob": target.parent / "blob"}
    with pytest.raises(LookupError, match="enough"):
        pyerofs.build(tree, target, progress=progress, **options)
    assert list(target.parent.iterdir()) == []
    target.write_text("old")
    with pytest.raises(LookupError, match="enough"):
        pyerofs.build(tree, target, progress=progress, force=True)
    assert target.read_text() == "old"


def test_an_exception_from_a_stream_comes_through(tree: Path) -> None:
    class Broken(io.RawIOBase):
        def write(self, _data: Any, /) -> int:
            raise LookupError("no room in the attic")

    with pytest.raises(LookupError, match="attic"):
        pyerofs.build(tree, Broken())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that takes a while: 30,000 small files and 256 MiB to hash."""
    root = tmp_path_factory.mktemp("large") / "tree"
    for number in range(300):
        directory = root / str(number)
        directory.mkdir(parents=True)
        for inner in range(100):
            (directory / str(inner)).write_bytes(b"%d/%d" % (number, inner))
    (root / "zeros").write_bytes(bytes(256 << 20))
    return root


@pytest.mark.parametrize("delay", [0.3, 0.6])
def test_ctrl_c_leaves_nothing_behind(large: Path, target: Path, delay: float) -> None:
    with subprocess.Popen(
        [*PROGRAM, "build", "--threads", "1", str(large), str(target)], stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read()
        status = process.wait(timeout=30)
    if status == 0:
        pytest.skip("the build was done before the signal came")
    # On a busy machine the signal may come before the command knows its arguments.
    assert (status, err) in [(130, f"pyerofs: {name}interrupted\n") for name in ("", f"{target}: ")]
    assert list(target.parent.iterdir()) == []


def test_a_file_size_limit_is_an_io_error_and_leaves_nothing(tree: Path, target: Path) -> None:
    (tree / "large").write_bytes(os.urandom(1 << 20) * 4)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(
        [*PROGRAM, "build", str(tree), str(target)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.startswith(f"pyerofs: {target}")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_is_an_io_error_and_leaves_nothing(
    tree: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tree / "large").write_bytes(os.urandom(1 << 20) * 4)
    with pytest.raises(OSError, match="No space left") as caught:
        pyerofs.build(tree, small_disk / "x.erofs")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(small_disk / "x.erofs")
    assert app.run(["build", str(tree), str(small_disk / "x.erofs")]) == 5
    assert "No space left" in capfd.readouterr().err
    assert list(small_disk.iterdir()) == []


def test_the_command_says_what_it_made(tree: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["build", str(tree), str(target)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith(f"{target}: 7 inodes, ")
    assert "Linux 6.4 and newer" in out
    assert app.run(["build", str(tree), str(target)]) == 1
    assert capfd.readouterr().err.startswith(f"pyerofs: {target}: exists already; ")
    assert app.run(["build", "-f", "--json", str(tree), "-o", str(target)]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["schema"], facts["inodes"], facts["oldest_kernel"]) == (1, 7, "6.4")
    assert app.run(["build", "-qf", str(tree), str(target)]) == 0
    assert capfd.readouterr() == ("", "")


def test_the_command_takes_mkfs_s_short_options(tree: Path, target: Path) -> None:
    words = ["-b", "1k", "-L", "vol", "-U", "clear", "-T", "5", "-x", "-1", "--exclude", "*.o"]
    assert app.run(["build", *words, str(tree), str(target)]) == 0
    with pyerofs.open(target) as image:
        assert (image.block_size, image.label, image.uuid) == (1024, "vol", UUID(int=0))
        assert (image / "file").stat().st_mtime == 5
        assert not (image / "sub/cache.o").exists()


def test_excludes_come_from_a_file_too(tree: Path, target: Path, tmp_path: Path) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text("# a comment\n*.txt\n!notes.txt\n/sub/again\n")
    assert (
        app.run(["build", "--exclude-from", str(patterns), "--exclude", "*.o", str(tree), str(target)]) == 0
    )
    assert names(target) == {"/file", "/empty", "/link", "/sub", "/sub/notes.txt"}


def test_a_dash_is_standard_output(tree: Path, target: Path) -> None:
    done = subprocess.run([*PROGRAM, "build", str(tree), "-"], capture_output=True, check=True)
    pyerofs.build(tree, target)
    assert done.stdout == target.read_bytes()
    assert done.stderr.startswith(b"standard output: 7 inodes")


@pytest.mark.parametrize(
    "words",
    [
        ["tree"],
        ["-", "-", "c"],
        ["a", "--whiteouts", "b", "c"],
        ["a", "--contents", "b", "c"],
        ["-b", "many", "a", "b"],
        ["-b", "1000", "a", "b"],
        ["-U", "x", "a", "b"],
        ["--uid-map", "1", "a", "b"],
        ["--target-kernel", "x", "a", "b"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["build", *words]) == 2
    err = capfd.readouterr().err
    assert err.startswith("pyerofs: ")
    assert err.count("\n") == 1


NAMES = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda name: not {b"/"[0], 0} & set(name))
    .filter(lambda name: name not in (b".", b".."))
)
FILES = st.binary(max_size=9000)
TREES = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=5),
    lambda inner: st.dictionaries(NAMES, st.one_of(FILES, inner), max_size=5),
    max_leaves=20,
)


@given(tree=TREES, block=st.sampled_from([512, 1024, 4096, 65536]), tail=st.sampled_from([0, 100, 65536]))
def test_any_tree_comes_back_as_it_was(tree: Any, block: int, tail: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        _write(os.fsencode(place), tree)
        stream = io.BytesIO()
        pyerofs.build(place, stream, block_size=block, inline_tail=tail)
    with pyerofs.open(stream.getvalue()) as image:
        assert _read(image.root) == tree


def _write(at: bytes, tree: Any) -> None:
    for name, value in tree.items():
        path = at + b"/" + name
        if isinstance(value, bytes):
            with open(path, "wb") as file:
                file.write(value)
        else:
            os.mkdir(path)
            _write(path, value)


def _read(directory: pyerofs.Entry) -> Any:
    return {
        os.fsencode(entry.name): _read(entry) if entry.is_dir() else entry.read_bytes()
        for entry in directory.iterdir()
    }
