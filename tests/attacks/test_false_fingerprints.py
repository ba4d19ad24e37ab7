"""Images that claim fingerprints of contents that they do not hold.

*Disclosure*: the claimed object is in the domain already, and the claim is to make it readable. *Poisoning*:
the lie comes first, and is to be what later images get. In every back end.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import ALL, SHARING, Backend, Ground, forge, named, random_bytes
from pyerofs.mounting.records import live_records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

SECRET = random_bytes(11, 70_000)
FILLER = random_bytes(12, 70_000)
HONEST = random_bytes(13, 30_000)


def mount(image: Path, backend: Backend) -> pyerofs.Mount:
    return pyerofs.mount(image, backend=backend.name, domain=backend.domain)


def lying_image(ground: Ground, name: str = "liar") -> Path:
    """One file that claims to be the secret, one that is honest, one that claims the honest one's content."""
    image = ground.image(
        name, {"lie": FILLER, "honest": HONEST, "dir/also": FILLER, "small": b"x" * 9, "empty": b""}
    )
    forge(image, FILLER, SECRET)
    return image


def assert_refused(path: Path) -> None:
    """Opening fails as for a damaged file, every time, also for mmap and exec, and stat still works."""
    for _ in range(3):
        with pytest.raises(OSError, match="clean") as caught:
            path.read_bytes()
        assert caught.value.errno == errno.EUCLEAN
    assert path.stat().st_size == len(FILLER)


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_claim_discloses_nothing_of_an_image_mounted_before(ground: Ground, backend: Backend) -> None:
    victim, liar = ground.image("victim", {"secret": SECRET}), lying_image(ground)
    with mount(victim, backend) as first:
        assert (first.path / "secret").read_bytes() == SECRET
        with mount(liar, backend) as second:
            if backend in SHARING:
                assert_refused(second.path / "lie")
                assert_refused(second.path / "dir/also")
            else:
                # Nothing is shared, so nobody believes the claim and the file is what it is.
                assert (second.path / "lie").read_bytes() == FILLER
            assert (second.path / "honest").read_bytes() == HONEST
            assert (second.path / "small").read_bytes() == b"x" * 9
            assert (second.path / "empty").read_bytes() == b""
        assert (first.path / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_claim_poisons_no_image_mounted_later(ground: Ground, backend: Backend) -> None:
    victim, liar = ground.image("victim", {"secret": SECRET}), lying_image(ground)
    with mount(liar, backend) as first:
        if backend in SHARING:
            assert_refused(first.path / "lie")
        else:
            assert (first.path / "lie").read_bytes() == FILLER
        assert (first.path / "honest").read_bytes() == HONEST
        with mount(victim, backend) as second:
            assert (second.path / "secret").read_bytes() == SECRET
        if backend in SHARING:
            assert_refused(first.path / "lie")
            assert pyerofs.Domain("shared").verify().problems == []


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_a_lie_is_not_believed_in_a_later_mount_either(ground: Ground, backend: Backend) -> None:
    victim, liar = ground.image("victim", {"secret": SECRET}), lying_image(ground)
    for image in (victim, liar, liar, victim):
        with mount(image, backend) as mounted:
            if image == victim:
                assert (mounted.path / "secret").read_bytes() == SECRET
            else:
                assert_refused(mounted.path / "lie")


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_a_fact_of_an_image_does_not_outlive_a_change_of_the_image(ground: Ground, backend: Backend) -> None:
    victim = ground.image("victim", {"secret": SECRET})
    honest = ground.image("liar", {"lie": FILLER, "honest": HONEST})
    with mount(victim, backend) as one, mount(honest, backend) as two:
        assert (one.path / "secret").read_bytes() == SECRET
        assert (two.path / "lie").read_bytes() == FILLER
    # The same path, length and inode numbers, other claims.
    forge(honest, FILLER, SECRET)
    with mount(honest, backend) as mounted:
        assert_refused(mounted.path / "lie")
        assert (mounted.path / "honest").read_bytes() == HONEST


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_what_was_refused_is_in_the_servers_log(ground: Ground, backend: Backend) -> None:
    with mount(lying_image(ground), backend) as mounted:
        assert_refused(mounted.path / "lie")
        assert mounted.log is not None
        assert "liar.erofs" in mounted.log.read_text()
        assert [record.log for record in live_records()] == [str(mounted.log)]


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_another_domain_knows_nothing(ground: Ground, backend: Backend) -> None:
    victim = ground.image("victim", {"secret": SECRET})
    with mount(victim, backend) as first:
        (first.path / "secret").read_bytes()
        with pyerofs.mount(victim, backend=backend.name, domain="apart") as second:
            assert pyerofs.Domain("apart").stat().objects == 0
            assert (second.path / "secret").read_bytes() == SECRET
        assert pyerofs.Domain("shared").stat().saved_bytes == 0
