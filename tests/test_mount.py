"""Mounting as root, in every back end: what is seen, and what is refused."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import pyerofs
from mount_tools import (
    ALL,
    CONTENTS,
    FUSE,
    KERNEL,
    OVERLAY,
    PASSTHROUGH,
    Backend,
    Ground,
    cli,
    daemons,
    mount,
    named,
    random_bytes,
)
from pyerofs.mounting.mountinfo import read_mountinfo, topmost
from pyerofs.mounting.records import live_records

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]


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
