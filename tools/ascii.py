"""Fail on any source file that is not plain ASCII: what a reviewer sees must be what the compiler reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUFFIXES = {".rs", ".py", ".pyi", ".toml", ".md", ".sh", ".txt", ".in", ".json", ""}


def main() -> int:
    """Print every offending line as PATH:LINE and return the exit status."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True).stdout
    bad = 0
    for name in filter(None, listed.split(b"\0")):
        path = Path(name.decode())
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line.isascii():
                print(f"{path}:{number}: not ASCII: {line.decode(errors='backslashreplace').strip()}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
