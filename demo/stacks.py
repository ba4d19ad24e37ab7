"""The trees of the demo: Python stacks from their wheels, or, without a network, parts of this machine."""

from __future__ import annotations

import calendar
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyerofs-tests" / "wheels"
PINNED = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+) \\\n\s+--hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE
)
# The wheels are data here, so they are the same whatever runs the demo.
PLATFORM = [
    *["--only-binary=:all:", "--no-deps", "--implementation=cp", "--python-version=3.11", "--abi=cp311"],
    *["--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_27_x86_64"],
    *["--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64"],
]
FALLBACK_BYTES = 300 << 20


class NoWheelsError(Exception):
    """The wheels are neither here nor to be had."""


@dataclass(frozen=True)
class Pair:
    """Two trees that are mounted together, by name."""

    title: str
    one: str
    other: str


PAIRS = (
    Pair("minor releases apart", "older", "newer"),
    Pair("patch releases apart", "patch", "newer"),
)


def wheels(name: str) -> list[Path]:
    """The wheels of a stack, from the cache or by pip; each has the hash that the stack names.

    Raises:
        NoWheelsError: some are missing and pip can't fetch them.
    """
    listing = HERE / "stacks" / f"{name}.txt"
    wanted = {found["sha256"]: found["name"] for found in PINNED.finditer(listing.read_text())}
    CACHE.mkdir(parents=True, exist_ok=True)
    have = cached()
    if wanted.keys() - have.keys():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += [*PLATFORM, "--require-hashes", "--dest", str(CACHE), "--requirement", str(listing)]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        have = cached()
        if wanted.keys() - have.keys():
            last = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
            raise NoWheelsError(last[0])
    return [have[sha256] for sha256 in wanted]


def cached() -> dict[str, Path]:
    """The wheels in the cache by their hash."""
    found = {}
    for path in sorted(CACHE.glob("*.whl")):
        with open(path, "rb") as file:
            found[hashlib.file_digest(file, "sha256").hexdigest()] = path
    return found


def unpack(names: list[Path], target: Path) -> None:
    """Unpack wheels into one tree, with the modes and times that they record."""
    target.mkdir(parents=True)
    for name in names:
        with zipfile.ZipFile(name) as archive:
            for member in archive.infolist():
                path = Path(archive.extract(member, target))
                if member.is_dir():
                    continue
                path.chmod((member.external_attr >> 16) & 0o777 or 0o644)
                when = calendar.timegm((*member.date_time, 0, 0, 0))
                os.utime(path, (when, when))


def machine_trees(directory: Path) -> dict[str, Path]:
    """Two trees from what this machine has, that agree in part: one library, and other things beside it."""
    library = Path(os.__file__).parent
    shares = {
        "one": [library, Path("/usr/share/perl"), Path("/usr/share/doc")],
        "other": [library, Path("/usr/share/zoneinfo"), Path("/usr/share/i18n")],
    }
    trees = {}
    for name, parts in shares.items():
        target = directory / name
        left = FALLBACK_BYTES
        for part in parts:
            for folder, folders, files in os.walk(part):
                folders[:] = sorted(set(folders) - {"__pycache__", "site-packages", "dist-packages"})
                for file in sorted(files):
                    source = Path(folder, file)
                    copy = target / part.name / source.relative_to(part)
                    if source.is_file() and os.access(source, os.R_OK) and source.stat().st_size <= left:
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(source, copy)
                        left -= source.stat().st_size
        trees[name] = target
    return trees


def contents(tree: Path) -> dict[str, int]:
    """The bytes in memory of each different content in a tree: its size in whole pages, by its hash."""
    found = {}
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[digest] = -(-path.stat().st_size // 4096) * 4096
    return found


def whole(tree: Path) -> int:
    """The bytes in memory of all files of a tree, each in whole pages."""
    sizes = (path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(-(-size // 4096) * 4096 for size in sizes)
