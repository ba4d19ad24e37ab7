"""How mounts end, as root: by unmounting, by signals, with the program; and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mount_tools import (
    ALL,
    CONTENTS,
    FUSE,
    OVERLAY,
    Backend,
    Ground,
    daemons,
    mount,
    named,
    user_image,
    wait_until,
)
from pyerofs.cli.app import run as command_line
from pyerofs.mounting.mountinfo import read_mountinfo, topmost
from pyerofs.mounting.records import live_records, save_record

if TYPE_CHECKING:
    from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]


def test_a_mount_in_use_is_busy_and_lazily_unmounted(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    mount(image, at, FUSE).keep()
    with (at / "small").open("rb") as file:
        assert command_line(["umount", str(at)]) == 1
        assert command_line(["umount", "--lazy", str(at)]) == 0
        assert file.read() == b"hello\n"
    assert command_line(["umount", str(at)]) == 1


def test_umount_all_and_mounts(ground: Ground, capfd: pytest.CaptureFixture[str]) -> None:
    image = ground.image("image", CONTENTS)
    for name in ("a", "b"):
        assert command_line(["mount", str(image), str(ground.directory(name))]) == 0
    assert command_line(["mounts"]) == 0
    shown = capfd.readouterr().out
    assert f"{ground.path}/a" in shown
    assert f"{ground.path}/b" in shown
    assert ".log" in shown
    assert command_line(["umount", "--all"]) == 0
    assert command_line(["mounts", "--json"]) == 0
    assert capfd.readouterr().out == ""
    assert command_line(["umount", "--all", "x"]) == 2


def test_a_mount_whose_server_was_killed_can_still_be_unmounted(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    mount(image, at, FUSE).keep()
    process = live_records()[0].server_process
    assert process is not None
    os.kill(process[0], signal.SIGKILL)
    assert wait_until(lambda: not daemons(ground.runtime))
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        (at / "dir").stat()
    assert command_line(["umount", str(at)]) == 0
    assert live_records() == []
    with mount(image, at, FUSE):
        assert (at / "small").read_bytes() == b"hello\n"
    # The one that was killed could not clear up behind itself; the next one did.


def test_a_domain_whose_keeper_was_killed_says_so(ground: Ground, capfd: pytest.CaptureFixture[str]) -> None:
    image = ground.image("image", CONTENTS)
    with mount(image, ground.directory("a"), OVERLAY) as made:
        (keeper,) = [line for line in daemons(ground.path) if '"role": "keeper"' in line]
        os.kill(int(keeper.split(":")[0]), signal.SIGKILL)
        wait_until(lambda: not Path("/proc", keeper.split(":")[0]).exists())
        assert (made.path / "small").read_bytes() == b"hello\n", "served unshared"
        words = ["mount", *OVERLAY.options(), str(image), str(ground.directory("b"))]
        assert command_line(words) == 5
        assert "keeper has ended" in capfd.readouterr().err


def test_what_took_a_mounts_place_is_not_unmounted_for_it(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    mount(image, at, FUSE).keep()
    subprocess.run(["umount", at], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "pyerofs", at], check=True)
    try:
        assert command_line(["umount", "--all"]) == 0
        point = topmost(str(at), read_mountinfo())
        assert point is not None
        assert point.fstype == "tmpfs"
    finally:
        subprocess.run(["umount", at], check=False)


def test_a_mount_in_another_namespace_is_not_forgotten(
    ground: Ground, capfd: pytest.CaptureFixture[str]
) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    with mount(image, at, FUSE) as made:
        record = live_records()[0]
        save_record(replace(record, namespace=1))
        assert command_line(["umount", "--all"]) == 1
        assert "another mount namespace" in capfd.readouterr().err
        assert (at / "small").read_bytes() == b"hello\n"
        save_record(record)
    assert made.closed
    assert live_records() == []


def test_the_name_of_an_image_is_found_again_in_the_mount_table(ground: Ground) -> None:
    image = ground.image("image", CONTENTS)
    for number, name in enumerate(("with space", "comma,s", "back\\slash", "hash#", "line\nbreak", "\udcff")):
        odd = ground.path / name
        odd.symlink_to(image)
        for backend in ALL:
            with mount(odd, ground.directory(f"at-{number}-{backend.result}"), backend):
                assert len(live_records()) == 1


def test_fusermount_keeps_the_name_of_an_image(login_user: OrdinaryUser, login_home: Path) -> None:
    image = user_image(login_user, login_home, "image", CONTENTS)
    for number, name in enumerate(("with space", "comma,s", "back\\slash", "hash#")):
        odd, at = login_home / name, login_home / f"at-{number}"
        odd.symlink_to(image)
        at.mkdir()
        os.chown(at, login_user.uid, login_user.uid)
        assert login_user.run(["pyerofs", "mount", odd, at]).returncode == 0
        shown = login_user.run(["pyerofs", "mounts", "--json"], capture_output=True, text=True).stdout
        assert [json.loads(line)["image"] for line in shown.splitlines()] == [str(odd)]
        assert login_user.run(["pyerofs", "umount", at]).returncode == 0


def test_a_held_mount_costs_no_descriptor_once_it_is_closed(user: OrdinaryUser, home: Path) -> None:
    image = user_image(user, home, "image", CONTENTS)
    code = f"""if True:
        import os, pyerofs
        def count():
            return len(os.listdir("/proc/self/fd"))
        before = count()
        for _ in range(2):
            with pyerofs.mount({str(image)!r}, domain="shared") as made:
                assert (made.path / "small").read_bytes() == b"hello\\n"
                assert made.backend == "overlay"
            assert count() == before, os.listdir("/proc/self/fd")
        kept = pyerofs.mount({str(image)!r}, domain="shared")
        kept.keep()
        print(kept.path)
    """
    done = user.run([user.python, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    look = user.run(["cat", f"{done.stdout.strip()}/small"], capture_output=True)
    assert look.stdout == b"hello\n", "kept is kept, though it was not asked for at first"
    assert user.run(["pyerofs", "umount", "--all"]).returncode == 0


def test_a_program_gets_no_children_to_wait_for(ground: Ground) -> None:
    image = ground.image("image", CONTENTS)
    before = children()
    with mount(image, None, OVERLAY):
        assert children() == before


def children() -> set[str]:
    """The processes that this one would have to wait for; other tests may have left some."""
    return {
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def test_a_mount_that_nobody_closes_ends_with_the_program(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    code = f"import pyerofs; m = pyerofs.mount({str(image)!r}, {str(at)!r}); print(m.path)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(at)
    assert topmost(str(at), read_mountinfo()) is None


def test_foreground_stays_until_it_is_interrupted_or_unmounted(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    words = [sys.executable, "-m", "pyerofs", "mount", "--foreground", str(image), str(at)]
    for end in (lambda process: process.send_signal(signal.SIGINT), lambda _process: unmounted(at)):
        process = subprocess.Popen(words)
        try:
            assert wait_until((at / "small").exists)
            end(process)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
        assert topmost(str(at), read_mountinfo()) is None


def unmounted(at: Path) -> None:
    subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize("backend", [FUSE, OVERLAY], ids=named)
def test_an_interrupt_at_any_moment_leaves_nothing_mounted(ground: Ground, backend: Backend) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from pyerofs.mounting import paths\n"
        f"paths._runtime_candidates = lambda: [Path({str(ground.runtime)!r})]\n"
        "from pyerofs.cli.app import run\n"
        "print(flush=True)\n"
        f"sys.exit(run(['mount', {str(image)!r}, {str(at)!r}, *{backend.options()!r}]))\n"
    )
    for step in range(12):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(step * 0.012)
        process.send_signal(signal.SIGINT)
        status = process.wait(30)
        process.stdout.close()
        standing = topmost(str(at), read_mountinfo()) is not None
        # Killed by the signal: it was done, and on its way out.
        assert not standing or status in (0, -signal.SIGINT), step
        assert standing or status != 0, step
        assert len(live_records()) == int(standing)
        with contextlib.suppress(OSError):
            if standing:
                assert command_line(["umount", str(at)]) == 0
