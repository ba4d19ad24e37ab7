"""Alternating measurements and the tables of their medians."""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROUNDS = max(1, int(os.environ.get("BENCH_ROUNDS", "5")))


@dataclass
class Target:
    """What one row of a table is measured against: at most `factor` times another row."""

    row: str
    factor: float
    against: str

    def verdict(self, table: Table) -> str:
        """Whether it was met, in words."""
        if self.row not in table.values or self.against not in table.values:
            return f"not measured: {self.row} against {self.against}"
        ratio = table.median(self.row) / table.median(self.against)
        return (
            f"{'met' if ratio <= self.factor else 'MISSED'}: {self.row} takes {ratio:.2f} x {self.against}, "
            f"target at most {self.factor:.4g} x"
        )


@dataclass
class Bound:
    """What one row of a table is measured against: at least, or at most, a value of its own unit."""

    row: str
    least: float | None = None
    most: float | None = None

    def verdict(self, table: Table) -> str:
        """Whether it was met, in words."""
        if self.row not in table.values:
            return f"not measured: {self.row}"
        value = table.median(self.row)
        met = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        limits = [("least", self.least), ("most", self.most)]
        target = " and ".join(f"at {word} {shown(limit)}" for word, limit in limits if limit is not None)
        return f"{'met' if met else 'MISSED'}: {self.row} {shown(value)} {table.unit}, target {target}"


@dataclass
class Table:
    """One measurement: the values of each row in each round, and what they should be.

    `most_first`: more is better, as with a rate.
    """

    title: str
    unit: str
    command: str
    values: dict[str, list[float]] = field(default_factory=dict)
    targets: Sequence[Target | Bound] = ()
    most_first: bool = False

    def median(self, row: str) -> float:
        """The median of a row."""
        return statistics.median(self.values[row])

    def verdicts(self) -> list[str]:
        """For each target whether it was met, in words."""
        return [target.verdict(self) for target in self.targets]

    def markdown(self) -> str:
        """The table, the best row first."""
        lines = [
            f"## {self.title}",
            "",
            f"`{self.command}`",
            "",
            f"| | median {self.unit} | all |",
            "|---|---:|---|",
        ]
        for row in sorted(self.values, key=self.median, reverse=self.most_first):
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


def timed(words: list[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - started


def weighed(words: list[str]) -> tuple[float, int]:
    """Seconds that a command takes, and the most memory that its own process had, in bytes.

    It is looked at every few milliseconds: what the system tells afterwards counts that of the starter too.
    """
    started = time.perf_counter()
    peak = 0
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        end = os.pidfd_open(process.pid)
        try:
            while not select.select([end], [], [], 0.02)[0]:
                peak = max(peak, high_water(process.pid))
        finally:
            os.close(end)
        seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return seconds, peak


def high_water(pid: int) -> int:
    """The most memory that a process has had so far, in bytes; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


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
