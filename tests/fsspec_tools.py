"""What the tests of the filesystem `erofs://` share: a tree with every kind of link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 100


def make_tree(root: Path) -> Path:
    """Make files, directories and every kind of link in a new directory."""
    (root / "data/deep/er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "lines.txt").write_text("one\ntwo\nthree\n")
    (root / "data/bytes").write_bytes(CONTENT)
    (root / "data/deep/er/file.csv").write_text("a,b\n1,2\n3,4\n")
    (root / "data/.hidden").write_text("h")
    (root / "data/none").touch()
    (root / "to-file").symlink_to("data/bytes")
    (root / "to-directory").symlink_to("data")
    (root / "nowhere").symlink_to("not/there")
    (root / "data/up").symlink_to("..")
    (root / "self").symlink_to("self")
    os.mkfifo(root / "pipe")
    os.link(root / "lines.txt", root / "data/lines-too")
    for path in (root / "lines.txt", root / "data"):
        os.utime(path, ns=(1_600_000_000_250_000_000, 1_600_000_000_250_000_000))
    return root
