"""All judges over images that our builder made.

The first to look is our reader, then fsck.erofs, which decodes everything by code of its own, then Linux 7.2
in the virtual machine; this machine's kernel gets what all of them accept.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pyerofs
from judges import (
    Snapshot,
    as_extracted,
    as_tree,
    assert_same,
    differences,
    kernel_mount,
    of_directory,
    of_image,
)
from vm_judge import Refused, judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builders import Made, Ours
    from peers import Peers


def by_us(made: Made, builder: Ours, tree: Snapshot) -> Snapshot:
    """What our reader sees, which must be the tree."""
    with pyerofs.open(made.image, made.devices) as image:
        read = of_image(image)
    assert_same(builder.expected(tree), as_tree(read), f"our reader, {builder}")
    return read


def by_fsck(made: Made, builder: Ours, tree: Snapshot, peers: Peers, at: Path) -> None:
    """fsck.erofs, if it is asked, has nothing to say, checks the fingerprints, and extracts the tree."""
    if not builder.fsck:
        return
    devices = [f"--device={device}" for device in made.devices]
    said = peers.fsck(made.image, *devices, *(["--xattr-inode-digest"] if builder.fingerprint else []))
    # The packed inode, which is no file of the tree, has no fingerprint in mkfs.erofs' images either.
    packed = re.search(r"packed nid:\s+(\d+)", peers.dump(made.image, *devices, "-s"))
    known = f"no digest xattr for nid {packed[1]}, skipped" if packed else "nothing"
    said = "\n".join(line for line in said.splitlines() if known not in line)
    assert "<W>" not in said, f"{builder}: {said}"
    assert "<E>" not in said, f"{builder}: {said}"
    if made.devices:
        # It extracts files whose last chunk is a hole without that one, those of mkfs.erofs --blobdev too.
        peers.fsck(made.image, *devices, "--extract")
        return
    peers.fsck(made.image, f"--extract={at}", "--preserve", "--xattrs")
    expected = builder.expected(tree)
    found = as_extracted(as_tree(of_directory(at)), expected)
    assert_same(as_extracted(expected, expected), found, f"fsck --extract, {builder}")
    shutil.rmtree(at)


def by_kernels(
    builders: Sequence[Ours], images: Sequence[Made], seen: Sequence[Snapshot], peers: Peers, at: Path
) -> None:
    """Linux 7.2 and this machine's see what our reader has seen."""
    failures = []
    for builder, made, ours, newest in zip(builders, images, seen, judge(peers, images), strict=True):
        if isinstance(newest, Refused):
            failures.append(f"{builder}: Linux 7.2: {newest.error}")
        elif lines := differences(newest, ours):
            failures.append(f"{builder}: Linux 7.2: {lines}")
        else:
            with kernel_mount(made.image, at, devices=made.devices) as mounted:
                assert_same(of_directory(mounted), ours, f"this kernel, {builder}")
    assert not failures, "\n".join(failures)
