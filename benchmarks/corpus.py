"""The tree that everything is measured on."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Corpus:
    """A tree of some 50,000 entries and 500 MB, and what to call it."""

    tree: Path
    name: str


def choose(work: Path) -> Corpus:
    """/usr/share where it is large enough, else a generated tree of the same kind."""
    tree, kind = Path("/usr/share"), "/usr/share of this machine"
    count, size = measure(tree)
    if count < 40_000 or size < 400 << 20:
        tree, kind = work / "tree", "a generated tree"
        generate(tree)
        count, size = measure(tree)
    return Corpus(tree, f"{kind}: {count} entries, {size / 1e6:.0f} MB")


def measure(tree: Path) -> tuple[int, int]:
    """Entries and bytes of regular files."""
    count, size = 0, 0
    for folder, folders, files in os.walk(tree):
        count += len(folders) + len(files)
        for name in files:
            size += os.lstat(os.path.join(folder, name)).st_size
    return count, size


def generate(tree: Path) -> None:
    """50,000 files of 12 KB on average in 4,000 directories."""
    draw = random.Random(1)
    for number in range(50_000):
        path = tree / f"{number % 40:02}" / f"{number % 4000:04}" / f"file-{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(min(int(draw.lognormvariate(8, 1.6)), 4 << 20)))
