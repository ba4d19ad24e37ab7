"""`pyerofs extract` and `pyerofs.extract()`: what comes out is what went in, and only where it may go."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from cases import CASES, Case
from judges import Snapshot, as_tree, assert_same, kernel_mount, of_directory
from pyerofs.cli import app
from tiny import DIRECTORY, REGULAR, Node

if TYPE_CHECKING:
    from pathlib import Path

    from ordinary_user import OrdinaryUser
    from pyerofs.extractor import ExtractProgress
    from trees import Trees

DOTS = ((b".", 0), (b"..", 0))
# One thread does everything in order; several cut large files up and make directories for one another.
THREADS = (1, 3)


def everything(source: Path, image: Path) -> Path:
    """The image of all that a tree has."""
    pyerofs.build(source, image, xattrs="all")
    return image


def of_file(path: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path.write_bytes(data)
    return path


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


# -- What is chosen -------------------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A small tree of several directories, as an image."""
    for path in ("usr/bin/tool", "usr/bin/other", "usr/lib/x.so", "etc/conf", "var/log/a.log"):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_text(path)
    (tmp_path / "tree/bin").symlink_to("usr/bin")
    (tmp_path / "tree/usr").chmod(0o711)
    return everything(tmp_path / "tree", tmp_path / "sample.erofs")


def below(root: Path) -> set[str]:
    """The paths in a directory."""
    return {os.fspath(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"paths": ["/usr/bin"]}, {"usr", "usr/bin", "usr/bin/tool", "usr/bin/other"}),
        (
            {"paths": ["etc", "usr/bin/tool", "etc/conf"]},
            {"usr", "usr/bin", "usr/bin/tool", "etc", "etc/conf"},
        ),
        ({"include": ["*.so", "/etc"]}, {"usr", "usr/lib", "usr/lib/x.so", "etc", "etc/conf"}),
        ({"include": ["usr"], "exclude": ["bin"]}, {"usr", "usr/lib", "usr/lib/x.so"}),
        ({"exclude": ["/usr", "*.log"]}, {"bin", "etc", "etc/conf", "var", "var/log"}),
        ({"paths": ["usr"], "include": ["tool"]}, {"usr", "usr/bin", "usr/bin/tool"}),
        ({"include": ["nothing"]}, set()),
    ],
    ids=str,
)
def test_a_part_is_chosen(
    options: dict[str, list[str]], expected: set[str], sample: Path, tmp_path: Path
) -> None:
    for threads in THREADS:
        out = tmp_path / f"out{threads}"
        pyerofs.extract(sample, out, threads=threads, **options)  # type: ignore[arg-type]
        assert below(out) == expected
        if "usr" in expected:
            # A directory that only leads somewhere is as the image has it, too.
            assert stat.S_IMODE((out / "usr").stat().st_mode) == 0o711


