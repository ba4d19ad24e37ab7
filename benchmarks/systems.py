"""The ways to look into an image that are measured side by side, each with a shell at its root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import judges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peers import Peers


class Shell:
    """A shell that stays where it is and times what it is told to do."""

    def __init__(self, words: Sequence[str | Path], directory: Path | None = None) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        self._process = subprocess.Popen(
            [os.fspath(word) for word in words],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: str) -> list[str]:
        """Run a command and return its lines; it must succeed."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the shell has no pipes")
        self._process.stdin.write(f"{command}\necho; echo end $?\n")
        self._process.stdin.flush()
        lines = []
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"the shell ended during: {command}")
            if line.startswith("end "):
                break
            lines.append(line.rstrip("\n"))
        if line != "end 0\n":
            raise RuntimeError(f"{command}: exit status {line[4:].strip()}")
        return [line for line in lines if line]

    def seconds(self, command: str) -> float:
        """The time that a command takes, by the shell's own clock."""
        said = self.tell(f"s=$EPOCHREALTIME; {command}; r=$?; e=$EPOCHREALTIME; echo $s $e; (exit $r)")
        started, ended = said[-1].split()
        return float(ended) - float(started)

    def close(self) -> None:
        """Let the shell go."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=60)


@dataclass
class System:
    """One way: `enter` makes it ready and gives a shell at its root."""

    name: str
    enter: Callable[[Path], contextlib.AbstractContextManager[Shell]]
    shell: Shell | None = field(default=None, repr=False)

    def tell(self, command: str) -> list[str]:
        """Run a command at the root."""
        if self.shell is None:
            raise RuntimeError(f"{self.name} is not mounted")
        return self.shell.tell(command)

    def seconds(self, command: str) -> float:
        """Time a command at the root."""
        if self.shell is None:
            raise RuntimeError(f"{self.name} is not mounted")
        return self.shell.seconds(command)


@contextlib.contextmanager
def standing(directory: Path) -> Iterator[Shell]:
    """A shell in a directory of this namespace."""
    shell = Shell(["bash"], directory)
    try:
        yield shell
    finally:
        shell.close()


def plain(name: str, tree: Path) -> System:
    """The tree itself."""
    return System(name, lambda _at: standing(tree))


def overlay(name: str, tree: Path) -> System:
    """An overlay of plain directories: the tree below an empty one."""

    @contextlib.contextmanager
    def enter(at: Path) -> Iterator[Shell]:
        empty = at.with_name(f"{at.name}-empty")
        empty.mkdir(exist_ok=True)
        at.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={empty}:{tree}", "none", at], check=True)
        try:
            with standing(at) as shell:
                yield shell
        finally:
            judges.unmount(at)

    return System(name, enter)


def kernel(name: str, image: Path, *devices: Path) -> System:
    """The kernel's own EROFS; `devices` are those that the image names."""

    @contextlib.contextmanager
    def enter(at: Path) -> Iterator[Shell]:
        with judges.kernel_mount(image, at, devices=devices), standing(at) as shell:
            yield shell

    return System(name, enter)


def squashfs(name: str, image: Path) -> System:
    """The kernel's squashfs, over a loop device."""

    @contextlib.contextmanager
    def enter(at: Path) -> Iterator[Shell]:
        at.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", image, at], check=True)
        try:
            with standing(at) as shell:
                yield shell
        finally:
            judges.unmount(at)

    return System(name, enter)


def fuse_peer(name: str, peers: Peers, tool: str, image: Path) -> System:
    """Another FUSE filesystem of the peers: erofsfuse or squashfuse."""

    @contextlib.contextmanager
    def enter(at: Path) -> Iterator[Shell]:
        at.mkdir(exist_ok=True)
        peers.run(tool, image, at)
        try:
            with standing(at) as shell:
                yield shell
        finally:
            judges.unmount(at)

    return System(name, enter)


def mounted(name: str, image: Path, *options: str) -> System:
    """`pyerofs mount`, with these options."""

    @contextlib.contextmanager
    def enter(at: Path) -> Iterator[Shell]:
        at.mkdir(exist_ok=True)
        subprocess.run(["pyerofs", "mount", *options, image, at], check=True)
        try:
            with standing(at) as shell:
                yield shell
        finally:
            subprocess.run(["pyerofs", "umount", at], check=True)

    return System(name, enter)


def running(name: str, image: Path, *options: str) -> System:
    """A shell under `pyerofs run`, with these options."""

    @contextlib.contextmanager
    def enter(_at: Path) -> Iterator[Shell]:
        shell = Shell(["pyerofs", "run", *options, image, "--", "bash"])
        try:
            yield shell
        finally:
            shell.close()

    return System(name, enter)


@contextlib.contextmanager
def ready(systems: Sequence[System], directory: Path) -> Iterator[list[System]]:
    """Enter every system; one that can't be had here is named and left out."""
    with contextlib.ExitStack() as stack:
        entered = []
        for number, system in enumerate(systems):
            try:
                system.shell = stack.enter_context(system.enter(directory / f"mnt{number}"))
                system.tell("true")
            except (OSError, RuntimeError, AssertionError, subprocess.CalledProcessError) as error:
                print(f"left out: {system.name}: {str(error).splitlines()[0]}")
                continue
            entered.append(system)
        yield entered
