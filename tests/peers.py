"""The newest erofs-utils, erofsfuse and squashfs-tools, in a Debian sid tree of their own.

The tree is made once with debootstrap, from the mirror that this machine itself is set up to use, and kept
between runs. The programs are started through the tree's own dynamic
loader, so no chroot is entered and every path means the same to them as to us.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept import NotHereError, kept

# Python is for the virtual machine of vm.py, where this tree is the guest's root.
PACKAGES = ("erofs-utils", "erofsfuse", "squashfs-tools", "squashfuse", "fuse3", "python3")
OLDEST_ACCEPTED = (1, 9)


class NoPeersError(NotHereError):
    """The newest peers can't be had here; the message says why."""


@dataclass(frozen=True)
class Peers:
    """The programs of the tree at `root`."""

    root: Path

    def command(self, tool: str, *arguments: str | os.PathLike[str]) -> list[str]:
        """The words that start `tool` with its own libraries."""
        program = self.root / "usr/bin" / tool
        if not program.exists():
            raise NoPeersError(f"{tool} is not in {self.root}")
        loader = [str(self.root / "lib64/ld-linux-x86-64.so.2"), "--library-path"]
        loader += [f"{self.root}/usr/lib/x86_64-linux-gnu", "--argv0", tool, str(program)]
        return [*loader, *(os.fspath(argument) for argument in arguments)]

    def run(
        self, tool: str, *arguments: str | os.PathLike[str], check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `tool`; an exit status other than 0 raises AssertionError with everything it said."""
        done = subprocess.run(
            self.command(tool, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            **options,
        )
        if check and done.returncode:
            words = " ".join(os.fspath(argument) for argument in arguments)
            raise AssertionError(f"{tool} {words}\nexit status {done.returncode}\n{done.stdout}")
        return done

    def mkfs(self, image: Path, source: Path, *options: str) -> str:
        """Make an image with mkfs.erofs, with no UUID and, unless told otherwise, the files' own times."""
        return self.run("mkfs.erofs", "-Uclear", *options, image, source).stdout

    def fsck(self, image: Path, *options: str, devices: tuple[Path, ...] = ()) -> str:
        """Check an image with fsck.erofs; an error or a warning about the image raises AssertionError."""
        more = [f"--device={device}" for device in devices]
        return self.run("fsck.erofs", *more, *options, image).stdout

    def dump(self, image: Path, *options: str, devices: tuple[Path, ...] = ()) -> str:
        """What dump.erofs says of an image."""
        more = [f"--device={device}" for device in devices]
        return self.run("dump.erofs", *more, *options, image).stdout

    @functools.cached_property
    def version(self) -> tuple[int, ...]:
        """The version of erofs-utils."""
        return parse_version(self.run("mkfs.erofs", "--version").stdout)


def parse_version(text: str) -> tuple[int, ...]:
    """The first dotted number in `text`."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    if not found:
        raise NoPeersError(f"no version in {text!r}")
    return tuple(int(part) for part in found[0].split("."))


@functools.cache
def find() -> Peers:
    """The peers, made now where they are missing or older than a month.

    Raises:
        NoPeersError: they can't be had; tests that need them are skipped with its message.
    """
    peers = Peers(kept("sid", " ".join(PACKAGES), make))
    if peers.version < OLDEST_ACCEPTED:
        raise NoPeersError(f"erofs-utils {peers.version} is older than {OLDEST_ACCEPTED}")
    return peers


def make(root: Path) -> None:
    """Make the tree in the empty directory `root`."""
    if os.geteuid() != 0:
        raise NoPeersError("the newest erofs-utils are made with debootstrap, which needs root")
    program = shutil.which("debootstrap")
    if program is None:
        raise NoPeersError("debootstrap is not installed")
    command = [program, "--variant=minbase", f"--include={','.join(PACKAGES)}", "sid", str(root), mirror()]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600
        )
    except subprocess.TimeoutExpired as error:
        raise NoPeersError("debootstrap took longer than ten minutes") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise NoPeersError(f"debootstrap failed: {last[0]}")
    for left_over in ("var/cache/apt", "var/lib/apt", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(root / left_over, ignore_errors=True)


def mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in files:
        with contextlib.suppress(OSError):
            text = path.read_text()
            for pattern in (r"^URIs:\s*(\S+/debian)/?\s*$", r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+/debian)/?\s"):
                found = re.search(pattern, text, re.MULTILINE)
                if found:
                    return found[1]
    raise NoPeersError("apt's sources name no Debian mirror")
