"""How long an image takes to build."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from measure import Table, Target, alternate, timed

if TYPE_CHECKING:
    from pathlib import Path

    from corpus import Corpus
    from peers import Peers


def tables(peers: Peers, corpus: Corpus, work: Path) -> list[Table]:
    """Build the tree from a warm page cache."""
    tree = corpus.tree
    target = work / "out"
    plain = peers.command("mkfs.erofs", "--quiet", target, tree)
    words = {
        "mkfs.erofs": plain,
        "mkfs.erofs with digests": peers.command(
            "mkfs.erofs", "--quiet", "--xattr-inode-digest", target, tree
        ),
        # pyerofs returns when its image is on the disk, mkfs.erofs when it is in the page cache.
        "mkfs.erofs, then sync": ["sh", "-c", '"$@" && sync "$0"', str(target), *plain],
        "pyerofs without fingerprints": ["pyerofs", "build", "--no-fingerprint", str(tree), str(target)],
        "pyerofs": ["pyerofs", "build", str(tree), str(target)],
        "mksquashfs, uncompressed": peers.command(
            "mksquashfs", tree, target, "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"
        ),
    }

    def once(name: str) -> float:
        target.unlink(missing_ok=True)
        os.sync()
        return timed(words[name])

    once("pyerofs")
    table = Table(
        "Build an image",
        "s",
        "pyerofs build TREE IMAGE; mkfs.erofs IMAGE TREE (page cache warm)",
        targets=[
            Target("pyerofs", 1.0, "mkfs.erofs with digests"),
            Target("pyerofs without fingerprints", 1.0, "mkfs.erofs"),
        ],
    )
    alternate(table, {name: partial(once, name) for name in words})
    target.unlink(missing_ok=True)
    return [table]
