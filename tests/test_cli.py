"""The command line: what is written where, and with which status the program ends."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
import tiny
from pyerofs.cli import app, report
from pyerofs.errors import DeviceMismatch, RefusedByPolicy, Unavailable, UnsupportedFeature

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = [sys.executable, "-m", "pyerofs"]


@pytest.fixture
def image(tmp_path: Path) -> str:
    made = tmp_path / "sample.erofs"
    made.write_bytes(tiny.sample())
    return str(made)


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run the program in this process: its status, standard output and standard error."""

    def call(*words: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        status = app.run(words)
        out, err = capfdbinary.readouterr()
        return status, out, err.decode()

    return call


def test_the_version_is_the_package_s(run: Any) -> None:
    assert run("--version") == (0, f"pyerofs {pyerofs.__version__}\n".encode(), "")


def test_every_command_of_the_table_is_there_and_has_help(run: Any) -> None:
    for name in app.COMMANDS:
        status, out, err = run(name, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage: pyerofs {name}".encode())
    listing = run("--help")[1].decode()
    assert all(f"\n  {name} " in listing for name in app.COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("nonsense",),
        ("ls", "--nonsense", "x"),
        ("ls", "x", "--offset", "y"),
        ("ls", "x", "--offset", "-1"),
        ("ls", "x", "--offset", str(1 << 64)),
    ],
)
def test_wrong_usage_is_one_line_that_says_where_help_is(run: Any, words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, b"")
    assert err.startswith("pyerofs: ")
    assert err.endswith("--help'\n")
    assert err.count("\n") == 1


def test_no_command_shows_help_and_is_an_error(run: Any) -> None:
    status, out, err = run()
    assert (status, out) == (2, b"")
    assert "Commands:" in err


def test_info_names_each_feature_with_its_kernel(run: Any, tmp_path: Path) -> None:
    root = tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0)))
    path = tmp_path / "features.erofs"
    path.write_bytes(tiny.image(root, compat=1, incompat=0x44, label=b"a\x07b"))
    status, out, _ = run("info", str(path))
    assert status == 0
    lines = [" ".join(line.split()) for line in out.decode().splitlines()]
    assert "chunked_file read since Linux 5.15" in lines
    assert "xattr_prefixes read since Linux 6.4" in lines
    assert "Mounts on: Linux 6.4 and newer" in lines
    assert "Label: a\\x07b" in lines
    facts = json.loads(run("info", "--json", str(path))[1])
    assert facts["schema"] == 1
    assert facts["oldest_kernel"] == "6.4"
    assert facts["features"][-1] == {
        "name": "xattr_prefixes",
        "kind": "incompat",
        "bit": 64,
        "first_kernel": "6.4",
    }


def test_ls_lists_names_and_keeps_their_bytes(run: Any, image: str) -> None:
    status, out, err = run("ls", image)
    assert (status, err) == (0, "")
    assert b"n\xff\n" in out
    assert b"bell\x07\n" in out
    assert out == b"".join(sorted(out.splitlines(keepends=True)))
    assert run("ls", image, "sub")[1] == run("ls", image, "/sub")[1] == b"deep\ninner.txt\n"
    assert run("ls", "-0", image, "sub")[1] == b"deep\0inner.txt\0"


def test_ls_does_not_follow_links(run: Any, image: str) -> None:
    assert run("ls", image, "absolute")[1] == b"/absolute\n"
    assert run("ls", "-l", image, "absolute")[1].endswith(b"/absolute -> /sub\n")
    assert run("ls", "-d", image, "sub")[1] == b"/sub\n"


def test_ls_long_shows_modes_owners_sizes_and_devices(run: Any, image: str) -> None:
    lines = run("ls", "-l", image)[1].decode(errors="surrogateescape").splitlines()
    rows = {line.rsplit(":", 1)[1].split(" ", 1)[1]: line.split() for line in lines}
    assert rows["file.txt"][:5] == ["-rw-r--r--", "1", "1000", "100", "12"]
    assert rows["null"][0] == "crw-------"
    assert rows["null"][4:6] == ["1,", "3"]
    assert rows["link -> sub/inner.txt"][0] == "lrwxrwxrwx"


def test_ls_recursive_writes_paths(run: Any, image: str) -> None:
    out = run("ls", "-R", image, "sub")[1]
    assert out == b"/sub/deep\n/sub/inner.txt\n/sub/deep/a.txt\n/sub/deep/b.md\n"


def test_json_is_an_object_a_line_with_raw_names_where_needed(run: Any, image: str) -> None:
    lines = [json.loads(line) for line in run("ls", "--json", image)[1].splitlines()]
    assert {line["schema"] for line in lines} == {1}
    rows = {line["path"]: line for line in lines}
    assert rows["/file.txt"] | {"type": "file", "mode": 0o644, "uid": 1000, "size": 12} == rows["/file.txt"]
    assert rows["/link"]["target"] == "sub/inner.txt"
    assert (rows["/null"]["major"], rows["/null"]["minor"]) == (1, 3)
    odd = rows["/n\udcff"]
    assert base64.b64decode(odd["name_b64"]) == b"n\xff"
    assert base64.b64decode(odd["path_b64"]) == b"/n\xff"
    assert rows["/file.txt"]["name"] == "file.txt"
    assert not any(key.endswith("_b64") for key in rows["/file.txt"])


