"""Compressed images in mounts: what is read, and what a domain shares of them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import FUSE, OVERLAY, PASSTHROUGH, SHARING, Backend, Ground, fill, forge, give, named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ordinary_user import OrdinaryUser
    from peers import Peers

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

#: What the server may need beyond what it has anyway, in bytes.
MEMORY = 150 << 20


def words(seed: int, size: int) -> bytes:
    """Bytes that compress, and differ between seeds."""
    generator = random.Random(seed)
    table = [generator.randbytes(generator.randrange(2, 12)) for _ in range(300)]
    made = bytearray()
    while len(made) < size:
        made += b"".join(generator.choices(table, k=4096))
    return bytes(made[:size])


CONTENTS: dict[str, bytes] = {
    "tiny": b"hello\n",
    "small": words(1, 3000),
    "block": words(2, 4096),
    "dir/medium": words(3, 300_000),
    "dir/memory": words(4, 4 << 20),
    "dir/pipe": words(5, (4 << 20) + 1),
    "dir/zeros": bytes(9 << 20) + b"the end",
    "noise": random.Random(6).randbytes(200_000),
}


def compressed(ground: Ground, peers: Peers, name: str, files: Mapping[str, bytes], *options: str) -> Path:
    """An image that mkfs.erofs makes."""
    source = ground.directory(f"{name}.tree")
    fill(source, files)
    image = ground.path / f"{name}.erofs"
    peers.mkfs(image, source, *(options or ("-zlz4hc", "-C65536")))
    return image


@pytest.mark.parametrize(
    "options",
    [
        ("-zlz4",),
        ("-zlzma,level=1", "-C65536"),
        ("-zdeflate,level=1", "-Eztailpacking"),
        ("-zzstd,level=3", "-C1048576", "-Eall-fragments,dedupe"),
        ("-zlz4hc", "-C16384", "--xattr-inode-digest=erofs.fingerprint.v1"),
        ("-zlz4", "-m4096"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("backend", [FUSE, OVERLAY, PASSTHROUGH], ids=named)
def test_a_compressed_image_is_read_like_any_other(
    ground: Ground, peers: Peers, backend: Backend, options: tuple[str, ...]
) -> None:
    image = compressed(ground, peers, "image", CONTENTS, *options)
    with pyerofs.mount(image, domain=backend.domain, backend=backend.name) as mount:
        for _ in range(2):
            for name, content in CONTENTS.items():
                assert (mount.path / name).read_bytes() == content, name
        with (mount.path / "dir/pipe").open("rb") as file:
            file.seek(4_000_000)
            assert file.read(1000) == CONTENTS["dir/pipe"][4_000_000:4_001_000]
        if backend.domain:
            assert pyerofs.Domain(backend.domain).stat().objects == len(CONTENTS)


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_a_compressed_image_shares_its_pages_with_a_plain_one(
    ground: Ground, peers: Peers, backend: Backend
) -> None:
    one = ground.image("one", {f"same/{name}": content for name, content in CONTENTS.items()})
    two = compressed(ground, peers, "two", {f"else/{name}": content for name, content in CONTENTS.items()})
    size = sum(len(content) for content in CONTENTS.values())
    with (
        pyerofs.mount(two, domain="shared", backend=backend.name) as second,
        pyerofs.mount(one, domain="shared", backend=backend.name) as first,
    ):
        for name, content in CONTENTS.items():
            assert (second.path / "else" / name).read_bytes() == content
            assert (first.path / "same" / name).read_bytes() == content
        found = pyerofs.Domain("shared").stat()
        assert found.objects == len(CONTENTS)
        assert found.saved_bytes == size
        # Each page of each file is in memory once, where both mounts find it. A hole has none on disk.
        assert found.resident_bytes is not None
        assert found.saved_resident_bytes is not None
        assert found.resident_bytes <= size + (len(CONTENTS) << 12)
        assert found.saved_resident_bytes >= size * 9 // 10
        # Nothing but the objects is left in memory: what is decoded goes there and nowhere else.
    assert found.bytes <= size + (len(CONTENTS) << 12)


def damage(image: Path, name: str) -> int:
    """Break a cluster in the middle of a file; return the offset in the file where it begins."""
    with pyerofs.open(image) as opened:
        extents = [extent for extent in (opened / name).extents() if extent.algorithm]
    extent = extents[len(extents) // 2]
    assert extent.blob_offset is not None
    data = bytearray(image.read_bytes())
    # Matches from before the beginning.
    data[extent.blob_offset : extent.blob_offset + extent.stored] = (b"\x0f\xff\xff" * extent.stored)[
        : extent.stored
    ]
    image.write_bytes(data)
    return extent.offset


@pytest.mark.parametrize("backend", [FUSE, OVERLAY, PASSTHROUGH], ids=named)
@pytest.mark.parametrize("name", ["dir/medium", "dir/pipe"])
def test_damage_in_a_compressed_file_is_an_error_of_that_place_only(
    ground: Ground, peers: Peers, backend: Backend, name: str
) -> None:
    image = compressed(ground, peers, "image", CONTENTS, "-zlz4", "-C4096")
    at = damage(image, name)
    with pyerofs.mount(image, domain=backend.domain, backend=backend.name) as mount:
        for _ in range(2):
            with pytest.raises(OSError, match="needs cleaning") as caught:
                (mount.path / name).read_bytes()
            assert caught.value.errno == errno.EUCLEAN
            file = os.open(mount.path / name, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                start = at - (1 << 16)
                assert os.pread(file, 4096, start) == CONTENTS[name][start : start + 4096]
            finally:
                os.close(file)
        for other, content in CONTENTS.items():
            if other != name:
                assert (mount.path / other).read_bytes() == content
        if backend.domain:
            assert pyerofs.Domain(backend.domain).stat().objects == len(CONTENTS) - 1


@pytest.mark.parametrize("backend", SHARING, ids=named)
@pytest.mark.parametrize("name", ["dir/medium", "dir/pipe"])
def test_a_fingerprint_of_what_does_not_decode_is_a_false_claim(
    ground: Ground, peers: Peers, backend: Backend, name: str
) -> None:
    options = ("-zlz4", "-C4096", "--xattr-inode-digest=erofs.fingerprint.v1")
    image = compressed(ground, peers, "image", CONTENTS, *options)
    damage(image, name)
    with pyerofs.mount(image, domain="shared", backend=backend.name) as mount:
        for _ in range(2):
            with pytest.raises(OSError, match="needs cleaning") as caught:
                os.close(os.open(mount.path / name, os.O_RDONLY))
            assert caught.value.errno == errno.EUCLEAN
        for other, content in CONTENTS.items():
            if other != name:
                assert (mount.path / other).read_bytes() == content
        assert pyerofs.Domain("shared").stat().objects == len(CONTENTS) - 1


@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_a_false_claim_of_a_compressed_file_is_refused(
    ground: Ground, peers: Peers, backend: Backend
) -> None:
    options = ("-zlz4", "--xattr-inode-digest=erofs.fingerprint.v1")
    image = compressed(ground, peers, "image", {"a": CONTENTS["dir/medium"], "b": b"b"}, *options)
    forge(image, CONTENTS["dir/medium"], b"another")
    with pyerofs.mount(image, domain="shared", backend=backend.name) as mount:
        with pytest.raises(OSError, match="needs cleaning") as caught:
            (mount.path / "a").read_bytes()
        assert caught.value.errno == errno.EUCLEAN
        assert (mount.path / "b").read_bytes() == b"b"


def test_a_large_compressed_file_costs_the_server_little_memory(ground: Ground, peers: Peers) -> None:
    content = words(9, 4 << 20) * 48
    image = compressed(ground, peers, "image", {"large": content}, "-zlz4", "-C1048576")
    with pyerofs.mount(image, domain="shared", backend="overlay") as mount:
        digest = hashlib.sha256()
        with (mount.path / "large").open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(content).digest()
        peaks = server_peaks(ground.runtime)
    assert peaks
    assert max(peaks) < MEMORY


def server_peaks(runtime: Path) -> list[int]:
    """The most memory that each of our daemons had, in bytes."""
    peaks = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                status = (entry / "status").read_text()
            except OSError:
                continue
            if os.fsencode(runtime) in words and b"-I" in words:
                found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
                peaks.append(int(found[1]) << 10 if found else 0)
    return peaks


DIGESTS = [hashlib.sha256(CONTENTS[name]).hexdigest() for name in ("dir/pipe", "small")]


def digests(user: OrdinaryUser, home: Path, *words: str | Path) -> list[str]:
    """What a command that ends in `sha256sum FILE...` prints, as the user."""
    done = user.run(words, cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()]


def user_place(user: OrdinaryUser, home: Path, ground: Ground, peers: Peers) -> tuple[Path, Path]:
    """A compressed image and an empty directory of a user's."""
    image = compressed(ground, peers, "image", CONTENTS).rename(home / "image.erofs")
    at = home / "at"
    at.mkdir()
    return give(image, user), give(at, user)