def test_a_path_that_is_not_there_fails_and_the_others_come(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--path", "etc/conf", "--path", "nowhere/x", "--path", "bin/tool", "--path", "etc/conf/x"]
    assert app.run(["extract", str(sample), str(tmp_path / "out"), *paths]) == 1
    assert below(tmp_path / "out") == {"etc", "etc/conf"}
    told = capsys.readouterr().err
    assert f"{sample}: /nowhere/x: No such file or directory" in told
    assert f"{sample}: /etc/conf/x: Not a directory" in told
    assert "/bin/tool: /bin is a symbolic link to /usr/bin; name the path that it leads to" in told
    assert app.run(["extract", str(sample), str(tmp_path / "two"), "--path", "../etc"]) == 2


def test_without_on_error_the_first_failure_is_raised_when_all_else_is_done(
    sample: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        pyerofs.extract(sample, tmp_path / "out", paths=["x", "y", "etc/conf"])
    assert caught.value.__notes__ == ["1 more entries could not be extracted"]
    assert (tmp_path / "out/etc/conf").read_text() == "etc/conf"


# -- Where it goes --------------------------------------------------------------------------------------


def test_a_directory_with_something_in_it_is_not_written_to(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_file(tmp_path / "full", b"")
    (tmp_path / "out").mkdir()
    of_file(tmp_path / "out/mine", b"mine")
    assert app.run(["extract", str(sample), str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"pyerofs: {tmp_path}/out: the directory is not empty; --force")
    assert below(tmp_path / "out") == {"mine"}
    assert app.run(["extract", str(sample), str(tmp_path / "full")]) == 1
    assert app.run(["extract", str(sample), str(tmp_path / "no/such")]) == 1


def test_force_replaces_files_and_keeps_what_is_beside_them(sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "etc").mkdir(parents=True)
    of_file(out / "etc/conf", b"old")
    of_file(out / "etc/mine", b"mine")
    of_file(out / "usr", b"a file where a directory belongs")
    pyerofs.extract(sample, out, force=True)
    assert (out / "etc/conf").read_text() == "etc/conf"
    assert (out / "etc/mine").read_bytes() == b"mine"
    assert (out / "usr/bin/tool").read_text() == "usr/bin/tool"
    # Once more over its own result, hard links and links included.
    pyerofs.extract(sample, out, force=True)


def test_force_does_not_replace_a_directory_by_a_file(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/etc/conf").mkdir(parents=True)
    assert app.run(["extract", "-f", str(sample), str(tmp_path / "out")]) == 1
    assert f"{tmp_path}/out/etc/conf: a directory is in the way" in capsys.readouterr().err
    assert (tmp_path / "out/usr/bin/tool").exists()


def test_the_target_is_named_after_the_image(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["extract", "-q", str(sample)]) == 0
    assert (tmp_path / "sample/etc/conf").exists()
    sample.rename(tmp_path / "noname")
    assert app.run(["extract", "-q", "noname"]) == 2


def test_what_excludes_one_another_is_usage(sample: Path) -> None:
    assert app.run(["extract", str(sample), "out", "--test"]) == 2
    assert app.run(["extract", str(sample), "--test", "--tar", "x.tar"]) == 2
    assert app.run(["extract", str(sample), "out", "--include", "a[z-a]"]) == 2


@pytest.mark.root
def test_a_full_disk_stops_everything_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(8):
        of_file(tmp_path / f"tree/f{number}", os.urandom(1 << 20))
    image = everything(tmp_path / "tree", tmp_path / "image")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pyerofs", "extract", image, disk / "out"],
            check=False,
            capture_output=True,
            text=True,
        )
        left = below(disk / "out")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "can't write: No space left on device; " in done.stderr
    assert "incomplete" in done.stderr
    assert len(left) < 8


@pytest.mark.root
def test_a_target_that_is_read_only_is_said(sample: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=True)
    try:
        with pytest.raises(OSError, match="Read-only file system") as caught:
            pyerofs.extract(sample, disk / "out")
        assert caught.value.errno == errno.EROFS
        with pytest.raises(OSError, match="Read-only file system"):
            pyerofs.extract(sample, disk)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("threads", THREADS)
def test_ctrl_c_stops_it_and_leaves_no_half_a_file(threads: int, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(4):
        with open(tmp_path / f"tree/f{number}", "wb") as file:
            file.writelines(os.urandom(1 << 20) for _ in range(64))
    image = everything(tmp_path / "tree", tmp_path / "image")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "pyerofs", "extract", f"-j{threads}", str(image), str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob("f*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    if process.returncode == 0:
        pytest.skip("it was done before it could be interrupted")
    assert process.returncode == 130
    assert told == f"pyerofs: {out}: interrupted; what is there is incomplete\n"
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "tree" / path.name).read_bytes()


def test_an_exception_of_a_callback_ends_it(sample: Path, tmp_path: Path) -> None:
    def fail(_error: OSError) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pyerofs.extract(sample, tmp_path / "out", paths=["x", "y"], on_error=fail)


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
    os.truncate(image, image.stat().st_size - (4 << 20))
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
            if self._at + size > 400_000:
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


def test_json_says_all(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["extract", "--json", str(sample), str(tmp_path / "out")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["image"], told["target"]) == (1, str(sample), str(tmp_path / "out"))
    assert (told["files"], told["directories"], told["symlinks"], told["failed"]) == (5, 7, 1, 0)


def test_progress_counts_up_to_all_entries(sample: Path, tmp_path: Path) -> None:
    seen: list[ExtractProgress] = []
    pyerofs.extract(sample, tmp_path / "out", progress=seen.append)
    assert seen[-1].entries == seen[-1].total_entries == 13
    assert seen[-1].bytes == 58


BAR = """
import sys
import pyerofs.cli.progress
from pyerofs.cli import app
pyerofs.cli.progress._PATIENCE = 0
status = app.run(sys.argv[1:])
print("rich" in sys.modules)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("options", "terminal", "draws"),
    [([], True, True), (["--quiet"], True, False), ([], False, False)],
    ids=str,
)
def test_a_bar_is_drawn_only_on_a_terminal(
    options: list[str], terminal: bool, draws: bool, sample: Path, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    words = [sys.executable, "-c", BAR, "extract", *options, str(sample), str(tmp_path / "out")]
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        words, check=True, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal that nobody holds any more
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert done.stdout.splitlines()[-1] == str(draws)
    assert (b"Extracting" in shown) == draws
    assert draws or shown == b""


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
