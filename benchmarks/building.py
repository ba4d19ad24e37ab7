"""How long images take to build, how large they are, and how much memory that takes."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from extracting import roomy
from measure import Table, Target, alternate, weighed
from stacks import CACHE as WHEELS

if TYPE_CHECKING:
    from corpus import Corpus
    from peers import Peers

OURS, THEIRS, SQUASH = "pyerofs", "mkfs.erofs", "mksquashfs"
#: What mkfs.erofs does with both threads; with -Ededupe it has one.
THEIRS_FAST = "mkfs.erofs without dedupe"
WITH_DIGESTS = "mkfs.erofs with digests"
WITH_FINGERPRINTS = "pyerofs with fingerprints"
#: Two threads each. What is measured are builds that do the same: no fingerprints, no digest for the UUID.
BUILD = ("pyerofs", "build", "--force", "--quiet", "--threads", "2")
BARE = ("--no-fingerprint", "--uuid", "clear")
MKFS = ("--quiet", "-Uclear", "--workers=2")
MKSQUASHFS = ("-quiet", "-no-progress", "-noappend", "-processors", "2")


@dataclass(frozen=True)
class Setting:
    """One way to compress, in the words of each program, and what is to be reached against mkfs.erofs."""

    name: str
    method: str
    time: float
    size: float
    squash: tuple[str, ...] = ()
    #: It takes minutes, so only what the target names is measured.
    is_slow: bool = False

    def ours(self) -> tuple[str, ...]:
        """The options of pyerofs build."""
        return ("--compress", self.method, "--cluster", "64k", "--dedupe", "--target-kernel", "6.12")

    def mkfs(self, extended: str = "fragments,dedupe") -> tuple[str, ...]:
        """The options of mkfs.erofs."""
        return (f"-z{self.method}", "-C65536", f"-E{extended}")


SETTINGS = (
    Setting("Zstandard 3", "zstd,level=3", 0.1, 1.0, ("-comp", "zstd", "-Xcompression-level", "3")),
    Setting("LZ4", "lz4", 0.5, 1.005),
    Setting("LZ4HC 9", "lz4hc,level=9", 0.5, 1.005),
    Setting("LZMA 6", "lzma,level=6", 0.7, 1.0, is_slow=True),
)


class Builders:
    """Runs the builders on trees, and keeps what each run took."""

    def __init__(self, peers: Peers, place: Path) -> None:
        self._peers = peers
        self._image = place / "image"
        self.memory = Table("Peak memory of building", "MB", "VmHWM of the processes measured here")

    def ours(self, tree: Path, *options: str) -> list[str]:
        """The words of pyerofs build."""
        return [*BUILD, *options, str(tree), str(self._image)]

    def mkfs(self, tree: Path, *options: str) -> list[str]:
        """The words of mkfs.erofs."""
        return self._peers.command("mkfs.erofs", *MKFS, *options, self._image, tree)

    def squash(self, tree: Path, *options: str) -> list[str]:
        """The words of mksquashfs."""
        return self._peers.command("mksquashfs", tree, self._image, *MKSQUASHFS, *options)

    def compare(self, title: str, ways: dict[str, list[str]], command: str) -> tuple[Table, Table]:
        """Run all ways in turn; returns the tables of seconds and of bytes."""
        print(f"  {title}", flush=True)
        times = Table(title, "s", command)
        sizes = Table(f"{title}: size", "bytes", command)

        def once(name: str) -> float:
            self._image.unlink(missing_ok=True)
            os.sync()
            seconds, peak = weighed(ways[name])
            sizes.values.setdefault(name, []).append(self._image.stat().st_size)
            self.memory.values.setdefault(f"{name}: {title}", []).append(peak / 1e6)
            return seconds

        alternate(times, {name: partial(once, name) for name in ways})
        self._image.unlink(missing_ok=True)
        return times, sizes


def tables(peers: Peers, corpus: Corpus, work: Path) -> list[Table]:
    """Build the tree from a warm page cache, plain and in all ways to compress, and versions of a tree."""
    with tempfile.TemporaryDirectory(prefix="pyerofs-bench-", dir=roomy(work)) as place:
        builders = Builders(peers, Path(place))
        weighed(builders.ours(corpus.tree))
        made = plain(builders, corpus.tree)
        for setting in SETTINGS:
            made += compressed(builders, corpus.tree, setting)
        made += versions(builders, Path(place))
    return [*made, builders.memory]


def plain(builders: Builders, tree: Path) -> list[Table]:
    """Images whose contents are stored as they are."""
    ways = {
        THEIRS: builders.mkfs(tree),
        WITH_DIGESTS: builders.mkfs(tree, "--xattr-inode-digest=trusted.erofs.fingerprint"),
        OURS: builders.ours(tree, *BARE),
        WITH_FINGERPRINTS: builders.ours(tree),
        SQUASH: builders.squash(tree, "-noI", "-noD", "-noF", "-noX"),
    }
    times, sizes = builders.compare("Build a plain image", ways, "page cache warm, two threads")
    times.targets = [Target(OURS, 0.6, THEIRS), Target(WITH_FINGERPRINTS, 1.0, WITH_DIGESTS)]
    return [times, sizes]


def compressed(builders: Builders, tree: Path, setting: Setting) -> list[Table]:
    """Images in one way to compress, with fragments and equal contents stored once."""
    ways = {
        THEIRS: builders.mkfs(tree, *setting.mkfs()),
        OURS: builders.ours(tree, *BARE, *setting.ours()),
    }
    if not setting.is_slow:
        ways[THEIRS_FAST] = builders.mkfs(tree, *setting.mkfs("fragments"))
        ways[WITH_FINGERPRINTS] = builders.ours(tree, *setting.ours())
    if setting.squash:
        ways[SQUASH] = builders.squash(tree, *setting.squash)
    command = f"pyerofs build {' '.join(setting.ours())}; mkfs.erofs {' '.join(setting.mkfs())}"
    times, sizes = builders.compare(f"Build with {setting.name}, clusters of 64 KiB", ways, command)
    times.targets = [Target(OURS, setting.time, THEIRS)]
    sizes.targets = [Target(OURS, setting.size, THEIRS)]
    if setting.squash:
        times.targets = [*times.targets, Target(OURS, 1.0, SQUASH)]
        sizes.targets = [*sizes.targets, Target(OURS, 1.0, SQUASH)]
    return [times, sizes]


def versions(builders: Builders, place: Path) -> list[Table]:
    """Three versions of a tree in one image; of NumPy, if the demo has fetched them."""
    wheels = sorted(WHEELS.glob("numpy-*.whl"))[-3:]
    if len(wheels) < 3:
        print("left out: versions of a tree: `make demo` fetches those of NumPy")
        return []
    tree = place / "versions"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tree / wheel.name.split("-")[1])
    setting = SETTINGS[0]
    ways = {
        THEIRS: builders.mkfs(tree, *setting.mkfs()),
        OURS: builders.ours(tree, *BARE, *setting.ours()),
        SQUASH: builders.squash(tree, *setting.squash),
    }
    title = "Build an image of three versions of NumPy with Zstandard 3"
    times, sizes = builders.compare(title, ways, "mkfs.erofs with -Efragments,dedupe; pyerofs with --dedupe")
    sizes.targets = [Target(OURS, 1.0, THEIRS), Target(OURS, 1.0, SQUASH)]
    shutil.rmtree(tree)
    return [times, sizes]
