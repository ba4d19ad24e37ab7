"""`pyerofs extract` and `pyerofs.extract()`: what is chosen, where it goes, and what is told."""

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
from typing import TYPE_CHECKING

import pytest

import pyerofs
from extract_tools import THREADS, below, everything, of_file
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from pyerofs.extractor import ExtractProgress


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


# -- What is told ---------------------------------------------------------------------------------------


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
