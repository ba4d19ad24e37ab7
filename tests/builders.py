"""Who makes images: the table of mkfs.erofs' options and the table of our own builder's.

Each row says what it changes about the tree on purpose, so that everything else can be compared exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from judges import Snapshot, as_tree, keeping_xattrs, with_times

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers

SECOND = 10**9
# What our builder takes from a tree when nobody says otherwise.
USUAL_XATTRS = (b"user.", b"security.capability", b"system.posix_acl_")


@dataclass(frozen=True)
class Made:
    """An image, and the blobs that its device table names, in order."""

    image: Path
    devices: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Mkfs:
    """A way of calling mkfs.erofs.

    Attributes:
        name: what the test is called.
        options: the words of the command line.
        blobdev: the data goes to a blob of its own.
        block: the block size; the kernel mounts none over its page size.
        times: the files keep their times, to the second.
        xattrs: the files keep their xattrs.
        cannot: cases that mkfs.erofs refuses this way.
    """

    name: str
    options: tuple[str, ...] = ()
    blobdev: bool = False
    block: int = 4096
    times: bool = True
    xattrs: bool = True
    cannot: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def make(self, peers: Peers, source: Path, target: Path) -> Made:
        """Make the image of `source` in the directory `target`."""
        image = target / "mkfs.erofs"
        options = list(self.options)
        devices: tuple[Path, ...] = ()
        if self.blobdev:
            blob = target / "mkfs.blob"
            options.append(f"--blobdev={blob}")
            devices = (blob,)
        if self.block != 4096:
            options.append(f"-b{self.block}")
        peers.mkfs(image, source, *options)
        return Made(image, devices)

    def expected(self, source: Snapshot) -> Snapshot:
        """What an image of `source` holds."""
        tree = self.comparable(source)
        if not self.xattrs:
            tree = keeping_xattrs(tree, lambda _name: False)
        return tree

    def comparable(self, snapshot: Snapshot) -> Snapshot:
        """A judge's snapshot, with what this way of building doesn't keep left out."""
        # mkfs.erofs drops the nanoseconds, and marks a root with whiteouts under it.
        snapshot = keeping_xattrs(snapshot, lambda name: name != b"trusted.overlay.origin")
        return with_times(as_tree(snapshot), lambda when: when // SECOND * SECOND if self.times else 0)


MKFS = [
    Mkfs("plain"),
    Mkfs("no-inline-tails", ("-E^inline_data",)),
    Mkfs("compact", ("-Eforce-inode-compact",), times=False, cannot=frozenset({"owners", "corners"})),
    Mkfs("extended", ("-Eforce-inode-extended",)),
    Mkfs("block-map", ("--chunksize=4096", "-Eforce-inode-blockmap")),
    Mkfs("chunk-indexes", ("--chunksize=16384", "-Eforce-chunk-indexes")),
    Mkfs("blob-device", ("--chunksize=4096",), blobdev=True),
    # mkfs.erofs 1.9.4 stores times before 1970 wrongly in the compact inodes of 48-bit images.
    Mkfs("48-bit", ("-E48bit",), times=False),
    Mkfs("dot-omitted", ("-Edot-omitted",), times=False),
    Mkfs("long-prefixes", ("--xattr-prefix=user.com.example.", "--xattr-prefix=user.n", "-x0")),
    Mkfs("plain-prefixes", ("--xattr-prefix=user.com.example.", "-Eplain-xattr-prefixes")),
    Mkfs("no-name-filter", ("-E^xattr-name-filter",)),
    Mkfs("all-xattrs-shared", ("-x0",)),
    Mkfs("no-xattrs", ("-x-1",), xattrs=False),
    Mkfs("digests", ("--xattr-inode-digest",)),
    Mkfs("no-checksum", ("-Enosbcrc",)),
    Mkfs("aligned-data", ("--dsunit=16", "--fsalignblks=64")),
    Mkfs("blocks-of-512", block=512),
    Mkfs("blocks-of-1024", block=1024),
    Mkfs("blocks-of-1024-chunks", ("--chunksize=1024",), block=1024),
]


@dataclass(frozen=True)
class Ours:
    """A way of calling `pyerofs.build`.

    Attributes:
        name: what the test is called.
        options: the keyword arguments.
        keeps: beginnings of the names of the xattrs that are kept.
        block: the block size; the kernel mounts none over its page size.
        fingerprint: the image carries the digest of each file.
        fsck: fsck.erofs is asked too.
        blob: chunks go to a blob; if `older` too, those of a directory of the tree are in an older one.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    keeps: tuple[bytes, ...] = USUAL_XATTRS
    block: int = 4096
    fingerprint: bool = True
    fsck: bool = True
    blob: bool = False
    older: bool = False

    def __str__(self) -> str:
        return self.name

    def make(self, source: Path, target: Path) -> Made:
        """Make the image of `source` in the directory `target`."""
        import pyerofs

        image = target / "ours.erofs"
        blobs: list[Path] = []
        words = dict(self.options)
        if self.older:
            part = next((path for path in sorted(source.iterdir()) if path.is_dir()), source)
            blobs.append(target / "older")
            pyerofs.build(part, target / "older.erofs", blob=blobs[0], **self.options)
            words["reuse"] = list(blobs)
        if self.blob:
            blobs.append(target / "blob")
            words["blob"] = blobs[-1]
        pyerofs.build(source, image, **words)
        return Made(image, tuple(blobs))

    def expected(self, source: Snapshot) -> Snapshot:
        """What an image of `source` holds."""
        return keeping_xattrs(as_tree(source), lambda name: name.startswith(self.keeps))


