"""Mounting as an ordinary user: fusermount3 for everybody to see, a holder for what is shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mount_tools import daemons, give, random_bytes, user_image, wait_until

if TYPE_CHECKING:
    import os
    import subprocess

    from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

FILES: dict[str, bytes | str] = {"small": b"hello\n", "dir/large": random_bytes(6, 150_000)}


def run(user: OrdinaryUser, home: Path, *words: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = user.run(words, cwd=home, capture_output=True, text=True)
    return done


def target(user: OrdinaryUser, home: Path) -> Path:
    path = home / "at"
    path.mkdir()
    return give(path, user)


def test_a_plain_mount_goes_by_fusermount3_and_ends_by_it(login_user: OrdinaryUser, login_home: Path) -> None:
    image, at = user_image(login_user, login_home, "image", FILES), target(login_user, login_home)
    done = run(login_user, login_home, "pyerofs", "mount", image, at)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(login_user, login_home, "cat", at / "small").stdout == "hello\n"
    assert " fuse.pyerofs " in Path("/proc/self/mountinfo").read_text()
    listed = json.loads(run(login_user, login_home, "pyerofs", "mounts", "--json").stdout)
    assert (listed["path"], listed["backend"], listed["domain"]) == (str(at), "fuse", None)
    assert run(login_user, login_home, "pyerofs", "mount", image, at).returncode == 1
    assert run(login_user, login_home, "fusermount3", "-u", at).returncode == 0
    assert run(login_user, login_home, "pyerofs", "mounts", "--json").stdout == ""
    assert run(login_user, login_home, "pyerofs", "mount", image, at).returncode == 0
    assert run(login_user, login_home, "pyerofs", "umount", at).returncode == 0


def test_a_domain_is_not_shared_by_fusermount3_and_run_is_named(
    login_user: OrdinaryUser, login_home: Path
) -> None:
    image, at = user_image(login_user, login_home, "image", FILES), target(login_user, login_home)
    done = run(login_user, login_home, "pyerofs", "mount", image, at, "--domain", "shared")
    try:
        assert done.returncode == 0
        assert "nothing is shared" in done.stderr
        assert "pyerofs run" in done.stderr
    finally:
        assert run(login_user, login_home, "pyerofs", "umount", at).returncode == 0


def test_a_corrupt_image_is_never_mounted(login_user: OrdinaryUser, login_home: Path) -> None:
    at = target(login_user, login_home)
    bad = login_home / "bad.erofs"
    bad.write_bytes(b"x" * 5000)
    give(bad, login_user)
    done = run(login_user, login_home, "pyerofs", "mount", bad, at)
    assert done.returncode == 1
    assert "bad.erofs" in done.stderr
    assert str(at) not in Path("/proc/self/mountinfo").read_text()


def test_an_overlay_is_kept_by_a_holder_and_reached_by_its_root(user: OrdinaryUser, home: Path) -> None:
    image, at = user_image(user, home, "image", FILES), target(user, home)
    done = run(user, home, "pyerofs", "mount", image, at, "--backend", "overlay", "--domain", "shared")
    assert done.returncode == 0, done.stderr
    path = done.stdout.strip()
    assert path.startswith("/proc/")
    assert path.endswith(f"/root{at}")
    assert run(user, home, "cat", f"{path}/small").stdout == "hello\n"
    assert list(at.iterdir()) == []
    assert path in run(user, home, "pyerofs", "mounts").stdout
    stat = json.loads(run(user, home, "pyerofs", "domain", "stat", "shared", "--json").stdout)
    assert stat["objects"] == 1
    assert run(user, home, "pyerofs", "domain", "rm", "shared").returncode == 1
    assert run(user, home, "pyerofs", "umount", at).returncode == 0
    assert not Path(path).exists()
    runtime = user.directory / "run/pyerofs"
    assert wait_until(lambda: not daemons(runtime))
    assert run(user, home, "pyerofs", "domain", "rm", "shared").returncode == 0


PROGRAM = """
import os, sys, pyerofs
before = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "mnt")]
with pyerofs.mount(sys.argv[1], domain="shared") as one, pyerofs.mount(sys.argv[1], domain="shared") as two:
    assert one.backend == two.backend == "overlay", one.notes
    for mounted in (one, two):
        assert (mounted.path / "small").read_bytes() == b"hello\\n"
    assert pyerofs.Domain("shared").stat().saved_bytes == 6
    assert [os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "mnt")] == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("fine")
if len(sys.argv) > 2:
    kept = pyerofs.mount(sys.argv[1], domain="shared")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", [[], ["killed"]], ids=["returns", "killed"])
def test_a_program_mounts_without_leaving_its_namespaces(
    user: OrdinaryUser, home: Path, end: list[str]
) -> None:
    image = user_image(user, home, "image", FILES)
    # Also a program that is killed takes its mounts along; its record goes when somebody looks.
    done = run(user, home, str(user.python), "-u", "-c", PROGRAM, image, *end)
    assert done.stdout == "fine\n", done.stderr
    assert done.returncode == (-9 if end else 0)
    assert wait_until(lambda: not daemons(user.directory / "run/pyerofs"))
    assert run(user, home, "pyerofs", "mounts").stdout == ""


def test_the_kernel_back_end_wants_root_and_says_so(user: OrdinaryUser, home: Path) -> None:
    image, at = user_image(user, home, "image", FILES), target(user, home)
    done = run(user, home, "pyerofs", "mount", image, at, "--backend", "kernel")
    assert done.returncode == 3
    assert "CAP_SYS_ADMIN" in done.stderr


def test_root_in_a_namespace_of_its_own_mounts_where_it_is(user: OrdinaryUser, home: Path) -> None:
    image, at = user_image(user, home, "image", FILES), target(user, home)
    script = (
        f"pyerofs mount {image} {at} && cat {at}/small && pyerofs umount {at} && "
        f"pyerofs mount {image} {at} --domain shared && grep -c ' overlay pyerofs' /proc/self/mountinfo && "
        f"cat {at}/small && pyerofs umount {at}"
    )
    done = run(user, home, "unshare", "-Urm", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["hello", "1", "hello"]
