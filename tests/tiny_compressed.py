"""Compressed files made by hand, for what Linux reads and mkfs.erofs doesn't make.

A file is a list of extents, from which each kind of index is written. They lie in images of tiny.py, whose
blocks behind the inodes hold the clusters.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from tiny import BLOCK, DIRECTORY, REGULAR, Node, image

LZ4, DEFLATE, ZSTD = 0, 2, 3
PLAIN, HEAD1, NONHEAD, HEAD2 = range(4)
FULL, COMPACT = 1, 3
EXTENTS, BIG_1, BIG_2, INTERLACED = 0x01, 0x02, 0x04, 0x10
PARTIAL_REF, LI_HOLE, CBLKCNT = 1 << 15, 1 << 14, 1 << 11
EXTENT_PARTIAL = 1 << 27
# LZ4_0PADDING, COMPR_CFGS and BIG_PCLUSTER, COMPR_HEAD2, 48BIT.
INCOMPAT = 0x01 | 0x02 | 0x08 | 0x80
CONFIGS = b"".join(
    (
        struct.pack("<HHH10x", 14, 65535, 16),
        struct.pack("<HB5x", 6, 15),
        struct.pack("<HBB4x", 6, 0, 7),
    )
)


@dataclass(frozen=True)
class Extent:
    """Some bytes of a file that are stored as one.

    Attributes:
        size: the number of bytes.
        stored: the cluster's bytes; none for a hole.
        data: the bytes themselves.
        head: the type of its head in an index.
        algorithm: how it is encoded; None for plain.
        partial: the cluster decodes to more.
        again: the extent is of the cluster that was written before it.
        flagged: a hole says so itself, and has an address that older kernels read.
    """

    size: int
    stored: bytes = b""
    data: bytes = b""
    head: int = HEAD1
    algorithm: int | None = None
    partial: bool = False
    again: bool = False
    flagged: bool = True


def hole(size: int, *, flagged: bool = True) -> Extent:
    """A hole, marked in its head or, without a flag, by a cluster of no blocks."""
    return Extent(size, b"", bytes(size), flagged=flagged)


def plain(seed: int, size: int) -> Extent:
    """Bytes as they are."""
    data = bytes((seed * 31 + number * 7 + number // 251) % 256 for number in range(size))
    return Extent(size, data, data, head=PLAIN)


def encoded(seed: int, size: int, algorithm: int, head: int = HEAD1) -> Extent:
    """Bytes of one letter with something else at the end."""
    tail = bytes((seed * 13 + number) % 256 for number in range(12))
    run = size - len(tail)
    letter = bytes([97 + seed % 26])
    data = letter * run + tail
    if algorithm == LZ4:
        stored = lz4(letter, run, tail)
    elif algorithm == DEFLATE:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        stored = packer.compress(data) + packer.flush()
    else:
        stored = zstd(letter, run, tail)
    return Extent(size, stored, data, head, algorithm)


def lz4(letter: bytes, run: int, tail: bytes) -> bytes:
    """One letter, a match with itself, and the tail as literals."""
    more = run - 1 - 4 - 15
    assert more >= 0
    assert len(tail) < 15
    lengths = b"\xff" * (more // 255) + bytes([more % 255])
    return bytes([0x1F]) + letter + struct.pack("<H", 1) + lengths + bytes([len(tail) << 4]) + tail


def zstd(letter: bytes, run: int, tail: bytes) -> bytes:
    """A frame of blocks that repeat a letter, and one of raw bytes."""
    frame = struct.pack("<IBI", 0xFD2FB528, 0xA0, run + len(tail))
    # A block is no longer than the window, which is the content here, and than 128 KiB.
    while run:
        size = min(run, 1 << 17)
        frame += (size << 3 | 1 << 1).to_bytes(3, "little") + letter
        run -= size
    return frame + (len(tail) << 3 | 1).to_bytes(3, "little") + tail


@dataclass
class Clusters:
    """The blocks behind the inodes, as they fill up."""

    first: int
    data: bytearray = field(default_factory=bytearray)

    def add(self, extent: Extent) -> tuple[int, int]:
        """Write a cluster into blocks of its own; the block and their number."""
        block = self.first + len(self.data) // BLOCK
        count = -(-len(extent.stored) // BLOCK)
        gap = count * BLOCK - len(extent.stored)
        # What is encoded stands at the end of its blocks, what is plain at the beginning.
        before = 0 if extent.algorithm is None else gap
        self.data += bytes(before) + extent.stored + bytes(gap - before)
        return block, count

    def add_bytes(self, stored: bytes, *, aligned: bool = False) -> int:
        """Write a cluster right behind the last, or in blocks of its own; its byte."""
        if aligned:
            self.data += bytes(-len(self.data) % BLOCK)
        at = self.first * BLOCK + len(self.data)
        self.data += stored
        return at


@dataclass(frozen=True)
class Lcluster:
    """An entry of an index, of 4096 bytes of a file."""

    type: int
    offset: int = 0
    block: int = 0
    flags: int = 0
    back: int = 0
    ahead: int = 0
    count: int | None = None


def lclusters(extents: list[Extent], clusters: Clusters, *, big: bool) -> list[Lcluster]:
    """The entries of an index."""
    entries: list[Lcluster] = []
    start = 0
    last = (0, 0)
    for number, extent in enumerate(extents, 1):
        first, offset = divmod(start, BLOCK)
        assert first == len(entries), "two heads in one logical cluster"
        start += extent.size
        if not extent.again and extent.stored:
            last = clusters.add(extent)
        flags = PARTIAL_REF if extent.partial else 0
        if not extent.stored and extent.flagged:
            flags |= LI_HOLE
        entries.append(Lcluster(extent.head, offset, last[0], flags))
        heads_to = -(-start // BLOCK) if number == len(extents) else start // BLOCK
        for lcn in range(first + 1, heads_to):
            count = (last[1] if extent.stored else 0) if big and lcn == first + 1 else None
            if count == 0 and extent.flagged:
                count = 1
            entries.append(Lcluster(NONHEAD, back=lcn - first, ahead=heads_to - lcn, count=count))
    return entries


def header(advise: int, first: int, second: int, cluster_bits: int = 0) -> bytes:
    """The map header with its two algorithms."""
    return struct.pack("<IHBB", 0, advise, first | second << 4, cluster_bits)


def full_index(entries: list[Lcluster], advise: int, first: int, second: int) -> bytes:
    """A map header and an index with 8 bytes for each entry."""
    made = header(advise, first, second) + bytes(8)
    for entry in entries:
        if entry.type == NONHEAD:
            back = entry.back if entry.count is None else CBLKCNT | entry.count
            made += struct.pack("<HHHH", NONHEAD, 0, back, entry.ahead)
        else:
            made += struct.pack("<HHI", entry.type | entry.flags, entry.offset, entry.block)
    return made


def compact_index(entries: list[Lcluster], advise: int, first: int, second: int) -> bytes:
    """A map header and an index with two entries in each 8 bytes."""
    assert advise & (BIG_1 | BIG_2), "only big clusters count their blocks as this does"
    made = header(advise, first, second)
    padded = [*entries, Lcluster(NONHEAD, back=1, ahead=1)] if len(entries) % 2 else entries
    for number in range(0, len(padded), 2):
        pair = padded[number : number + 2]
        bits = 0
        for place, entry in enumerate(pair):
            low = entry.offset
            if entry.type == NONHEAD:
                # The last of a pack looks ahead, the others look back.
                low = min(entry.ahead, 2047) if place == 1 else min(entry.back, 2047)
                if entry.count is not None:
                    low = CBLKCNT | entry.count
            bits |= (low | entry.type << 12) << 16 * place
        # A cluster whose blocks were counted in this pack lies before the first head's.
        base = next((entry.block - (pair[0].count or 0) for entry in pair if entry.type != NONHEAD), 0)
        made += struct.pack("<II", bits, base)
    return made


def records(extents: list[Extent], clusters: Clusters, size: int, *, advise: int = 0, bits: int = 0) -> bytes:
    """A map header and extent records of `size` bytes; short ones are for extents of 4096 << `bits` bytes."""
    code = {4: 0, 8: 1, 16: 2, 32: 3}[size] << 1
    advise |= EXTENTS | code
    head = header(advise, 0, 0, bits)
    if size >= 16:
        head = struct.pack("<IHH", len(extents), advise, 0)
    made = head + bytes(-(32 + len(head)) % size)
    if size == 4:
        made += struct.pack("<Q", clusters.first * BLOCK + len(clusters.data))
    start = 0
    at = 0
    length = 0
    for extent in extents:
        rotated = bool(advise & INTERLACED and size != 4 and extent.stored and extent.algorithm is None)
        if not extent.again:
            stored = interlaced(extent.stored, start) if rotated else extent.stored
            length = len(stored)
            if stored:
                at = clusters.add_bytes(stored, aligned=rotated)
        if extent.stored:
            length |= 0 if extent.algorithm is None else extent.algorithm + 1 << 28
            length |= EXTENT_PARTIAL if extent.partial else 0
        fields = (length, at & 0xFFFFFFFF, at >> 32, start & 0xFFFFFFFF, start >> 32)
        made += struct.pack("<5I12x", *fields)[:size]
        start += extent.size
    return made


def interlaced(data: bytes, start: int) -> bytes:
    """Blocks of plain bytes, each at its place in its page; what comes before the next page stands last."""
    first = BLOCK - start % BLOCK
    size = -(-len(data) // BLOCK) * BLOCK
    return data[first:].ljust(size - first, b"\0") + data[:first].ljust(first, b"\0")


def compressed_image(files: dict[str, tuple[int, list[Extent], str]]) -> tuple[bytes, dict[str, bytes]]:
    """An image with a file for each way to index extents, and what the files hold.

    Args:
        files: for each name the flags in the map header, the extents and the kind of the index: "full",
            "compact", or the size of a record and, behind a slash, the cluster bits.
    """
    clusters = Clusters(len(files) + 2)
    nodes = []
    for advise, extents, kind in files.values():
        size = sum(extent.size for extent in extents)
        if kind in ("full", "compact"):
            first = next((one.algorithm for one in extents if one.head == HEAD1 and one.stored), None)
            second = next((one.algorithm for one in extents if one.head == HEAD2), None)
            entries = lclusters(extents, clusters, big=bool(advise & (BIG_1 | BIG_2)))
            write = full_index if kind == "full" else compact_index
            data = write(entries, advise, first or LZ4, second or LZ4)
            layout = FULL if kind == "full" else COMPACT
        else:
            record, _, bits = kind.partition("/")
            data = records(extents, clusters, int(record), advise=advise, bits=int(bits or 0))
            clusters.data += bytes(-len(clusters.data) % BLOCK)
            layout = FULL
        # Each inode has one block.
        assert len(data) < BLOCK - 64
        nodes.append(Node(REGULAR, data, size=size, layout=layout, i_u=1))
    names = tuple((name.encode(), number) for number, name in enumerate(files, 1))
    root = Node(DIRECTORY, entries=((b".", 0), (b"..", 0), *names))
    algorithms = 1 << LZ4 | 1 << DEFLATE | 1 << ZSTD
    made = image(
        *(root, *nodes),
        incompat=INCOMPAT,
        algorithms=algorithms,
        configs=CONFIGS,
        tail=bytes(clusters.data),
    )
    return made, {
        name: b"".join(extent.data[: extent.size] for extent in extents)
        for name, (_, extents, _) in files.items()
    }