def test_a_user_mounts_a_compressed_image_by_fusermount3(
    login_user: OrdinaryUser, login_home: Path, ground: Ground, peers: Peers
) -> None:
    user, home = login_user, login_home
    image, at = user_place(user, home, ground, peers)
    assert digests(user, home, "pyerofs", "mount", image, at) == []
    try:
        assert digests(user, home, "sha256sum", at / "dir/pipe", at / "small") == DIGESTS
    finally:
        assert digests(user, home, "pyerofs", "umount", at) == []


def test_a_user_mounts_a_compressed_image_by_overlay_and_shares_it(
    user: OrdinaryUser, home: Path, ground: Ground, peers: Peers
) -> None:
    image, at = user_place(user, home, ground, peers)
    options = ["--backend", "overlay", "--domain", "d"]
    (seen,) = digests(user, home, "pyerofs", "mount", image, at, *options)
    try:
        assert digests(user, home, "sha256sum", f"{seen}/dir/pipe", f"{seen}/small") == DIGESTS
        done = user.run(
            ["pyerofs", "domain", "stat", "d", "--json"], cwd=home, capture_output=True, text=True
        )
        assert json.loads(done.stdout)["objects"] == len(DIGESTS)
    finally:
        assert digests(user, home, "pyerofs", "umount", at) == []


def test_a_user_runs_in_a_compressed_image(
    user: OrdinaryUser, home: Path, ground: Ground, peers: Peers
) -> None:
    image, at = user_place(user, home, ground, peers)
    words = ["pyerofs", "run", "--domain", "d", f"{image}:{at}", "--", "sha256sum"]
    assert digests(user, home, *words, at / "dir/pipe", at / "small") == DIGESTS
