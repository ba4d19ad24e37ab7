"""Mounting as root, in every back end: what is seen, what is refused, and what is left."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import mmap
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import (
    ALL,
    FUSE,
    KERNEL,
    OVERLAY,
    PASSTHROUGH,
    SHARING,
    Backend,
    Ground,
    cli,
    daemons,
    named,
    random_bytes,
    user_image,
    wait_until,
)
from pyerofs.cli.app import run as command_line
from pyerofs.mounting.mountinfo import read_mountinfo, topmost
from pyerofs.mounting.records import live_records, save_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

CONTENTS: dict[str, bytes | str] = {
    "empty": b"",
    "small": b"hello\n",
    "dir/large": random_bytes(1, 300_000),
    "dir/deep/exact": random_bytes(2, 8192),
    "link": "dir/large",
    "dangling": "/nowhere",
}


def mount(image: Path, target: Path | None, backend: Backend) -> pyerofs.Mount:
    mounted = pyerofs.mount(image, target, backend=backend.name, domain=backend.domain)
    assert mounted.backend == backend.result
    return mounted


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that stat, readlink, listxattr and read say of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files, "."]:
            path = Path(directory, name)
            info = path.lstat()
            content: object = None
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = path.readlink()
            size = None if stat.S_ISDIR(info.st_mode) else info.st_size
            owner = (info.st_uid, info.st_gid)
            attributes = [] if stat.S_ISLNK(info.st_mode) else sorted(os.listxattr(path))
            found[str(path.relative_to(root))] = (
                info.st_mode,
                owner,
                size,
                info.st_mtime_ns,
                attributes,
                content,
            )
    return found


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_mount_shows_the_tree_that_was_built(ground: Ground, backend: Backend) -> None:
    source = ground.directory("source")
    for name, content in CONTENTS.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    (source / "small").chmod(0o4750)
    os.chown(source / "dir/large", 1234, 5678)
    os.setxattr(source / "small", "user.note", b"yes")
    os.utime(source / "dir", ns=(0, 1_234_567_890_123_456_789))
    image = ground.path / "image.erofs"
    pyerofs.build(source, image)
    with mount(image, ground.directory("at"), backend) as mounted:
        assert listing(mounted.path) == listing(source)
        with pytest.raises(OSError, match="Read-only"):
            (mounted.path / "new").write_bytes(b"")
        flags = os.statvfs(mounted.path).f_flag
        assert flags & os.ST_RDONLY
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
    assert list((ground.path / "at").iterdir()) == []


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_without_a_target_the_mount_lies_in_a_private_directory(ground: Ground, backend: Backend) -> None:
    image = ground.image("image", CONTENTS)
    with mount(image, None, backend) as mounted:
        assert (mounted.path / "small").read_bytes() == b"hello\n"
        assert [record.path for record in live_records()] == [str(mounted.path)]
        parent = mounted.path.parent.stat()
        assert stat.S_IMODE(parent.st_mode) == 0o700
    assert not mounted.path.exists()
    assert mounted.closed


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_plain_umount_ends_everything_too(ground: Ground, backend: Backend) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    mount(image, at, backend).keep()
    assert len(live_records()) == 1
    subprocess.run(["umount", at], check=True)
    assert live_records() == []


@pytest.mark.parametrize("backend", [FUSE, OVERLAY, PASSTHROUGH], ids=named)
def test_an_ordinary_user_may_look_into_a_mount_of_root(ground: Ground, backend: Backend) -> None:
    image = ground.image("image", CONTENTS)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        with mount(image, Path(place), backend):
            words = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups", "cat", f"{place}/small"]
            assert subprocess.run(words, capture_output=True, check=True).stdout == b"hello\n"


def test_two_mounts_of_one_image_have_one_server_and_it_outlives_the_first(ground: Ground) -> None:
    image = ground.image("image", CONTENTS)
    with mount(image, None, FUSE) as first:
        with mount(image, None, FUSE) as second:
            assert first.log == second.log
            assert len(daemons(ground.runtime)) == 1
        time.sleep(1.5)
        assert (first.path / "small").read_bytes() == b"hello\n"


def test_a_domain_has_one_server_and_one_keeper(ground: Ground) -> None:
    one, two = ground.image("one", CONTENTS), ground.image("two", {"other": b"x" * 5000})
    with mount(one, None, OVERLAY) as first, mount(two, None, PASSTHROUGH) as second:
        assert (second.path / "other").read_bytes() == b"x" * 5000
        assert (first.path / "small").read_bytes() == b"hello\n"
        roles = sorted('"server"' in line for line in daemons(ground.runtime))
        assert roles == [False, True]


def cached() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Cached:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Cached in /proc/meminfo")


def by_read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def by_mmap(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        for place in range(0, len(view), 4096):
            view[place]


def by_splice(path: Path) -> None:
    # sendfile is splice through a pipe of the kernel's own.
    with path.open("rb") as file, open(os.devnull, "wb") as sink:
        place = 0
        while sent := os.sendfile(sink.fileno(), file.fileno(), place, 1 << 20):
            place += sent


def resident(path: Path) -> int:
    """How many bytes of a file are in the page cache."""
    words = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def forget(*paths: Path) -> None:
    """Write files out and drop their pages."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("read", [by_read, by_mmap, by_splice])
