"""Damaged images of all kinds of compression, read by us, and by Linux 7.2.

The damage is the same each time: some bytes of the superblock, of inodes, of their maps, or of whatever lies
behind them. Where both read a file they must read the same bytes, and what the kernel mounts we open. Either
may refuse what the other reads: a decoder that has got what it was asked for doesn't look further.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import fuzz_seeds
import pyerofs
import vm
from mount_tools import seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers import Peers

IMAGES = 100
SUPERBLOCK = 1024
# What is worth changing there: sizes, the places of everything, features, nids, records of algorithms.
FIELDS = [12, 13, 14, 15, *range(0x28, 0x30), *range(0x50, 0xB0)]
METADATA = 8192
LARGEST = 4_000_000
SECONDS = 30
SCRIPT = f"""
mkdir -p /images /mnt
mount -t erofs -o ro /dev/vda /images || exit 9
for image in /images/*; do
    echo "IMAGE ${{image##*/}}"
    mount -t erofs -o ro,loop $image /mnt 2>/dev/null || continue
    echo MOUNTED
    (cd /mnt; find . -xdev -type f -size -{LARGEST}c 2>/dev/null | head -n 300 | while read -r path; do
        md5sum "$path" 2>/dev/null
    done)
    umount /mnt
done
exit 0
"""


@dataclass
class Seen:
    """What one reader makes of an image: whether it opens, and the digests of the files that it reads."""

    opened: bool = False
    files: dict[str, str] = field(default_factory=dict)


def damaged(image: bytes, chance: random.Random) -> bytes:
    """The image with one to three bytes changed."""
    data = bytearray(image)
    start = struct.unpack_from("<I", data, SUPERBLOCK + 0x28)[0] << data[SUPERBLOCK + 12]
    end = min(start + METADATA, len(data))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        in_superblock = chance.random() < 0.3
        at = SUPERBLOCK + chance.choice(FIELDS) if in_superblock else chance.randrange(start, end)
        data[at] ^= 1 << chance.randrange(8) if chance.random() < 0.6 else chance.randrange(1, 256)
    if 9 <= data[SUPERBLOCK + 12] <= 12:
        seal(data)
    return bytes(data)


def ours(path: Path) -> Seen:
    """What we read; any exception that is no OSError is a failure."""
    seen = Seen()
    try:
        image = pyerofs.open(path)
    except OSError:
        return seen
    seen.opened = True
    with image:
        for here, _directories, files in image.root.walk(on_error=lambda _error: None):
            for name in files:
                entry = here / name
                try:
                    if entry.is_file(follow_symlinks=False) and entry.lstat().st_size < LARGEST:
                        digest = hashlib.md5(entry.read_bytes(), usedforsecurity=False)
                        seen.files["." + entry.path] = digest.hexdigest()
                except OSError:
                    continue
    return seen


def kernels(log: str) -> Iterator[tuple[str, Seen]]:
    """What the kernel read, image by image."""
    for part in log.split("IMAGE ")[1:]:
        name, *lines = part.splitlines()
        rows = [re.fullmatch(r"([0-9a-f]{32})  ([ -~]+)", line) for line in lines]
        yield name, Seen("MOUNTED" in lines, {row[2]: row[1] for row in rows if row})


@pytest.mark.usefixtures("machine")
def test_the_kernel_and_we_read_the_same_of_damaged_images(peers: Peers, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    sound = [image.read_bytes() for image in fuzz_seeds.make(peers, seeds)]
    images = tmp_path / "images"
    images.mkdir()
    chance = random.Random(2026)
    for number in range(IMAGES):
        (images / f"{number:03}").write_bytes(damaged(sound[number % len(sound)], chance))
    peers.mkfs(tmp_path / "disk", images, "--quiet")
    # What a broken image makes the kernel say is not for us to judge, as long as it lives.
    log = vm.run([tmp_path / "disk"], SCRIPT, vm.Options(complaints=[".*"]))
    compared = 0
    for name, kernel in kernels(log):
        began = time.monotonic()
        us = ours(images / name)
        assert time.monotonic() - began < SECONDS, name
        assert us.opened or not kernel.opened, f"{name}: the kernel mounts it"
        for path in kernel.files.keys() & us.files.keys():
            assert kernel.files[path] == us.files[path], f"{name}: {path}"
            compared += 1
    assert compared > IMAGES * 15, "nearly all of it was refused"


def test_whatever_is_damaged_an_error_says_where_and_other_files_are_read(
    peers: Peers, tmp_path: Path
) -> None:
    chance = random.Random(42)
    decoding = others = 0
    for path in fuzz_seeds.make(peers, tmp_path):
        data = path.read_bytes()
        whole = ours(path).files
        metadata = struct.unpack_from("<I", data, SUPERBLOCK + 0x28)[0] << data[SUPERBLOCK + 12]
        for _ in range(40):
            made = bytearray(data)
            at = chance.randrange(metadata, len(made))
            length = chance.choice((1, 8, 200))
            made[at : at + length] = chance.randbytes(len(made[at : at + length]))
            seen = Seen()
            with contextlib.suppress(OSError), pyerofs.open(bytes(made)) as image:
                seen.opened = True
                for name, answer in image.read_many(whole):
                    if isinstance(answer, bytes):
                        seen.files[name] = hashlib.md5(answer, usedforsecurity=False).hexdigest()
                        continue
                    if not isinstance(answer, pyerofs.ErofsError):
                        continue  # the damage is in a name or a type
                    assert (answer.filename, answer.nid is not None) == (name, True), str(answer)
                    if "cannot decode" in str(answer):
                        assert None not in (answer.extent, answer.offset), str(answer)
                        decoding += 1
            others += sum(seen.files.get(name) == digest for name, digest in whole.items())
    assert decoding > 40, "the decoders saw hardly any damage"
    assert others > 400 * 15, "one bad place spoiled other files"
