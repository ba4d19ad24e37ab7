"""Domains as commands and values: what they count, what they refuse while mounted, what they remove."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import OVERLAY, Ground, daemons, random_bytes, wait_until
from pyerofs.cli.app import run as command_line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

COMMON = random_bytes(5, 100_000)


def read_all(image: Path) -> None:
    with pyerofs.mount(image, domain="shared", backend="overlay") as mounted:
        for path in mounted.path.rglob("*"):
            if path.is_file():
                path.read_bytes()


def idle(ground: Ground) -> None:
    assert wait_until(lambda: not daemons(ground.runtime))


def test_a_new_domain_is_made_and_said_so_once(ground: Ground) -> None:
    image = ground.image("image", {"file": b"x"})
    assert pyerofs.Domain.all() == []
    with pyerofs.mount(image, domain="shared", backend=OVERLAY.name) as first:
        assert any("made the domain shared" in note for note in first.notes)
    with pyerofs.mount(image, domain="shared", backend=OVERLAY.name) as second:
        assert second.notes == ()
    assert [domain.name for domain in pyerofs.Domain.all()] == ["shared"]
    assert (ground.state / "domains/shared").stat().st_mode & 0o777 == 0o700


def test_stat_counts_what_two_mounted_images_share(ground: Ground) -> None:
    one = ground.image("one", {"common": COMMON, "own": b"1" * 5000})
    two = ground.image("two", {"else": COMMON})
    with (
        pyerofs.mount(one, domain="shared", backend="overlay") as first,
        pyerofs.mount(two, domain="shared", backend="overlay") as second,
    ):
        assert (first.path / "common").read_bytes() == COMMON
        assert (first.path / "own").read_bytes() == b"1" * 5000
        assert (second.path / "else").read_bytes() == COMMON
        found = pyerofs.Domain("shared").stat()
        assert (found.objects, found.bytes) == (2, len(COMMON) + 5000)
        assert found.saved_bytes == len(COMMON)
        assert sorted(image.mounts for image in found.images) == [1, 1]
        assert found.disk_bytes >= found.bytes
    idle(ground)
    assert pyerofs.Domain("shared").stat().saved_bytes == 0


def test_nothing_is_removed_or_repaired_while_something_is_mounted(ground: Ground) -> None:
    image = ground.image("image", {"file": COMMON})
    domain = pyerofs.Domain("shared")
    with pyerofs.mount(image, domain="shared", backend="overlay") as mounted:
        assert (mounted.path / "file").read_bytes() == COMMON
        for attempt in (domain.gc, domain.remove, lambda: domain.verify(repair=True)):
            with pytest.raises(OSError, match="in use") as caught:
                attempt()
            assert caught.value.errno == errno.EBUSY
        assert (mounted.path / "file").read_bytes() == COMMON
    idle(ground)
    domain.remove()
    assert pyerofs.Domain.all() == []


def test_gc_evicts_down_to_a_size_and_a_mount_makes_it_again(ground: Ground) -> None:
    image = ground.image("image", {"file": COMMON})
    read_all(image)
    idle(ground)
    domain = pyerofs.Domain("shared")
    assert domain.gc(keep_bytes=0, dry_run=True).objects == 1
    assert domain.stat().objects == 1
    assert domain.gc(keep_bytes=0).objects == 1
    assert domain.stat().objects == 0
    read_all(image)
    idle(ground)
    assert domain.stat().objects == 1


def test_verify_finds_an_object_that_was_changed_behind_our_back(
    ground: Ground, capfd: pytest.CaptureFixture[str]
) -> None:
    read_all(ground.image("image", {"file": COMMON}))
    idle(ground)
    assert pyerofs.Domain("shared").verify().problems == []
    stored = next(path for path in (ground.state / "domains/shared/objects").rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_bytes(b"X" + COMMON[1:])
    capfd.readouterr()
    assert command_line(["domain", "verify", "shared", "--json"]) == 1
    assert len(json.loads(capfd.readouterr().out)["problems"]) >= 1
    command_line(["domain", "verify", "shared", "--repair"])
    assert command_line(["domain", "verify", "shared"]) == 0


def test_the_commands_name_a_domain_that_is_not_there(
    ground: Ground, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ground.state.exists() is False
    for words in (["stat"], ["gc"], ["rm"], ["verify"]):
        assert command_line(["domain", *words, "nowhere"]) == 1
        assert "nowhere" in capfd.readouterr().err
    assert command_line(["domain", "ls"]) == 0
    assert command_line(["domain", "stat", "../up"]) == 2
    assert command_line(["domain", "gc", "x", "--keep", "many"]) == 2


def test_a_domain_open_to_others_is_refused(ground: Ground) -> None:
    image = ground.image("image", {"file": b"x"})
    read_all(image)
    idle(ground)
    (ground.state / "domains/shared").chmod(0o755)
    with pytest.raises(pyerofs.RefusedByPolicy):
        pyerofs.mount(image, domain="shared", backend="overlay")


def test_stat_in_words(ground: Ground, capfd: pytest.CaptureFixture[str]) -> None:
    read_all(ground.image("image", {"file": COMMON}))
    idle(ground)
    capfd.readouterr()
    assert command_line(["domain", "stat", "shared"]) == 0
    shown = capfd.readouterr().out
    for label in ("objects:", "on disk:", "in page cache:", "saved:", "image.erofs"):
        assert label in shown
