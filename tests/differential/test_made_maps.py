"""Maps of compressed files that no mkfs.erofs writes: made from one that it does; read by Linux 7.2 too.

Extent records of all four sizes, and holes in a full index (Linux 7.2).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

import pyerofs
import vm

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers

BLOCK = 4096
EXTENT = 4 * BLOCK
SIZE = 200_000
HEAD1, NONHEAD = 1, 2
EXTENTS = 1
HOLE = 1 << 14
CBLKCNT = 1 << 11
SCRIPT = """
mkdir -p /mnt
for disk in /dev/vd[a-h]; do
    mount -t erofs -o ro $disk /mnt && cat /mnt/file | md5sum
    umount /mnt
done
"""


class Head(NamedTuple):
    """An entry of the full index in which an extent starts."""

    number: int
    kind: int
    block: int


class Sound(NamedTuple):
    """An image of one file with a full index, every extent but the last of 16 KiB in one block."""

    image: bytes
    content: bytes
    header: int
    heads: list[Head]

    @property
    def start(self) -> int:
        """Where the index starts."""
        return self.header + 16

    @property
    def entries(self) -> int:
        """Its entries."""
        return -(-SIZE // BLOCK)


@pytest.fixture(scope="module")
def sound(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Sound:
    place = tmp_path_factory.mktemp("maps")
    lines = (f"line {number // 7} of a file that compresses, line {number // 7}\n" for number in range(9000))
    content = "".join(lines).encode()[:SIZE]
    assert len(content) == SIZE
    (place / "tree").mkdir()
    (place / "tree/file").write_bytes(content)
    options = ("-T0", "-zlz4", "-C65536", f"--max-extent-bytes={EXTENT}")
    peers.mkfs(
        place / "image", place / "tree", *options, "-Enosbcrc,legacy-compress,force-inode-extended", "--quiet"
    )
    image = (place / "image").read_bytes()
    with pyerofs.open(place / "image") as opened:
        inode = (struct.unpack_from("<I", image, 1024 + 0x28)[0]) * BLOCK + (opened / "file").nid * 32
    header = -(-(inode + 64) // 8) * 8
    heads = []
    for number in range(-(-SIZE // BLOCK)):
        advise, offset, block = struct.unpack_from("<HHI", image, header + 16 + 8 * number)
        if advise & 3 != NONHEAD:
            assert number % 4 == offset == 0
            heads.append(Head(number, advise & 3, block))
    assert len(heads) == -(-SIZE // EXTENT)
    return Sound(image, content, header, heads)


def with_records(sound: Sound, code: int) -> bytes:
    """The image with records of `4 << code` bytes in place of the index."""
    size = 4 << code
    data = bytearray(sound.image)
    data[sound.header : sound.start + 8 * sound.entries] = bytes(16 + 8 * sound.entries)
    # Records without a start are one for each logical cluster, which has 16 KiB here.
    count, clusterbits = (0, 2) if code < 2 else (len(sound.heads), 0)
    struct.pack_into("<IHBB", data, sound.header, count, EXTENTS | code << 1, 0, clusterbits)
    at = -(-(sound.header + 8) // size) * size
    if size == 4:
        struct.pack_into("<Q", data, at, sound.heads[0].block * BLOCK)
        at += 8
    for head in sound.heads:
        length = BLOCK | (1 << 28 if head.kind == HEAD1 else 0)
        record = struct.pack("<IQQ12x", length, head.block * BLOCK, head.number * BLOCK)
        data[at : at + size] = record[:size]
        at += size
    return bytes(data)


def with_hole(sound: Sound, number: int) -> tuple[bytes, bytes]:
    """The image with the flag of a hole at that head, and what the file then is."""
    data = bytearray(sound.image)
    at = sound.start + 8 * sound.heads[number].number
    struct.pack_into("<H", data, at, struct.unpack_from("<H", data, at)[0] | HOLE)
    return bytes(data), zeroed(sound, number)


def with_empty_count(sound: Sound, number: int) -> tuple[bytes, bytes]:
    """The image with a pcluster of no blocks there, and what the file then is."""
    data = bytearray(sound.image)
    at = sound.start + 8 * (sound.heads[number].number + 1)
    advise, _offset, count = struct.unpack_from("<HHH", data, at)
    assert (advise & 3, count) == (NONHEAD, CBLKCNT | 1)
    struct.pack_into("<H", data, at + 4, CBLKCNT)
    return bytes(data), zeroed(sound, number)


def zeroed(sound: Sound, number: int) -> bytes:
    """The file with zeros in place of that extent."""
    start = sound.heads[number].number * BLOCK
    end = min(start + EXTENT, SIZE)
    return sound.content[:start] + bytes(end - start) + sound.content[end:]


def read(image: bytes, place: Path) -> bytes:
    place.write_bytes(image)
    with pyerofs.open(place) as opened:
        content = (opened / "file").read_bytes()
        with (opened / "file").open("rb") as file:
            # From behind too, where the way to an extent is another one.
            for start in range(SIZE - 5000, 0, -5000):
                file.seek(start)
                assert file.read(5000) == content[start : start + 5000]
    return content


@pytest.mark.usefixtures("machine")
def test_maps_that_no_tool_writes_are_read_as_by_linux(sound: Sound, tmp_path: Path) -> None:
    made = {f"records of {4 << code} bytes": (with_records(sound, code), sound.content) for code in range(4)}
    for number in (0, 3, len(sound.heads) - 1):
        made[f"hole at {number}"] = with_hole(sound, number)
    made["no blocks at 2"] = with_empty_count(sound, 2)
    disks = []
    for name, (image, content) in made.items():
        disks.append(tmp_path / name)
        assert read(image, disks[-1]) == content, name
    judged = vm.run(disks, SCRIPT).split()[::2]
    ours = [digest(content) for _image, content in made.values()]
    assert dict(zip(made, judged, strict=True)) == dict(zip(made, ours, strict=True))


def test_records_of_all_sizes_are_read_as_by_erofs_utils(sound: Sound, peers: Peers, tmp_path: Path) -> None:
    for code in range(4):
        image = tmp_path / f"records {4 << code}"
        assert read(with_records(sound, code), image) == sound.content
        assert peers.dump(image, "--cat", "--path=/file").encode() == sound.content


def digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
