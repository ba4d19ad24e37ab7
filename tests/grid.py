"""The grid: one row for each set of options of mkfs.erofs, and the ways to hand it a tree."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builders import MKFS, Made, Mkfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from judges import Snapshot
    from peers import Peers

KIB = 1024
# mkfs.erofs knows six ways to make four formats.
ALGORITHMS = ("lz4", "lz4hc", "lzma", "deflate", "libdeflate", "zstd")
CLUSTERS = tuple(size * KIB for size in (4, 8, 16, 32, 64, 128, 256, 512, 1024))


@dataclass(frozen=True)
class Row(Mkfs):
    """A set of options.

    Attributes:
        quick: the row belongs to the short form of the grid.
        hints: the lines of a file for --compress-hints.
        how: makes the image, where it isn't made of a directory in one go.
        flawed: what goes wrong in mkfs.erofs or in Linux with some trees, so that it need not see the tree.
        damaged: what mkfs.erofs does to contents: the newest kernel and our reader agree on them, but neither
            with the tree nor with older kernels.
        root: the image's root is the tree's, and not one that mkfs.erofs makes up.
    """

    quick: bool = False
    hints: str = ""
    how: Callable[[Peers, Path, Path, Sequence[str]], Made] | None = None
    flawed: str = ""
    damaged: str = ""
    root: bool = True

    def comparable(self, snapshot: Snapshot) -> Snapshot:
        """A judge's snapshot, with what this way of building doesn't keep left out."""
        snapshot = super().comparable(snapshot)
        if not self.root:
            del snapshot[b""]
        if self.damaged:
            snapshot = {path: replace(one, content=None) for path, one in snapshot.items()}
        return snapshot

    def make(self, peers: Peers, source: Path, target: Path) -> Made:
        """Make the image of `source` in the directory `target`."""
        options = list(self.options)
        if self.hints:
            (target / "hints").write_text(self.hints)
            options.append(f"--compress-hints={target / 'hints'}")
        if self.how:
            return self.how(peers, source, target, options)
        return Mkfs(self.name, tuple(options), self.blobdev, self.block).make(peers, source, target)


def tar_of(source: Path, target: Path) -> Path:
    """A pax archive of a tree."""
    archive = target / "source.tar"
    command = ["tar", "--create", "--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
    subprocess.run([*command, "--sort=name", "-C", source, "-f", archive, "."], check=True)
    return archive


def of_tar(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image of a tar archive."""
    image = target / "tar.erofs"
    peers.mkfs(image, tar_of(source, target), "--tar=f", *options)
    return Made(image)


