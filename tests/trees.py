"""The trees of the table, each made once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from judges import Snapshot, of_directory

if TYPE_CHECKING:
    from pathlib import Path

    from cases import Case


class Trees:
    """Makes the tree of a case when it is first asked for, and keeps what the kernel says of it."""

    def __init__(self, disk: Path, memory: Path | None) -> None:
        self._disk = disk
        self._memory = memory
        self._made: dict[str, tuple[Path, Snapshot]] = {}

    def get(self, case: Case) -> tuple[Path, Snapshot]:
        """The tree's root and its snapshot; skips where the case can't be made here."""
        if case.root and os.geteuid() != 0:
            pytest.skip("the tree needs root")
        if case.name not in self._made:
            base = self._memory if case.memory else self._disk
            if base is None:
                pytest.skip("the tree needs a tmpfs at /dev/shm")
            root = base / case.name
            root.mkdir()
            case.make(root)
            self._made[case.name] = (root, of_directory(root))
        return self._made[case.name]
