"""Millions of small files: whether time is in proportion to them, and memory within its bounds.

The files are made with random contents from a seed, in a filesystem of 1 KiB blocks of their own. That takes
ten minutes and 8 GB of disk, so the group is measured only when it is named.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

from building import BARE, BUILD
from judges import unmount
from measure import Bound, Table, Target, weighed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus import Corpus
    from peers import Peers

MILLIONS = (0.5, 1.0, 2.0, 5.0)
IN_A_DIRECTORY = 250
MOST_BYTES = 1000
#: MB that a build may take, whatever the number of files.
MOST_MEMORY = 1500
MODES = {"plain": (), "Zstandard": ("--compress", "zstd", "--dedupe", "--target-kernel", "6.12")}


def tables(_peers: Peers, _corpus: Corpus, work: Path) -> list[Table]:
    """Build images of more and more files."""
    command = f"pyerofs build of files of up to {MOST_BYTES} random bytes, {IN_A_DIRECTORY} in a directory"
    times = Table("Build from millions of small files", "us per file", command)
    memory = Table("Peak memory with millions of small files", "MB", command)
    with small_blocks(work) as root:
        made = 0
        for millions in MILLIONS:
            count = int(millions * 1e6)
            print(f"  {millions} million files", flush=True)
            generate(root, made, count)
            made = count
            for mode, options in MODES.items():
                # The first run warms the caches, as far as they hold the tree.
                for _ in range(2):
                    image = work / "image"
                    seconds, peak = weighed([*BUILD, *BARE, *options, str(root), str(image)])
                    image.unlink()
                row = f"{mode}, {millions} million"
                times.values[row] = [seconds / count * 1e6]
                memory.values[row] = [peak / 1e6]
    few, many = MILLIONS[0], MILLIONS[-1]
    times.targets = [Target(f"{mode}, {many} million", 1.2, f"{mode}, {few} million") for mode in MODES]
    memory.targets = [Bound(row, most=MOST_MEMORY) for row in memory.values]
    return [times, memory]


@contextlib.contextmanager
def small_blocks(work: Path) -> Iterator[Path]:
    """A filesystem with blocks of 1 KiB and enough inodes, in a file."""
    disk, root = work / "millions.ext4", work / "millions"
    with open(disk, "wb") as file:
        file.truncate(10 << 30)
    inodes = str(int(MILLIONS[-1] * 1.05e6))
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", "-m", "0", "-N", inodes, disk], check=True)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop,noatime", disk, root], check=True)
    try:
        yield root
    finally:
        unmount(root)
        disk.unlink()


def generate(root: Path, first: int, end: int) -> None:
    """Make the files with the numbers from `first` to before `end`."""
    draw = random.Random(first)
    for number in range(first, end):
        group, place = divmod(number, IN_A_DIRECTORY)
        directory = root / f"{group // 200:03}" / f"{group % 200:03}"
        if not place:
            directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / f"file-{place:03}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(handle, draw.randbytes(draw.randrange(1, MOST_BYTES)))
        os.close(handle)
