"""`make bench`: pyerofs beside mkfs.erofs, fsck.erofs, erofsfuse, squashfs and the kernel, on one tree.

Every measurement alternates between the ways and states medians; BENCH_ROUNDS (5) says of how many. Groups
may be named (`make bench ARGS="building mounting"`); the others keep their last results. They go to
benchmarks/results as Markdown and JSON. What misses its target is written down as missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import corpus
import peers as peer_tools
from measure import ROUNDS, meminfo

RESULTS = Path(__file__).resolve().parent / "results"
#: Each is a module beside this one, with a function tables(peers, corpus, work).
GROUPS = ("building", "mounting", "reading", "extracting", "millions")
#: Measured only when they are named: they take long.
NAMED_ONLY = ("millions",)


def main() -> int:
    """Measure what was asked for and return the exit status."""
    arguments = argparse.ArgumentParser(description="Measure pyerofs beside its peers.")
    arguments.add_argument(
        "group", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)} (default: all but millions)"
    )
    asked = arguments.parse_args().group or [group for group in GROUPS if group not in NAMED_ONLY]
    if unknown := set(asked).difference(GROUPS):
        arguments.error(f"no group {', '.join(sorted(unknown))}: there are {', '.join(GROUPS)}")
    if os.geteuid() != 0:
        print("make bench needs root: it empties caches and mounts with the kernel")
        return 1
    try:
        peers = peer_tools.find()
    except peer_tools.NoPeersError as error:
        print(f"make bench needs the newest erofs-utils: {error}")
        return 1
    records = load()
    for group in asked:
        records[group] = measure(group, peers)
        write(records)
    print((RESULTS / "results.md").read_text())
    return 0


def measure(group: str, peers: peer_tools.Peers) -> dict[str, Any]:
    """Run one group and return its record."""
    work = Path(tempfile.mkdtemp(prefix="pyerofs-bench-", dir="/var/tmp"))
    os.environ["PYEROFS_STATE"] = str(work / "state")
    try:
        measured = corpus.choose(work)
        print(f"{group}: {measured.name}; {ROUNDS} rounds", flush=True)
        tables = import_module(group).tables(peers, measured, work)
    finally:
        subprocess.run(["pyerofs", "umount", "--all"], check=False, capture_output=True)
        shutil.rmtree(work, ignore_errors=True)
    return {
        "facts": facts(peers, measured),
        "tables": [table.record() for table in tables],
        "markdown": [table.markdown() for table in tables],
    }


def facts(peers: peer_tools.Peers, measured: corpus.Corpus) -> dict[str, Any]:
    """What the figures were measured on."""
    import pyerofs

    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "tree": measured.name,
        "rounds": ROUNDS,
        "pyerofs": pyerofs.__version__,
        "erofs-utils": ".".join(map(str, peers.version)),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "memory": f"{meminfo('MemTotal') / 1e9:.0f} GB",
    }


def load() -> dict[str, Any]:
    """The results that are there already."""
    path = RESULTS / "results.json"
    records: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {group: records[group] for group in GROUPS if group in records}


def write(records: dict[str, Any]) -> None:
    """Write all results, those of earlier runs too, in the order of the groups."""
    lines = ["# Benchmarks", ""]
    for group in GROUPS:
        if record := records.get(group):
            command = f"make bench ARGS={group}"
            lines += [f"# {group.capitalize()}", "", f"- command: {command}"]
            lines += [*(f"- {name}: {value}" for name, value in record["facts"].items()), ""]
            lines += record["markdown"]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "results.md").write_text("\n".join(lines))
    (RESULTS / "results.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
