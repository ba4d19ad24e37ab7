"""Read every file below the current directory; started by the demo inside the mounts, as an ordinary user.

Prints one JSON line when all is read, then waits for lines, so that the mounts live until the page cache was
looked at: "again" reads everything once more, "check" prints what is seen of each file, an empty
line ends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from cost import resident

BUFFER = bytearray(1 << 20)


def files() -> list[str]:
    """Every regular file, in the order of the directories."""
    return [
        os.path.join(folder, name)
        for folder, _folders, names in os.walk(".")
        for name in names
        if not os.path.islink(os.path.join(folder, name))
    ]


def read_all(paths: list[str]) -> int:
    """Read every file with read(2); the number of bytes."""
    total = 0
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while got := os.readv(descriptor, [BUFFER]):
                total += got
        finally:
            os.close(descriptor)
    return total


def each_once(paths: list[str]) -> list[str]:
    """One name of each inode."""
    inodes = {}
    for path in paths:
        about = os.stat(path)
        inodes[about.st_dev, about.st_ino] = path
    return list(inodes.values())


def seen(paths: list[str]) -> dict[str, list[object]]:
    """Mode, size, time and digest of every file."""
    found: dict[str, list[object]] = {}
    for path in paths:
        about = Path(path).stat()
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[os.path.relpath(path)] = [about.st_mode, about.st_size, about.st_mtime_ns, digest]
    return found


def main() -> None:
    """See the module."""
    started = time.monotonic()
    paths = files()
    total = read_all(paths)
    ended = time.monotonic()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    here = os.getcwd()
    kinds = sorted({line.split(" - ")[1].split()[0] for line in mounts if line.split()[4].startswith(here)})
    # Through overlayfs these are 0: the pages belong to the domain's objects.
    own = 0 if "overlay" in kinds else sum(resident(path) for path in each_once(paths))
    report = {"resident": own, "started": started, "read": ended - started, "bytes": total, "kinds": kinds}
    print(json.dumps(report), flush=True)
    while word := sys.stdin.readline().strip():
        print(json.dumps(seen(paths) if word == "check" else read_all(paths)), flush=True)


if __name__ == "__main__":
    main()