@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_reading_one_file_through_two_mounts_fills_the_page_cache_once(
    ground: Ground, backend: Backend, read: Callable[[Path], None]
) -> None:
    # Files that become objects while their opener waits; larger ones would be served unshared at first.
    generator = random.Random(7)
    same = {f"same/{number}": generator.randbytes(1 << 20) for number in range(48)}
    size = 48 << 20
    one = ground.image("one", {**same, "own": b"1"})
    two = ground.image("two", {**{f"else/{name}": content for name, content in same.items()}, "own": b"2"})
    # The machine does other things meanwhile. Pages of our own files are counted one by one; `Cached` has to
    # agree in one of several tries, and a try counts only if reading a third time adds as little as it must.
    margin = size // 4
    quiet = []
    for left in reversed(range(6)):
        domain = f"domain{left}"
        forget(one, two)
        with (
            pyerofs.mount(one, domain=domain, backend=backend.name) as first,
            pyerofs.mount(two, domain=domain, backend=backend.name) as second,
        ):
            marks = [cached()]
            for root in (first.path, second.path / "else", second.path / "else"):
                for name in same:
                    read(root / name)
                marks.append(cached())
            found = pyerofs.Domain(domain).stat()
            blobs = resident(one) + resident(two)
        assert found.saved_resident_bytes is not None
        assert found.saved_resident_bytes > size - margin
        assert found.saved_bytes > size - margin
        assert found.resident_bytes is not None
        assert found.resident_bytes + blobs < size + margin
        grown = [after - before for before, after in itertools.pairwise(marks)]
        if abs(grown[2]) < margin // 2:
            quiet.append(grown)
            if abs(grown[0] - size) < margin and abs(grown[1]) < margin:
                return
        assert wait_until(lambda: not daemons(ground.runtime))
        pyerofs.Domain(domain).remove()
    assert not quiet, f"reading {size} bytes twice added {quiet}"
    pytest.skip("too much else happens in this machine's page cache to see ours in it")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", pyerofs.NotAnImage),
        (b"x" * 100, pyerofs.NotAnImage),
        (random_bytes(3, 70_000), pyerofs.NotAnImage),
    ],
    ids=["empty", "short", "noise"],
)
@pytest.mark.parametrize("backend", ALL, ids=named)
def test_what_is_no_image_is_refused(
    ground: Ground, backend: Backend, content: bytes, error: type[Exception]
) -> None:
    image, at = ground.path / "bad.erofs", ground.directory("at")
    image.write_bytes(content)
    with pytest.raises(pyerofs.CorruptImage) as caught:
        mount(image, at, backend)
    assert caught.value.errno == errno.EUCLEAN
    assert issubclass(error, pyerofs.CorruptImage)
    assert topmost(str(at), read_mountinfo()) is None


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_wrong_checksum_and_an_unknown_feature_are_told_apart(ground: Ground, backend: Backend) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    good = image.read_bytes()
    data = bytearray(good)
    data[1024 + 16] ^= 1
    image.write_bytes(data)
    with pytest.raises(pyerofs.CorruptImage, match="checksum"):
        mount(image, at, backend)
    data = bytearray(good)
    data[1024 + 8] &= 0xFE
    data[1024 + 83] |= 0x40
    image.write_bytes(data)
    with pytest.raises(pyerofs.UnsupportedFeature):
        mount(image, at, backend)


