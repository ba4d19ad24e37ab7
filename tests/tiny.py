"""Images made by hand, a field at a time, so that any rule of the format can be broken on purpose.

Each inode has a block of its own behind the superblock's, its data inline: the inode of number n lies at byte
(n + 1) * 4096 and has nid n * 128. That wastes space and nothing else, and every place can be reckoned.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BLOCK = 4096
SUPERBLOCK = 1024
MAGIC = 0xE0F5E1E2
DIRECTORY, REGULAR, SYMLINK, FIFO, CHARACTER = 0o040755, 0o100644, 0o120777, 0o010600, 0o020600
KINDS = {0o100000: 1, 0o040000: 2, 0o020000: 3, 0o060000: 4, 0o010000: 5, 0o140000: 6, 0o120000: 7}
EPOCH = 1_700_000_000
UUID = bytes(range(16))


@dataclass
class Node:
    """One inode. A directory's data is made of `entries` unless `data` is given."""

    mode: int
    data: bytes = b""
    entries: tuple[tuple[bytes, int], ...] = ()
    xattrs: bytes = b""
    size: int | None = None
    layout: int = 2
    i_u: int = 0
    uid: int = 0
    gid: int = 0


def nid(number: int) -> int:
    """The nid of the inode of that number."""
    return number * 128


def place(number: int) -> int:
    """The byte at which that inode lies."""
    return (number + 1) * BLOCK


def dirents(entries: list[tuple[bytes, int, int]]) -> bytes:
    """One directory block: (name, nid, type) in the order given."""
    head = b""
    names = b""
    start = 12 * len(entries)
    for name, number, kind in entries:
        head += struct.pack("<QHBx", number, start + len(names), kind)
        names += name
    return head + names


def xattr_area(*entries: tuple[int, bytes, bytes], shared: tuple[int, ...] = ()) -> bytes:
    """An xattr area of (prefix index, name behind the prefix, value)."""
    area = struct.pack("<IB7x", 0, len(shared)) + b"".join(struct.pack("<I", one) for one in shared)
    for index, name, value in entries:
        area += struct.pack("<BBH", len(name), index, len(value)) + name + value
        area += bytes(-len(area) % 4)
    return area


def crc32c(data: bytes) -> int:
    """The checksum of a superblock, with its start value and no inversion at the end."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc


def image(
    *nodes: Node,
    compat: int = 0,
    incompat: int = 0,
    extra_devices: int = 0,
    label: bytes = b"tiny",
    slots: bytes = b"",
    algorithms: int = 0,
    configs: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """An image of these inodes, the root first.

    `slots` is the device table, `configs` the records of the compression `algorithms`, `tail` more blocks.
    """
    superblock = struct.pack(
        "<IIIBBHQQIIII16s16sIHHHBBIQBBHIQQ",
        *(MAGIC, 0, compat, 12, 0, 0, len(nodes), EPOCH, 0, len(nodes) + 1, 1, 0),
        *(UUID, label, incompat, algorithms, extra_devices, 16 if extra_devices else 0),
        *bytes(10),
    )
    first = bytes(SUPERBLOCK) + superblock + configs
    first = first.ljust(16 * 128, b"\0") + slots if slots else first
    made = bytearray(first.ljust(BLOCK, b"\0"))
    for node in nodes:
        made += _inode(node, nodes)
    made += tail
    if compat & 1:
        struct.pack_into("<I", made, SUPERBLOCK + 4, crc32c(bytes(made[SUPERBLOCK:BLOCK])))
    return bytes(made)


def _inode(node: Node, nodes: tuple[Node, ...]) -> bytes:
    data = node.data
    if node.entries:
        rows = [
            (name, nid(number), KINDS.get(nodes[number].mode & 0o170000, 0)) for name, number in node.entries
        ]
        data = dirents(sorted(rows))
    size = len(data) if node.size is None else node.size
    count = 0 if not node.xattrs else (len(node.xattrs) - 12) // 4 + 1
    head = struct.pack(
        "<HHHHIIIIHHI",
        *(node.layout << 1, count, node.mode, 1, size, 0, node.i_u, 0, node.uid, node.gid, 0),
    )
    return (head + node.xattrs + data).ljust(BLOCK, b"\0")


def device_slot(tag: bytes, blocks: int, unified: int) -> bytes:
    """One record of the device table."""
    return struct.pack("<64sIIHH52x", tag, blocks, unified, 0, 0)


def sample() -> bytes:
    """A small honest tree with one of everything that the reader knows."""
    xattrs = xattr_area((1, b"colour", b"blue"), (6, b"capability", bytes(20)))
    return image(
        Node(
            DIRECTORY,
            entries=(
                (b".", 0),
                (b"..", 0),
                (b"file.txt", 1),
                (b"sub", 2),
                (b"link", 4),
                (b"loop", 5),
                (b"absolute", 6),
                (b"n\xff", 7),
                (b"bell\x07", 7),
                (b"pipe", 8),
                (b"null", 9),
                (b"big", 10),
                (b"dangling", 11),
            ),
        ),
        Node(REGULAR, b"hello\nworld\n", xattrs=xattrs, uid=1000, gid=100),
        Node(DIRECTORY, entries=((b".", 2), (b"..", 0), (b"inner.txt", 3), (b"deep", 12))),
        Node(REGULAR, "gr\u00fc\u00df\n".encode()),
        Node(SYMLINK, b"sub/inner.txt"),
        Node(SYMLINK, b"loop"),
        Node(SYMLINK, b"/sub"),
        Node(REGULAR, b"odd"),
        Node(FIFO),
        Node(CHARACTER, i_u=0x103, layout=0),
        Node(REGULAR, BIG[2 * BLOCK :], size=len(BIG), i_u=14),
        Node(SYMLINK, b"nowhere"),
        Node(DIRECTORY, entries=((b".", 12), (b"..", 2), (b"a.txt", 3), (b"b.md", 3))),
        tail=BIG[: 2 * BLOCK],
    )


#: Two blocks and a tail, no two parts alike.
BIG = bytes((number * 7 + number // 256) % 251 for number in range(2 * BLOCK + 100))
