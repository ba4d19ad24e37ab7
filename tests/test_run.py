"""``pyerofs run``: what the command gets, what its status is, and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mount_tools import assert_nothing_left, cli, give, random_bytes, user_image

if TYPE_CHECKING:
    from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

FILES: dict[str, bytes | str] = {
    "small": b"hello\n",
    "dir/large": random_bytes(4, 200_000),
    "link": "small",
}


def run(
    user: OrdinaryUser, home: Path, *arguments: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    return user.run(
        ["pyerofs", "run", *map(str, arguments)], cwd=home, capture_output=True, text=True, **options
    )


@pytest.fixture
def image(user: OrdinaryUser, home: Path) -> Path:
    return user_image(user, home, "tools", FILES)


@pytest.mark.parametrize("domain", [None, "shared"])
def test_one_image_without_a_place_is_where_the_command_starts(
    user: OrdinaryUser, home: Path, image: Path, domain: str | None
) -> None:
    options = ["--domain", domain] if domain else []
    done = run(
        user, home, image, *options, "--", "sh", "-c", "basename $PWD; ls; cat link; cksum < dir/large"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == ["tools", "dir", "link", "small", "hello"]
    expected = subprocess.run(
        ["cksum"],
        input=FILES["dir/large"],
        capture_output=True,
        check=True,
    )
    assert lines[5] == expected.stdout.decode().strip()


def test_several_images_lie_under_their_files_stems(user: OrdinaryUser, home: Path, image: Path) -> None:
    other = user_image(user, home, "other", {"else": b"2"})
    done = run(user, home, image, other, image, "--", "sh", "-c", "ls; cat tools-2/small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["other", "tools", "tools-2", "hello"]


def test_images_are_mounted_where_the_user_says(user: OrdinaryUser, home: Path, image: Path) -> None:
    for name in ("at", "with:colon"):
        give_directory(home / name, user)
    odd = home / "a:b.erofs"
    image.rename(odd)
    os.link(odd, image)
    done = run(
        user, home, f"{image}:at", "--image", odd, "--at", home / "with:colon", "--",
        "sh", "-c", "pwd; cat at/small with:colon/small",
    )  # fmt: skip
    assert done.stdout.splitlines() == [str(home), "hello", "hello"], done.stderr
    assert list((home / "at").iterdir()) == []


def give_directory(path: Path, user: OrdinaryUser) -> None:
    path.mkdir()
    give(path, user)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["true"], 0),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
    ],
)
def test_the_status_is_the_commands_own(
    user: OrdinaryUser, home: Path, image: Path, command: list[str], status: int
) -> None:
    assert run(user, home, image, "--", *command).returncode == status


def test_a_signal_that_ends_the_command_is_seen_as_one(user: OrdinaryUser, home: Path, image: Path) -> None:
    assert run(user, home, image, "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.erofs"],
        ["{image}:missing"],
        ["{image}:a:b"],
        ["{image}", "--backend", "overlay"],
        ["{image}", "--backend", "kernel"],
        ["{image}", "--domain", "../up"],
        ["--image", "{image}", "--at", "one", "--at", "two"],
        ["{home}"],
        [],
    ],
)
def test_failures_of_our_own_are_125_and_one_sentence(
    user: OrdinaryUser, home: Path, image: Path, arguments: list[str]
) -> None:
    words = [word.format(image=image, home=home) for word in arguments]
    done = run(user, home, *words, "--", "echo", "reached")
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.startswith("pyerofs: ")
    assert done.stderr.count("\n") == 1


def test_a_corrupt_image_stops_the_run_before_anything_is_mounted(
    user: OrdinaryUser, home: Path, image: Path
) -> None:
    bad = home / "bad.erofs"
    bad.write_bytes(image.read_bytes()[:2000])
    give(bad, user)
    done = run(user, home, image, bad, "--", "echo", "reached")
    assert done.returncode == 125
    assert "bad.erofs" in done.stderr
    assert done.stdout == ""


def test_the_command_is_the_user_and_can_be_called_root(user: OrdinaryUser, home: Path, image: Path) -> None:
    ids = ["sh", "-c", "id -u; id -g; stat -c %u,%g small; grep CapEff /proc/self/status"]
    plain = run(user, home, image, "--", *ids).stdout.splitlines()
    assert plain == [str(user.uid), str(user.uid), f"{user.uid},{user.uid}", "CapEff:\t0000000000000000"]
    root = run(user, home, image, "--root-user", "--", *ids).stdout.splitlines()
    assert root[:3] == ["0", "0", "0,0"]


def test_the_command_has_the_streams_the_environment_and_default_signals(
    user: OrdinaryUser, home: Path, image: Path
) -> None:
    done = run(
        user, home, image, "--", "sh", "-c", "cat; echo $MARK; grep SigIgn /proc/self/status >&2",
        input="typed\n", env={"MARK": "here"},
    )  # fmt: skip
    assert done.stdout == "typed\nhere\n"
    # What Python ignores for itself; the caller's own choices are passed on.
    ignored = int(done.stderr.split()[-1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_no_descriptor_of_ours_reaches_the_command(user: OrdinaryUser, home: Path, image: Path) -> None:
    done = run(user, home, image, "--domain", "shared", "--", "ls", "-l", "/proc/self/fd")
    held = [line.split(" -> ")[1] for line in done.stdout.splitlines() if " -> " in line]
    assert all(path.startswith(("pipe:", "/proc/", "/dev/null")) for path in held), held


def test_a_store_that_is_made_later_is_hidden_too(user: OrdinaryUser, home: Path, image: Path) -> None:
    cache, other = home / "cache", Path(f"/tmp/pyerofs-{user.uid}")
    with contextlib.suppress(OSError):
        other.rmdir()
    process = user.popen(
        ["pyerofs", "run", image, "--", "sh", "-c", f"echo; read _; ls -A {cache}/pyerofs {other}"],
        cwd=home,
        env={"XDG_CACHE_HOME": str(cache)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    environment = {"XDG_CACHE_HOME": str(cache), "XDG_RUNTIME_DIR": ""}
    assert run(user, home, image, "--domain", "later", "--", "true", env=environment).returncode == 0
    assert list((cache / "pyerofs/domains").iterdir())
    assert sorted(process.communicate("\n")[0].split()) == sorted([f"{cache}/pyerofs:", f"{other}:"])
    assert_nothing_left(other)


def test_what_somebody_else_calls_our_directory_is_not_covered(
    user: OrdinaryUser, home: Path, image: Path
) -> None:
    other = Path(f"/tmp/pyerofs-{user.uid}")
    shutil.rmtree(other, ignore_errors=True)
    other.symlink_to(home)
    try:
        done = run(user, home, image, "--", "ls", home)
    finally:
        other.unlink()
    assert image.name in done.stdout


def test_a_shell_runs_where_no_command_is_given(user: OrdinaryUser, home: Path, image: Path) -> None:
    done = run(user, home, image, input="cat small; exit 3\n", env={"SHELL": "/bin/sh"})
    assert (done.stdout, done.returncode) == ("hello\n", 3)


def test_the_mounts_live_as_long_as_a_child_that_the_command_leaves(
    user: OrdinaryUser, home: Path, image: Path
) -> None:
    late = home / "late"
    script = f"(sleep 1.5; cat small > {late}) >/dev/null 2>&1 & exit 0"
    assert run(user, home, image, "--domain", "shared", "--", "sh", "-c", script).returncode == 0
    end = time.monotonic() + 10
    while not (late.exists() and late.read_bytes()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert late.read_bytes() == b"hello\n"


def test_an_interrupt_before_the_command_leaves_nothing(user: OrdinaryUser, home: Path, image: Path) -> None:
    for step in range(8):
        process = user.popen(
            ["pyerofs", "run", image, "--domain", "shared", "--", "sleep", "0.3"],
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.05 + step * 0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (-signal.SIGINT, 130, 0, 1)


def test_images_are_seen_by_the_command_alone(user: OrdinaryUser, home: Path, image: Path) -> None:
    look = f"cat /proc/self/mountinfo; cat /proc/{os.getpid()}/mountinfo >&2"
    done = run(user, home, image, "--", "sh", "-c", look)
    assert str(image) in done.stdout
    assert str(image) not in done.stderr
    assert str(image) not in Path("/proc/self/mountinfo").read_text()


def test_root_runs_without_a_user_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyerofs

    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_bytes(b"root\n")
    os.chown(source / "file", 1234, 5678)
    pyerofs.build(source, tmp_path / "image.erofs")
    monkeypatch.setenv("PYEROFS_STATE", str(tmp_path / "state"))
    script = f"cat file; stat -c %u,%g file; ls -A {tmp_path}/state; readlink /proc/self/ns/user"
    for options in ([], ["--domain", "shared"]):
        done = cli("run", tmp_path / "image.erofs", *options, "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["root", "1234,5678", os.readlink("/proc/self/ns/user")]