def test_targets_that_can_not_be_mounted_on_are_refused(ground: Ground) -> None:
    image = ground.image("image", CONTENTS)
    with pytest.raises(FileNotFoundError):
        mount(image, ground.path / "missing", FUSE)
    with pytest.raises(NotADirectoryError):
        mount(image, image, FUSE)
    full = ground.directory("full")
    (full / "file").touch()
    with pytest.raises(OSError, match="not empty") as caught:
        mount(image, full, FUSE)
    assert caught.value.errno == errno.ENOTEMPTY
    at = ground.directory("at")
    with mount(image, at, FUSE):
        with pytest.raises(OSError, match="already") as caught:
            mount(image, at, FUSE)
        assert caught.value.errno == errno.EBUSY


def test_images_that_can_not_be_opened_are_refused(ground: Ground) -> None:
    at = ground.directory("at")
    with pytest.raises(FileNotFoundError):
        mount(ground.path / "missing", at, FUSE)
    with pytest.raises(IsADirectoryError):
        mount(ground.path, at, FUSE)
    pipe = ground.path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="neither a file"):
        mount(pipe, at, FUSE)
    image = ground.image("image", CONTENTS)
    with pytest.raises(OSError, match="device"):
        pyerofs.mount(image, at, backend="fuse", devices=[image])


def test_arguments_that_do_not_go_together_are_refused(ground: Ground) -> None:
    image, at = ground.image("image", CONTENTS), ground.directory("at")
    with pytest.raises(ValueError, match="domain"):
        pyerofs.mount(image, at, backend="overlay")
    with pytest.raises(ValueError, match="back end"):
        pyerofs.mount(image, at, backend="magic")
    with pytest.raises(ValueError, match="owners"):
        pyerofs.mount(image, at, owners="mine")
    with pytest.raises(ValueError, match="domain"):
        pyerofs.mount(image, at, domain="../up")
    with pytest.raises(pyerofs.ErofsError, match="shares nothing"):
        pyerofs.mount(image, at, backend="kernel", domain="shared")


@pytest.mark.parametrize("backend", [FUSE, OVERLAY, PASSTHROUGH], ids=named)
def test_an_image_on_a_mount_of_its_own_server_is_refused(ground: Ground, backend: Backend) -> None:
    inner = ground.image("inner", CONTENTS)
    outer = ground.image("outer", {"inner.erofs": inner.read_bytes()})
    with mount(outer, None, backend) as mounted:
        nested = mounted.path / "inner.erofs"
        if backend is FUSE:
            # Another image has another server, so nobody waits for himself.
            with mount(nested, None, backend) as second:
                assert (second.path / "small").read_bytes() == b"hello\n"
            return
        with pytest.raises(pyerofs.RefusedByPolicy, match="wait for itself"):
            mount(nested, None, backend)


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


def test_the_kernel_back_end_needs_no_server(ground: Ground) -> None:
    with mount(ground.image("image", CONTENTS), None, KERNEL) as mounted:
        assert mounted.log is None
        assert daemons(ground.runtime) == []


def test_what_is_wrong_is_one_sentence_and_the_status_says_which_kind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.erofs"
    bad.write_bytes(b"x" * 5000)
    at = tmp_path / "at"
    at.mkdir()
    done = cli("mount", bad, at)
    assert done.returncode == 1
    assert done.stderr.startswith("pyerofs: ")
    assert done.stderr.count("\n") == 1
    assert str(bad) in done.stderr
    assert cli("mount", bad, at, "--backend", "nonsense").returncode == 2
