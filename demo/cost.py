"""What reading through mounts costs: seconds, and page cache.

Page cache is told in two ways. It is counted, file by file: the images', and the domain's objects' or,
where there is no domain, the mounted files' own. And it is what the whole machine's `Cached` grows by,
which would show pages that the count forgets, but also all that the machine does meanwhile; so that
comes with its drift, which is what it changes by while everything is read once more. A measurement that
drifts is repeated, and the steadiest one is taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ordinary_user import OrdinaryUser

TRIES = 5
CACHESTAT = 451
STEADY = 0.03


@dataclass(frozen=True)
class Mounted:
    """One `pyerofs run`: the images, and the domain that they are mounted in."""

    images: Sequence[Path]
    domain: str | None = None


@dataclass(frozen=True)
class Reading:
    """What one reader cost in seconds, the kinds of its mounts, and the bytes of their files in memory."""

    mount: float
    read: float
    kinds: list[str]
    resident: float


@dataclass(frozen=True)
class Cost:
    """What several readers at once cost together, in bytes of page cache: counted, and by `Cached`."""

    readings: list[Reading]
    counted: float
    cached: float
    drift: float


class Reader:
    """A process inside the mounts that has read every file, and stays until it is closed."""

    def __init__(self, user: OrdinaryUser, mounted: Mounted) -> None:
        started = time.monotonic()
        words: list[str | Path] = ["pyerofs", "run", *mounted.images]
        words += ["--domain", mounted.domain] if mounted.domain else []
        words += ["--", user.python, user.directory / "demo/reader.py"]
        # That a domain was made is no news here; why a reader failed is.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipe = subprocess.PIPE
        self._process = user.popen(words, stdin=pipe, stdout=pipe, stderr=self._said, text=True)
        said = self._line()
        self.reading = Reading(said["started"] - started, said["read"], said["kinds"], said["resident"])

    def ask(self, word: str) -> Any:
        """Have it do something, and return what it says."""
        if self._process.stdin:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Let it and its mounts go."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate("\n", timeout=60)
        self._said.close()

    def _line(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            status = self._process.wait()
            self._said.seek(0)
            raise SystemExit(f"the reader failed with exit status {status}\n{self._said.read()}")
        return json.loads(line)


@contextlib.contextmanager
def reading(user: OrdinaryUser, *mounts: Mounted) -> Iterator[tuple[list[Reader], Cost]]:
    """From an empty page cache, start a reader in each of `mounts`, one after the other."""
    empty_page_cache(user)
    before = cached_bytes()
    with contextlib.ExitStack() as stack:
        readers = []
        for mounted in mounts:
            reader = Reader(user, mounted)
            stack.callback(reader.close)
            readers.append(reader)
        after = cached_bytes()
        counted = sum(reader.reading.resident for reader in readers) + objects(user, mounts)
        counted += sum(resident(image) for image in {image for mounted in mounts for image in mounted.images})
        for reader in readers:
            reader.ask("again")
        drift = abs(cached_bytes() - after)
        yield readers, Cost([reader.reading for reader in readers], counted, after - before, drift)


def steadiest(user: OrdinaryUser, mounts: Callable[[int], list[Mounted]]) -> tuple[int, Cost]:
    """Read what `mounts` gives for each try, until one is steady; the best try and its cost."""
    best: tuple[int, Cost] | None = None
    for attempt in range(TRIES):
        with reading(user, *mounts(attempt)) as (_readers, cost):
            if best is None or cost.drift < best[1].drift:
                best = attempt, cost
        if cost.drift < STEADY * abs(cost.cached):
            break
    if best is None:
        raise ValueError("no try was made")
    return best


def objects(user: OrdinaryUser, mounts: Sequence[Mounted]) -> int:
    """The bytes in memory of the objects of every domain that is mounted."""
    total = 0
    for domain in {mounted.domain for mounted in mounts if mounted.domain}:
        total += int(stat_of(user, domain)["resident_bytes"])
    return total


def stat_of(user: OrdinaryUser, domain: str) -> dict[str, Any]:
    """What `pyerofs domain stat` says of a domain."""
    command = ["pyerofs", "domain", "stat", "--json", domain]
    done = user.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def resident(path: str | Path) -> int:
    """The bytes of a file that are in memory, by cachestat(2); 0 where the kernel doesn't tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    whole = (ctypes.c_uint64 * 2)(0, 0)
    counts = (ctypes.c_uint64 * 5)()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syscall(CACHESTAT, descriptor, whole, counts, 0):
            return 0
    finally:
        os.close(descriptor)
    return int(counts[0]) * mmap.PAGESIZE


def empty_page_cache(user: OrdinaryUser) -> None:
    """Let nothing of the trees, the images or the objects lie in the page cache."""
    os.sync()
    if os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return
    for path in user.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError), open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_bytes() -> int:
    """The page cache of the whole machine."""
    for row in Path("/proc/meminfo").read_text().splitlines():
        if row.startswith("Cached:"):
            return int(row.split()[1]) * 1024
    raise SystemExit("/proc/meminfo names no Cached")
