"""`make demo`: two Python stacks, mounted without root, sharing one page cache; and what that saves.

Run by root it makes itself an ordinary user, who does everything but three things: fetching the wheels,
emptying the page cache before each measurement, and the last comparison, in which the kernel mounts the
images itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import judges
import picture
import stacks
from cost import Cost, Mounted, reading, stat_of, steadiest
from ordinary_user import OrdinaryUser, ordinary_user

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "target" / "demo"
MB = 1e6
SHOWN = ("objects", "bytes", "resident_bytes", "saved_bytes", "saved_resident_bytes")


@dataclass
class Result:
    """All that is known of one pair; bytes, and seconds."""

    title: str
    total: float
    unique: float
    build: float
    alone: Cost
    apart: Cost
    shared: Cost
    again: Cost
    domain: dict[str, Any] = field(default_factory=dict)

    @property
    def saved(self) -> float:
        """The part of the page cache that sharing saves, against a domain for each image."""
        return 1 - self.shared.counted / self.apart.counted

    @property
    def bound(self) -> float:
        """The part that sharing whole files of equal content could save at most."""
        return 1 - self.unique / self.total


def main() -> int:
    """Run the demo and return its exit status."""
    with ordinary_user() as user:
        problem = why_not(user)
        if problem:
            print(f"This machine can't share a page cache without root: {problem}")
            print("What it can do:\n", flush=True)
            user.run(["pyerofs", "probe"], check=False)
            return 0
        who = f"an ordinary user (uid {user.uid})" if os.geteuid() == 0 else "you"
        print(f"This machine can share a page cache without root. From here on {who} does the work.\n")
        shutil.copytree(HERE, user.directory / "demo", ignore=shutil.ignore_patterns("__pycache__"))
        pairs, trees = make_trees(user)
        images, seconds = build(user, trees)
        results = [measure(user, pair, trees, images, seconds) for pair in pairs]
        check_kernel(user, trees, images)
        report(results)
    return 0


def why_not(user: OrdinaryUser) -> str | None:
    """Why the overlay back end can't be had by this user; None where it can."""
    user.run(
        ["sh", "-c", "mkdir probe && echo works >probe/file && pyerofs build probe probe.erofs"], **QUIET
    )
    command = [
        "pyerofs",
        "run",
        "--domain",
        "probe",
        "--backend",
        "overlay",
        "probe.erofs",
        "--",
        "cat",
        "file",
    ]
    done = user.run(command, env={"PYEROFS_STATE": str(user.home / "probe-state")}, check=False, **SPEAKING)
    if done.returncode == 0 and done.stdout == "works\n":
        return None
    said: list[str] = done.stderr.strip().splitlines()
    return said[-1] if said else f"exit status {done.returncode}"


QUIET: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
SPEAKING: dict[str, Any] = {"capture_output": True, "text": True}


def make_trees(user: OrdinaryUser) -> tuple[list[stacks.Pair], dict[str, Path]]:
    """The trees in the user's home, from the wheels or, without a network, from this machine."""
    names = sorted({name for pair in stacks.PAIRS for name in (pair.one, pair.other)})
    trees = {name: user.home / name for name in names}
    try:
        found = {name: stacks.wheels(name) for name in names}
    except stacks.NoWheelsError as error:
        print(f"The wheels can't be had ({error}): two trees of this machine take their place.\n")
        trees = stacks.machine_trees(user.home)
        pairs = [stacks.Pair("trees of this machine", *trees)]
    else:
        pairs = list(stacks.PAIRS)
        for name, wheels in found.items():
            stacks.unpack(wheels, trees[name])
    if os.geteuid() == 0:
        for tree in trees.values():
            subprocess.run(["chown", "-hR", f"{user.uid}:{user.uid}", tree], check=True)
    for name, tree in trees.items():
        files = sum(1 for path in tree.rglob("*") if path.is_file())
        print(f"  {name:8} {stacks.whole(tree) / MB:6.0f} MB in {files} files")
    print()
    return pairs, trees


def build(user: OrdinaryUser, trees: dict[str, Path]) -> tuple[dict[str, Path], dict[str, float]]:
    """Build an image of each tree; the images, and the seconds that each took."""
    images, seconds = {}, {}
    for name, tree in trees.items():
        image = user.home / f"{name}.erofs"
        started = time.monotonic()
        user.run(["pyerofs", "build", tree, image], **QUIET)
        seconds[name] = time.monotonic() - started
        images[name] = image
    return images, seconds