def compressed(name: str, compress: str, block: int = 4096, **options: Any) -> Ours:
    """A row that compresses."""
    options = {"compress": compress, "block_size": block, **options}
    return Ours(f"{name}-{block}" if block != 4096 else name, options, block=block)


def boxed(name: str, compress: str, block: int = 4096, **options: Any) -> Ours:
    """A row that has a metabox.

    Where tails and xattrs lie in one, fsck.erofs 1.9.4 takes bytes from the same place of the image.
    """
    return replace(compressed(name, compress, block, **options), fsck=False)


OURS = [
    Ours("default"),
    Ours("no-fingerprints", {"fingerprint": False}, fingerprint=False),
    Ours("all-xattrs", {"xattrs": "all"}, keeps=(b"",)),
    Ours("no-xattrs", {"xattrs": "none"}, keeps=(b"none",)),
    Ours("one-thread", {"threads": 1}, fsck=False),
    *(Ours(f"blocks-of-{size}", {"block_size": size}, block=size) for size in (512, 1024, 2048)),
    *(Ours(f"blocks-of-{size}", {"block_size": size}, block=size, fsck=False) for size in (8192, 65536)),
    Ours("oldest-kernel", {"target_kernel": "5.4", "fingerprint": False}, fingerprint=False),
]

ALGORITHMS = ("lz4", "lz4hc", "lzma", "deflate", "zstd")

# A quick choice of the rows of COMPRESSED, for every case and judge.
COMPRESSED = [
    compressed("zstd", "zstd"),
    compressed("zstd-alone", "zstd,level=19", cluster=4096, fragments=False),
    compressed("zstd-all-fragments", "zstd", fragments="all", dedupe=False),
    compressed("lz4", "lz4", tail_packing=True),
    compressed("lz4-blocks", "lz4", block=1024, cluster=1024, fragments=False),
    compressed("lzma", "lzma", cluster=1 << 20),
    compressed("deflate", "deflate", block=512, cluster=16384),
    boxed("metabox", "zstd", metabox=4096),
    boxed("metabox-extents", "zstd", fragments=False, target_kernel="6.18", metabox=65536),
    boxed("metabox-inline", "lz4", cluster=4096, tail_packing=True, metabox=16384),
    boxed("metabox-blocks", "deflate", block=512, cluster=16384, metabox=512, share_xattrs_above=0),
]

# Rows that store equal contents once, or contents where they are wanted.
SHARED = [
    Ours("equal-files", {"dedupe": True}),
    compressed("equal-fragments", "zstd", dedupe=True, order="similar"),
    compressed("equal-whole-fragments", "lzma", fragments="all", dedupe=True),
    compressed("equal-inline", "deflate", cluster=32768, tail_packing=True, dedupe=True),
    compressed("equal-alone", "lz4", cluster=4096, fragments=False, dedupe=True),
    compressed("equal-extents", "zstd", fragments=False, target_kernel="6.15", dedupe=True),
    Ours("chunks", {"chunk": 4096}),
    Ours("small-chunks", {"chunk": 1024, "block_size": 1024}, block=1024),
    Ours("blob", {"chunk": 65536}, blob=True),
    Ours("blobs", {"chunk": 16384}, blob=True, older=True),
    Ours("older-blob", {"chunk": 16384}, older=True),
    Ours("aligned", {"align": 65536}),
    Ours("aligned-equals", {"preset": "dax", "dedupe": True}),
]

ENDS: dict[str, dict[str, bool]] = {
    "fragments": {"fragments": True},
    "inline": {"tail_packing": True},
    "alone": {"fragments": False},
}

# Every algorithm in many sizes of clusters and blocks, with every way to keep the ends of files.
ALL_COMPRESSED = [
    compressed(f"{algorithm}-{cluster}-{ends}", algorithm, block, cluster=cluster, **ENDS[ends])
    for algorithm in ALGORITHMS
    for block in (512, 1024, 2048, 4096)
    for cluster in sorted({block, 4096, 16384, 65536, 256 * block})
    for ends in ENDS
]
