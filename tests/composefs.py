"""The tools of composefs, from Debian sid, run with the libraries of the tree of peers.py."""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import peers as peer_tools
import vm
from kept import NotHereError, kept

if TYPE_CHECKING:
    import os
    from pathlib import Path

PACKAGES = ("composefs", "libcomposefs1")


@dataclass(frozen=True)
class Composefs:
    """The programs at `root`; `peers` has the libraries."""

    root: Path
    peers: peer_tools.Peers

    def run(self, tool: str, *arguments: str | os.PathLike[str]) -> bytes:
        """What `tool` prints; a failure raises CalledProcessError."""
        libraries = ":".join(f"{root}/usr/lib/x86_64-linux-gnu" for root in (self.root, self.peers.root))
        loader = self.peers.root / "lib64/ld-linux-x86-64.so.2"
        program = self.root / "usr/bin" / tool
        words: list[str | os.PathLike[str]]
        words = [loader, "--library-path", libraries, "--argv0", tool, program, *arguments]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout


@functools.cache
def find() -> Composefs:
    """The tools, fetched now where they are missing or older than a month.

    Raises:
        NotHereError: they can't be had; tests that need them are skipped with its message.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise NotHereError(f"{program} is not installed")
    return Composefs(kept("composefs", " ".join(PACKAGES), make), peer_tools.find())


def make(place: Path) -> None:
    """Fetch the packages into the empty directory `place`."""
    work = place / "apt"
    options = vm.apt_options(work, "sid")
    vm.command("apt-get", *options, "-qq", "download", *PACKAGES, cwd=work)
    for package in work.glob("*.deb"):
        vm.command("dpkg-deb", "--extract", package, place)
    shutil.rmtree(work)