def measure(
    user: OrdinaryUser,
    pair: stacks.Pair,
    trees: dict[str, Path],
    images: dict[str, Path],
    seconds: dict[str, float],
) -> Result:
    """Read everything: outside any domain, each image in its own, both in a new one, and there once more."""
    both = [images[pair.one], images[pair.other]]
    one, other = stacks.contents(trees[pair.one]), stacks.contents(trees[pair.other])
    name = f"{pair.one}-{pair.other}"
    _, alone = steadiest(user, lambda _: [Mounted(both)])
    _, apart = steadiest(
        user, lambda attempt: [Mounted([image], f"{name}-{image.stem}{attempt}") for image in both]
    )
    best, shared = steadiest(user, lambda attempt: [Mounted(both, f"{name}{attempt}")])
    with reading(user, Mounted(both, f"{name}{best}")) as (readers, again):
        domain = stat_of(user, f"{name}{best}")
        compare(readers[0].ask("check"), pair, trees, images)
    return Result(
        title=pair.title,
        total=stacks.whole(trees[pair.one]) + stacks.whole(trees[pair.other]),
        unique=sum({**one, **other}.values()),
        build=seconds[pair.one] + seconds[pair.other],
        alone=alone,
        apart=apart,
        shared=shared,
        again=again,
        domain=domain,
    )


def compare(seen: dict[str, Any], pair: stacks.Pair, trees: dict[str, Path], images: dict[str, Path]) -> None:
    """Compare every file that the ordinary user sees through the shared mounts with the trees."""
    wrong = []
    for name in (pair.one, pair.other):
        for path, entry in judges.of_directory(trees[name]).items():
            if entry.content is not None:
                expected = [entry.mode, entry.size, entry.mtime_ns, entry.content]
                if seen.pop(f"{images[name].stem}/{os.fsdecode(path)}", None) != expected:
                    wrong.append(f"{name}/{os.fsdecode(path)}")
    wrong += sorted(seen)
    if wrong:
        raise SystemExit(f"the mounts differ from the trees in {len(wrong)} files, first {wrong[0]}")
    print(f"Seen through the shared mounts, {pair.title}: every file has its bytes, mode and time.")


def check_kernel(user: OrdinaryUser, trees: dict[str, Path], images: dict[str, Path]) -> None:
    """Let the kernel mount the images and compare everything that it can tell with the trees."""
    if os.geteuid() != 0:
        print("The kernel's own mount needs root, so that comparison is left out.")
        return
    count = 0
    for name, image in images.items():
        try:
            with judges.kernel_mount(image, user.directory / "kernel") as at:
                found = judges.as_tree(judges.of_directory(at))
        except OSError as error:
            print(
                f"The kernel can't mount the images here ({error.strerror}), so that comparison is left out."
            )
            return
        expected = judges.as_tree(judges.of_directory(trees[name]))
        wrong = judges.differences(expected, found)
        if wrong:
            raise SystemExit("the kernel's mount differs from the tree:\n  " + "\n  ".join(wrong))
        count += len(found)
    print(f"The kernel mounts the images: {count} entries, every byte, mode, owner, time and xattr is right.")


def in_memory(cost: Cost) -> str:
    """What is counted, and in brackets the growth of `Cached`."""
    return f"{cost.counted / MB:.0f} MB ({cost.cached / MB:.0f})"


def report(results: list[Result]) -> None:
    """Print the table and draw the picture."""
    head = [
        "",
        "no domain",
        "own domains",
        "one domain",
        "saved",
        "bound",
        "build",
        "mount",
        "read",
        "again",
    ]
    rows = [head]
    rows += [
        [
            result.title,
            in_memory(result.alone),
            in_memory(result.apart),
            in_memory(result.shared),
            f"{result.saved:.0%}",
            f"{result.bound:.0%}",
            f"{result.build:.1f} s",
            f"{result.shared.readings[0].mount:.2f} s",
            f"{result.shared.readings[0].read:.1f} s",
            f"{result.again.readings[0].read:.1f} s",
        ]
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    print()
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    first = results[0]
    costs = [cost for result in results for cost in (result.alone, result.apart, result.shared)]
    drift = max(cost.drift for cost in costs) / MB
    print(f"""
MB: page cache when every file of both images has been read through both mounts, counted in the images,
the objects and the mounted files. In brackets: what the whole machine's Cached grew by meanwhile; reading all
once more, which adds nothing, changed that by up to {drift:.0f} MB: so much the rest of the machine did.
no domain: {", ".join(first.alone.readings[0].kinds)}, which holds its own pages and the images'.
own domains: {", ".join(first.shared.readings[0].kinds)}, each image in a domain of its own.
one domain: both images in one. saved: one domain against own domains.
bound: what could be saved if every content were held once, in whole pages.
build: both images. mount: from the command to the first line of the reader, two Python starts included.
read: in a new domain, where every object is made and verified first. again: once more, from a cold cache.""")
    for result in results:
        facts = {name: value for name, value in result.domain.items() if name in SHOWN}
        print(f"domain stat, {result.title}: {json.dumps(facts)}")
    OUT.mkdir(parents=True, exist_ok=True)
    drawn = OUT / "page-cache.svg"
    groups = [
        (
            result.title,
            [
                result.alone.cached / MB,
                result.apart.cached / MB,
                result.shared.cached / MB,
                result.unique / MB,
            ],
        )
        for result in results
    ]
    labels = ["no domain", "a domain for each", "one domain", "every content once"]
    drawn.write_text(picture.bars("Page cache after reading two Python stacks", "MB", labels, groups))
    print(f"\nThe picture: {drawn}")


if __name__ == "__main__":
    sys.exit(main())
