"""Alternating measurements and the tables of their medians."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS = max(1, int(os.environ.get("BENCH_ROUNDS", "5")))


@dataclass
class Target:
    """What one row of a table is measured against: at most `factor` times another row."""

    row: str
    factor: float
    against: str


@dataclass
class Table:
    """One measurement: the values of each row in each round, and what they should be."""

    title: str
    unit: str
    command: str
    values: dict[str, list[float]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def median(self, row: str) -> float:
        """The median of a row."""
        return statistics.median(self.values[row])

    def verdicts(self) -> list[str]:
        """For each target whether it was met, in words."""
        said = []
        for target in self.targets:
            if target.row not in self.values or target.against not in self.values:
                said.append(f"not measured: {target.row} against {target.against}")
                continue
            ratio = self.median(target.row) / self.median(target.against)
            verdict = "met" if ratio <= target.factor else "MISSED"
            said.append(
                f"{verdict}: {target.row} takes {ratio:.2f} x {target.against}, "
                f"target at most {target.factor:.2g} x"
            )
        return said

    def markdown(self) -> str:
        """The table, fastest first."""
        lines = [
            f"## {self.title}",
            "",
            f"`{self.command}`",
            "",
            f"| | median {self.unit} | all |",
            "|---|---:|---|",
        ]
        for row in sorted(self.values, key=self.median):
            each = ", ".join(shown(value) for value in self.values[row])
            lines.append(f"| {row} | {shown(self.median(row))} | {each} |")
        lines += ["", *(f"- {verdict}" for verdict in self.verdicts()), ""]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The table for machines."""
        return {
            "title": self.title,
            "unit": self.unit,
            "command": self.command,
            "values": self.values,
            "medians": {row: self.median(row) for row in self.values},
            "verdicts": self.verdicts(),
        }


def shown(value: float) -> str:
    """A number with as many digits as it deserves."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.2f}"


def alternate(table: Table, ways: Mapping[str, Callable[[], float]], *, rounds: int = ROUNDS) -> Table:
    """Measure every way once in each round; the order turns so that none always follows the same one."""
    names = list(ways)
    for turn in range(rounds):
        shift = turn % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            table.values.setdefault(name, []).append(ways[name]())
    return table


def drop_caches() -> None:
    """Empty the page cache and the caches of names and inodes."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def meminfo(name: str) -> int:
    """A line of /proc/meminfo in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