def test_cat_follows_links_and_goes_on_behind_an_error(run: Any, image: str) -> None:
    status, out, err = run("cat", image, "file.txt", "nothing", "absolute/inner.txt", "sub")
    assert (status, out) == (1, "hello\nworld\ngr\u00fc\u00df\n".encode())
    assert err.splitlines() == [
        f"pyerofs: {image}: /nothing: No such file or directory",
        f"pyerofs: {image}: /sub: Is a directory",
    ]
    assert run("cat", image, "big") == (0, tiny.BIG, "")


def test_stat_shows_all_there_is(run: Any, image: str) -> None:
    status, out, _ = run("stat", image, "file.txt", "link", "null")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.decode().splitlines()]
    for line in (
        "Path: /file.txt",
        "Mode: 0644 (-rw-r--r--)",
        "Owner: 1000:100",
        "Layout: flat_inline",
        "Xattr: user.colour = blue",
        f"Xattr: security.capability = 0x{bytes(20).hex()}",
        "Type: symlink",
        "Target: sub/inner.txt",
        "Device: 1, 3",
    ):
        assert line in lines
    facts = json.loads(run("stat", "--json", image, "big")[1])
    assert [extent["length"] for extent in facts["extents"]] == [8192, 100]
    assert facts["fingerprint"] is None


def test_control_characters_do_not_reach_a_terminal(image: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*PROGRAM, "ls", image], stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # a terminal that nobody holds any more
                break
            if not piece:
                break
            shown += piece
        assert process.wait(timeout=30) == 0
    os.close(ours)
    assert b"bell\\x07" in shown
    assert b"n\\xff" in shown
    assert b"\x07" not in shown


def test_names_in_messages_are_quoted(run: Any, image: str) -> None:
    assert run("cat", image, "a\x1b[31m")[2] == f"pyerofs: {image}: /a\\x1b[31m: No such file or directory\n"


def test_a_reader_that_goes_away_is_no_error_worth_a_word(tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(5000):
        (root / f"a name that is long enough to fill a pipe, number {number}").touch()
    path = tmp_path / "many.erofs"
    pyerofs.build(root, path)
    with subprocess.Popen(
        [*PROGRAM, "ls", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_a_full_disk_behind_standard_output_is_an_io_error(image: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "cat", image, "big"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 5
    assert done.stderr == "pyerofs: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "closed", "status", "said"),
    [
        ("ls", ">&-", 5, "pyerofs: standard output: Bad file descriptor\n"),
        ("ls -R --json", ">&-", 5, "pyerofs: standard output: Bad file descriptor\n"),
        ("ls -R", "<&-", 0, ""),
        ("ls", "2>&-", 0, ""),
        ("ls", ">&- 2>&- <&-", 5, ""),
        ("extract --tar -", ">&-", 5, "pyerofs: standard output: can't write: Bad file descriptor\n"),
    ],
)
def test_a_stream_that_the_caller_has_closed_is_no_place_for_an_image(
    image: str, words: str, closed: str, status: int, said: str
) -> None:
    program = f'exec "$@" {closed}'
    line = ["sh", "-c", program, "sh", *PROGRAM, *words.split(), image]
    done = subprocess.run(line, capture_output=True)
    assert (done.returncode, done.stderr) == (status, said.encode())


def test_an_image_that_may_not_be_read_is_no_wrong_usage(
    run: Any, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)
    assert run("ls", image)[0] == 0  # root may read it anyhow, others get the system's own answer
    assert run("diff", image, image)[0] == 0


def test_names_in_capitals_keep_them_in_a_complaint_about_usage(run: Any, image: str) -> None:
    _, _, err = run("extract", "--test", image, "somewhere")
    assert err.startswith("pyerofs: TARGET, --tar and --test exclude one another; see")


def test_statuses_tell_the_kinds_of_failure_apart() -> None:
    assert report.exit_status(pyerofs.CorruptImage("x")) == 1
    assert report.exit_status(FileNotFoundError(2, "x")) == 1
    assert report.exit_status(ValueError("x")) == 2
    assert report.exit_status(DeviceMismatch("x")) == 2
    assert report.exit_status(UnsupportedFeature("x")) == 3
    assert report.exit_status(Unavailable("x")) == 3
    assert report.exit_status(RefusedByPolicy("x")) == 4
    assert report.exit_status(OSError(5, "x")) == 5
    assert report.exit_status(OSError(28, "x")) == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(run: Any, shell: str) -> None:
    status, out, _ = run("completion", shell)
    assert status == 0
    assert b"_PYEROFS_COMPLETE" in out


def test_completion_offers_commands_and_the_image_s_entries(image: str) -> None:
    def complete(words: str, number: int) -> list[str]:
        settings = {
            "_PYEROFS_COMPLETE": "fish_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": words.split(" ")[number],
        }
        code = "from pyerofs.cli.app import cli; cli.main([], prog_name='pyerofs')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        return [line.split(",")[1].split("\t")[0] for line in done.stdout.splitlines()]

    assert complete("pyerofs i", 1) == ["info"]
    assert complete(f"pyerofs cat {image} sub/", 3) == ["sub/deep/", "sub/inner.txt"]


def test_listing_loads_only_what_it_needs(image: str) -> None:
    code = (
        "import sys; from pyerofs.cli import app; app.run(['ls', sys.argv[1]]); "
        "print(*{'rich', 'json', 'asyncio', 'subprocess'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, image], capture_output=True, check=True)
    assert done.stderr == b"\n"
