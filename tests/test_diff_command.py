"""`pyerofs diff`: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from diff_tools import built, edited, keeping_times, told
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run the program in this process: its status, standard output and standard error."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        status = app.run(["diff", *map(str, words)])
        out, err = capfdbinary.readouterr()
        return status, os.fsdecode(out), err.decode()

    return call


def test_the_exit_status_is_that_of_diff(run: Any, old: Path, new: Path) -> None:
    image = built(old)
    assert run(image, new) == (0, "", "")
    (new / "new").touch()
    assert run("-I", "mtime", image, new) == (1, "A  new\n", "")
    assert run("-q", image, new) == (1, "", "")
    status, out, err = run(image, new / "nothing")
    assert (status, out) == (2, "")
    assert "nothing" in err
    assert run(image)[0] == 2
    assert run("-I", "colour", image, new)[0] == 2
    assert run(image, old / "lib/file1")[0] == 2
    assert run("--offset-b", "4096", image, new)[0] == 2


def test_lines_say_what_differs(run: Any, old: Path, new: Path) -> None:
    edited(new / "lib/file5", b"other")
    (new / "lib/file6").chmod(0o600)
    os.setxattr(new / "lib/file6", "user.x", b"")
    keeping_times(new, (new / "link").unlink, lambda: (new / "link").symlink_to("x"))
    keeping_times(new, (new / "pipe").unlink, (new / "pipe").touch)
    keeping_times(new / "lib", lambda: (new / "lib/file7").rename(new / "lib/seven"))
    keeping_times(new, (new / "empty").rmdir)
    mode = stat.S_IMODE((old / "lib/file6").stat().st_mode)
    status, out, err = run("-I", "mtime,mode", built(old), new)
    assert (status, err) == (1, "")
    assert out.splitlines() == [
        "D  empty/",
        "M  lib/file5 (content, 10000 -> 5 bytes)",
        "M  lib/file6 (xattrs +user.x)",
        "R  lib/file7 -> lib/seven",
        "M  link (target lib/file1 -> x)",
        "T  pipe (pipe -> file)",
    ]
    assert f"M  lib/file6 (mode {mode:04o} -> 0600; xattrs +user.x)" in run(old, new)[1]
    status, out, err = run("-0", "--content-only", built(old), new)
    assert out.split("\0")[:9] == [
        "D",
        "empty",
        "",
        "M",
        "lib/file5",
        "content",
        "R",
        "lib/file7",
        "lib/seven",
    ]


def test_names_are_raw_in_a_pipe_and_in_json_and_quoted_on_a_terminal(run: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    name = os.fsencode(new) + b"/bad\x1b[2J\xff"
    with open(name, "wb"):
        pass
    words = ["diff", "-I", "mtime", str(old), str(new)]
    assert os.fsencode(run(*words[1:])[1]) == b"A  bad\x1b[2J\xff\n"
    line = json.loads(run("--json", *words[1:])[1])
    assert (line["schema"], line["change"], line["path_b64"]) == (1, "added", "YmFkG1sySv8=")
    for environment, expected in (({}, b"\x1b[32mA\x1b[0m  "), ({"NO_COLOR": "1"}, b"A  ")):
        master, slave = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "pyerofs", *words], stdout=slave, env={**os.environ, **environment}
        ):
            os.close(slave)
            shown = os.read(master, 4096)
        os.close(master)
        assert shown == expected + b"bad\\x1b[2J\\xff\r\n"


def test_json_says_what_both_trees_say(run: Any, old: Path, new: Path) -> None:
    edited(new / "lib/file5", b"other")
    os.setxattr(new / "lib/file5", "user.x", b"")
    keeping_times(new / "lib", lambda: (new / "lib/file7").rename(new / "lib/seven"))
    status, out, _ = run("--json", built(old), new)
    first, second = map(json.loads, out.splitlines())
    assert status == 1
    assert (first["change"], first["path"], first["fields"]) == (
        "changed",
        "lib/file5",
        ["content", "xattrs"],
    )
    assert (first["old"]["size"], first["new"]["size"]) == (10000, 5)
    assert first["xattrs"] == [{"name": "user.x", "change": "added"}]
    assert (second["change"], second["old_path"], second["path"]) == ("moved", "lib/file7", "lib/seven")
    counts = json.loads(run("--json", "--stat", built(old), new)[1])
    assert (counts["moved"], counts["changed"], counts["changed_content"]) == (1, 1, 1)
    assert counts["same"] == sum(1 for _ in old.rglob("*")) + 1 - 2
    assert run("--stat", built(old), new)[1].startswith("0 added, 0 removed, 1 moved, 1 changed (1 in ")


def test_a_part_of_both_trees_may_be_compared(run: Any, old: Path, new: Path, tmp_path: Path) -> None:
    edited(new / "lib/file5", b"other")
    image = built(old)
    assert run("-p", "lib", image, new)[1] == "M  file5 (content, 10000 -> 5 bytes)\n"
    assert run("-p", "/lib/deep", image, new)[:2] == (0, "")
    assert run("-p", "lib", "--path-b", "/", image, new / "lib")[0] == 1
    assert run("-p", "lib/file5", image, new)[0] == 1
    assert run("-p", "nothing", image, new)[0] == 2
    shifted = tmp_path / "shifted"
    shifted.write_bytes(b"x" * 512 + image.read_bytes())
    assert run("--offset-a", "512", shifted, old) == (0, "", "")


@pytest.mark.root
def test_block_devices_hold_images_like_files(old: Path, new: Path, run: Any) -> None:
    edited(new / "lib/file5", b"other")
    image = built(new)
    shifted = old.parent / "shifted"
    shifted.write_bytes(bytes(8192) + image.read_bytes())
    for offset, file in ((0, image), (8192, shifted)):
        losetup = ["losetup", "-rf", "--show", str(file)]
        made = subprocess.run(losetup, check=False, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no loop device: {made.stderr.strip()}")
        device = made.stdout.strip()
        try:
            with pyerofs.open(device, offset=offset) as opened:
                assert told(old, opened) == {("changed", "lib/file5", None, ("content",))}
            options = ["--offset-b", str(offset)] if offset else []
            assert run(*options, old, device) == (1, run(old, new)[1], "")
        finally:
            subprocess.run(["losetup", "-d", device], check=True)