def index_of_tar(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image whose data is the archive itself."""
    image = target / "index.erofs"
    archive = tar_of(source, target)
    peers.mkfs(image, archive, "--tar=i", *options)
    return Made(image, (archive,))


def layers_of(peers: Peers, source: Path, target: Path) -> list[Path]:
    """Two plain images: one lacks files, the other has the whole tree."""
    layers = [target / "lower.erofs", target / "upper.erofs"]
    peers.mkfs(layers[0], source, "-E^inline_data", f"--exclude-regex={HALF}")
    peers.mkfs(layers[1], source, "-E^inline_data")
    return layers


def merged(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image that takes its data from two others."""
    image = target / "merged.erofs"
    lower, upper = layers_of(peers, source, target)
    peers.run("mkfs.erofs", "-Uclear", *options, image, lower, upper)
    return Made(image, (lower, upper))


def merged_whole(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image with the data of two others copied."""
    made = merged(peers, source, target, ["--clean=data", *options])
    return Made(made.image)


def in_two_steps(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image that gets the files that it lacks in a second run."""
    image = target / "incremental.erofs"
    peers.mkfs(image, source, *options, f"--exclude-regex={HALF}")
    peers.mkfs(image, source, *options, "--incremental=data")
    return Made(image)


def in_steps_by_algorithm(peers: Peers, source: Path, target: Path, options: Sequence[str]) -> Made:
    """An image with several algorithms: each run adds files with its own."""
    image = target / "steps.erofs"
    peers.mkfs(image, source, "-zlz4hc:lzma:deflate:zstd", "-C131072", *options, f"--exclude-regex={HALF}")
    for algorithm, size, left_out in (
        ("lzma", 65536, "[b-m2][^/]*$"),
        ("deflate", 4096, "[g-m3][^/]*$"),
        ("zstd", 131072, ""),
    ):
        less = [f"--exclude-regex={left_out}"] if left_out else []
        peers.mkfs(image, source, f"-z{algorithm}", f"-C{size}", *options, *less, "--incremental=data")
    return Made(image)


def words(options: str) -> tuple[str, ...]:
    """The words of a command line."""
    return tuple(options.split())


# GNU tar leaves sockets out.
NO_SOCKETS = frozenset({"corners"})
# Names of about half of the files.
HALF = "[a-m0-4][^/]*$"
# What the kernel reads in different ways, beyond the algorithm and the size of the clusters.
FEATURES = {
    "": "",
    "full-indexes": "-Elegacy-compress",
    "tail-packing": "-Eztailpacking",
    "full-indexes-tail-packing": "-Elegacy-compress,ztailpacking",
    "fragments": "-Efragments",
    "fragments-in-4k": "-Efragments=4096",
    "full-indexes-fragments": "-Elegacy-compress,fragments",
    "all-fragments": "-Eall-fragments",
    "all-fragments-no-dedupe": "-Eall-fragments,^fragdedupe",
    "all-fragments-inode-dedupe": "-Eall-fragments,fragdedupe=inode",
    "all-fragments-full-dedupe": "-Eall-fragments,fragdedupe=full",
    "tail-packing-fragments": "-Eztailpacking,fragments",
    "dedupe": "-Ededupe",
    "full-indexes-dedupe": "-Elegacy-compress,dedupe",
    "dedupe-all-fragments": "-Ededupe,all-fragments",
    "dedupe-tail-packing": "-Ededupe,ztailpacking",
    "everything": "-Eztailpacking,fragments,dedupe,dot-omitted",
    "48-bit": "-E48bit",
    "48-bit-fragments": "-E48bit,fragments",
    "48-bit-all-fragments": "-E48bit,all-fragments",
    "48-bit-dedupe": "-E48bit,dedupe",
    "48-bit-tail-packing": "-E48bit,ztailpacking",
    "48-bit-everything": "-E48bit,dedupe,fragments,ztailpacking,dot-omitted",
    "short-extents": "--max-extent-bytes={twice}",
    "48-bit-short-extents": "-E48bit --max-extent-bytes={twice}",
    "metabox": "-m4096",
    "large-metabox": "-m{size}",
    "metabox-all-fragments": "-m4096 -E48bit,all-fragments",
    "metabox-zone": "-m4096 --MZ=id",
    "zone": "--MZ=id",
    "zone-of-inodes": "--MZ=i",
    "directories": "--zD",
    "directories-inverted": "--zD=0",
    "directories-metabox": "--zD=0 -m4096",
    "directories-all-fragments": "--zD=0 -Eall-fragments",
    "dot-omitted": "-Edot-omitted",
    "blocks-of-512": "-b512",
    "blocks-of-1024-fragments": "-b1024 -Efragments",
    "blocks-of-2048-tail-packing": "-b2048 -Eztailpacking",
    "blocks-of-512-48-bit": "-b512 -E48bit,dedupe",
    "blocks-of-1024-metabox": "-b1024 -m4096",
    "all-xattrs-shared-metabox": "-x0 -m4096 --xattr-prefix=user.com.example.",
    "plain-prefixes-metabox": "-x0 -m4096 --xattr-prefix=user.com.example. -Eplain-xattr-prefixes",
    "prefixes-fragments": "-x0 -Efragments --xattr-prefix=user.com.example. --xattr-prefix=user.n",
    "digests": "--xattr-inode-digest -Eall-fragments",
}
LEVELS = {
    "lz4hc": ("0", "1", "12"),
    "lzma": (
        "0",
        "3",
        "9",
        "109",
        "6,lc=0,lp=2,pb=0",
        "6,lc=4,lp=0,pb=4",
        "6,dictsize=4096",
        "6,dictsize=1048576",
    ),
    "deflate": ("1", "5", "9", "9,dictsize=512"),
    "libdeflate": ("0", "6", "9"),
    "zstd": ("0", "1", "12", "22", "9,dictsize=4096", "9,dictsize=1048576"),
}


# Linux keeps the page that it has in hand, whichever of the two it is of; erofs-utils does likewise.
METABOX_FLAW = "Linux takes a shared xattr from the metabox where its own page has the same number there"
ZONE_FLAW = "mkfs.erofs 1.9.4 writes wrong nids where a metabox and a zone come together"
EXTENT_FLAW = "mkfs.erofs 1.9.4 makes extents of fewer bytes than they take on the disk, which Linux refuses"
SHORT_FLAW = "mkfs.erofs 1.9.4 writes clusters of no blocks, which are holes since Linux 7.2"
LZ4_FLAW = "mkfs.erofs 1.9.4 lets a cluster of LZ4 have more than 256 blocks, which Linux refuses"
# The size of the clusters, and what names look like. mkfs.erofs 1.9.4 crashes where an algorithm is named.
HINTS = r"""65536 \.txt$
16384 \.dat$
0 noise
4096 small
131072 .
"""


def flaw(feature: str, algorithm: str, size: int) -> str:
    """What is known to go wrong with a feature."""
    block = next((int(part) for part in feature.split("-") if part in ("512", "1024", "2048")), 4096)
    if algorithm.startswith("lz4") and size > 256 * block:
        return LZ4_FLAW
    if feature == "metabox-zone":
        return ZONE_FLAW
    if "metabox" in feature:
        return METABOX_FLAW
    # Such features come with encoded extents.
    return EXTENT_FLAW if algorithm == "libdeflate" and re.search("48-bit|dot-omitted", feature) else ""


def compressed() -> Iterator[Row]:
    """Every feature with all algorithms, and the sizes of clusters in turn."""
    for number, (feature, options) in enumerate(FEATURES.items()):
        for which, algorithm in enumerate(ALGORITHMS):
            size = CLUSTERS[(number + 4 * which) % len(CLUSTERS)]
            name = "-".join(filter(None, (algorithm, f"{size // KIB}k", feature)))
            line = f"-z{algorithm} -C{size} {options.format(size=size, twice=2 * size)}"
            yield Row(
                name,
                words(line),
                quick=number % len(ALGORITHMS) == which,
                flawed=flaw(feature, algorithm, size),
            )
    for algorithm, levels in LEVELS.items():
        for level in levels:
            name = f"{algorithm}-level-{level}".replace(",", "-").replace("=", "")
            yield Row(name, words(f"-z{algorithm},level={level} -C65536"))


STEPS = [
    Row(f"steps-{name}", words(options), how=in_steps_by_algorithm, quick=True)
    for name, options in (
        ("plain", ""),
        ("full-indexes", "-Elegacy-compress"),
        ("fragments", "-Efragments,ztailpacking"),
        ("48-bit", "-E48bit,dedupe"),
    )
]
OTHER = [
    Row("hints", ("-zlz4hc", "-C131072"), quick=True, hints=HINTS),
    Row("hints-48-bit", ("-zzstd", "-C131072", "-E48bit,fragments"), quick=True, hints=HINTS),
    Row("extents-of-12k", ("-zzstd", "-C524288", "--max-extent-bytes=12288"), damaged=SHORT_FLAW),
    Row("metabox-of-another-algorithm", ("-zlz4hc:zstd", "-m4096:zstd"), quick=True, flawed=METABOX_FLAW),
    Row("chunks-deduplicated", ("-Ededupe",), quick=True),
    Row("chunks-of-64k", ("--chunksize=65536",)),
    Row("tar", how=of_tar, quick=True, cannot=NO_SOCKETS),
    Row("tar-compressed", ("-zzstd", "-C65536", "-Efragments"), how=of_tar, cannot=NO_SOCKETS),
    Row("tar-index", how=index_of_tar, block=512, quick=True, cannot=NO_SOCKETS),
    Row("tar-unsorted", ("--sort=none", "-E^inline_data"), how=of_tar, cannot=NO_SOCKETS),
    Row("merged", how=merged, root=False, quick=True),
    Row("merged-whole", how=merged_whole, root=False, quick=True),
    Row("merged-whole-compressed", ("-zlz4hc", "-C16384"), how=merged_whole, root=False),
    Row("incremental", how=in_two_steps, quick=True),
    Row("incremental-compressed", ("-zlz4hc", "-C32768"), how=in_two_steps, quick=True),
    Row("incremental-fragments", ("-zlzma", "-C32768", "-Efragments"), how=in_two_steps),
]
GRID: list[Mkfs] = [*compressed(), *STEPS, *OTHER, *MKFS]
