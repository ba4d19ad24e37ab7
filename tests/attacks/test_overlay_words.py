"""Images that hold what means something to overlayfs: its xattrs, and its whiteouts."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import ALL, Backend, Ground, named, random_bytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

SECRET = random_bytes(21, 50_000)
OWN = random_bytes(22, 50_000)


def mount(image: Path, backend: Backend) -> pyerofs.Mount:
    return pyerofs.mount(image, backend=backend.name, domain=backend.domain)


def object_path(content: bytes) -> bytes:
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    return f"/{digest[:2]}/{digest[2:]}".encode()


@pytest.fixture
def hostile(ground: Ground) -> Path:
    """An image full of overlayfs' own words."""
    source = ground.directory("source")
    for name in ("redirected", "trusted", "whiteout-xattr"):
        (source / name).write_bytes(OWN)
    for prefix, name in (("user", "redirected"), ("trusted", "trusted")):
        os.setxattr(source / name, f"{prefix}.overlay.metacopy", b"")
        os.setxattr(source / name, f"{prefix}.overlay.redirect", object_path(SECRET))
    os.setxattr(source / "whiteout-xattr", "user.overlay.whiteout", b"y")
    opaque = source / "opaque"
    opaque.mkdir()
    (opaque / "inside").write_bytes(b"inside")
    for prefix in ("user", "trusted"):
        os.setxattr(opaque, f"{prefix}.overlay.opaque", b"x")
        os.setxattr(opaque, f"{prefix}.overlay.redirect", b"/ab")
    os.mknod(source / "device", stat.S_IFCHR | 0o644, os.makedev(0, 0))
    os.mknod(opaque / "device", stat.S_IFCHR | 0o644, os.makedev(0, 0))
    image = ground.path / "hostile.erofs"
    pyerofs.build(source, image, xattrs="all")
    return image


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_redirects_of_an_image_lead_nowhere(ground: Ground, hostile: Path, backend: Backend) -> None:
    victim = ground.image("victim", {"secret": SECRET})
    with mount(victim, backend) as first, mount(hostile, backend) as second:
        assert (first.path / "secret").read_bytes() == SECRET
        for name in ("redirected", "trusted", "whiteout-xattr"):
            assert (second.path / name).stat().st_size == len(OWN)
            assert (second.path / name).read_bytes() == OWN
        assert (second.path / "opaque/inside").read_bytes() == b"inside"
        # And once more, now that everything is an object.
        assert (second.path / "redirected").read_bytes() == OWN


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_a_device_0_0_hides_nothing_and_is_no_device(ground: Ground, hostile: Path, backend: Backend) -> None:
    assert ground.path.exists()
    with mount(hostile, backend) as mounted:
        names = {path.name for path in mounted.path.iterdir()}
        assert names == {"redirected", "trusted", "whiteout-xattr", "opaque", "device"}
        assert {path.name for path in (mounted.path / "opaque").iterdir()} == {"inside", "device"}
        for path in (mounted.path / "device", mounted.path / "opaque/device"):
            assert stat.S_ISCHR(path.lstat().st_mode)
            with pytest.raises(OSError, match=r"denied|No such device"):
                path.open("rb")


@pytest.mark.parametrize("backend", ALL, ids=named)
def test_the_images_xattrs_are_shown_as_they_are_or_not_at_all(hostile: Path, backend: Backend) -> None:
    with mount(hostile, backend) as mounted:
        path = mounted.path / "redirected"
        shown = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        for name, value in shown.items():
            # Never ours: a path that names an object of this domain under the image's own file.
            if name.endswith("overlay.redirect"):
                assert value == object_path(SECRET)
