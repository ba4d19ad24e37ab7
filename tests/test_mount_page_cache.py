"""Two mounts of one domain: equal files fill the page cache once."""

from __future__ import annotations

import itertools
import mmap
import os
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import (
    SHARING,
    Backend,
    Ground,
    daemons,
    named,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]


def cached() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Cached:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Cached in /proc/meminfo")


def by_read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def by_mmap(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        for place in range(0, len(view), 4096):
            view[place]


def by_splice(path: Path) -> None:
    # sendfile is splice through a pipe of the kernel's own.
    with path.open("rb") as file, open(os.devnull, "wb") as sink:
        place = 0
        while sent := os.sendfile(sink.fileno(), file.fileno(), place, 1 << 20):
            place += sent


def resident(path: Path) -> int:
    """How many bytes of a file are in the page cache."""
    words = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def forget(*paths: Path) -> None:
    """Write files out and drop their pages."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("read", [by_read, by_mmap, by_splice])
@pytest.mark.parametrize("backend", SHARING, ids=named)
def test_reading_one_file_through_two_mounts_fills_the_page_cache_once(
    ground: Ground, backend: Backend, read: Callable[[Path], None]
) -> None:
    # Files that become objects while their opener waits; larger ones would be served unshared at first.
    generator = random.Random(7)
    same = {f"same/{number}": generator.randbytes(1 << 20) for number in range(48)}
    size = 48 << 20
    one = ground.image("one", {**same, "own": b"1"})
    two = ground.image("two", {**{f"else/{name}": content for name, content in same.items()}, "own": b"2"})
    # The machine does other things meanwhile. Pages of our own files are counted one by one; `Cached` has to
    # agree in one of several tries, and a try counts only if reading a third time adds as little as it must.
    margin = size // 4
    quiet = []
    for left in reversed(range(6)):
        domain = f"domain{left}"
        forget(one, two)
        with (
            pyerofs.mount(one, domain=domain, backend=backend.name) as first,
            pyerofs.mount(two, domain=domain, backend=backend.name) as second,
        ):
            marks = [cached()]
            for root in (first.path, second.path / "else", second.path / "else"):
                for name in same:
                    read(root / name)
                marks.append(cached())
            found = pyerofs.Domain(domain).stat()
            blobs = resident(one) + resident(two)
        assert found.saved_resident_bytes is not None
        assert found.saved_resident_bytes > size - margin
        assert found.saved_bytes > size - margin
        assert found.resident_bytes is not None
        assert found.resident_bytes + blobs < size + margin
        grown = [after - before for before, after in itertools.pairwise(marks)]
        if abs(grown[2]) < margin // 2:
            quiet.append(grown)
            if abs(grown[0] - size) < margin and abs(grown[1]) < margin:
                return
        assert wait_until(lambda: not daemons(ground.runtime))
        pyerofs.Domain(domain).remove()
    assert not quiet, f"reading {size} bytes twice added {quiet}"
    pytest.skip("too much else happens in this machine's page cache to see ours in it")
