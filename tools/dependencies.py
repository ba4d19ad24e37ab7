"""Check what the Rust crates depend on, from the lock file: licences, bans and duplicates.

This is what cargo-deny would check; building that takes CI longer than all other lints together.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any

# Licences that may be combined with "Apache-2.0 OR MIT" without further duties than naming their authors.
ALLOWED_LICENCES = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
}

# name -> why it is not used here.
BANNED = {
    "anyhow": "errors are enums with values in them",
    "chrono": "the standard library's times do",
    "fuser": "its transport can neither be taken over nor serve many mounts from one loop",
    "memmap2": "mapped files can change under safe code; erofs-sys maps what cannot",
    "nix": "rustix is here already",
    "openssl-sys": "no C library is linked",
    "tokio": "few threads and epoll do, and a runtime would decide for us",
}

# name -> why two versions of it are borne.
DUPLICATES_BORNE = {
    "syn": "the derive crates move to version 3 one by one; it is only used while building",
}


def metadata() -> dict[str, Any]:
    """What cargo knows about the locked dependencies for this platform."""
    host = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    triple = re.search(r"^host: (\S+)$", host, re.MULTILINE)
    command = ["cargo", "metadata", "--locked", "--format-version=1"]
    if triple:
        command += ["--filter-platform", triple[1]]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def licence_allowed(expression: str) -> bool:
    """Evaluate an SPDX expression with OR, AND and parentheses against the allowed set."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def alternatives() -> bool:
        nonlocal position
        value = conjunction()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            other = conjunction()
            value = value or other
        return value

    def conjunction() -> bool:
        nonlocal position
        value = atom()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            other = atom()
            value = value and other
        return value

    def atom() -> bool:
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            value = alternatives()
            position += 1
            return value
        if tokens[position : position + 1] == ["WITH"]:
            token = f"{token} WITH {tokens[position + 1]}"
            position += 2
        return token in ALLOWED_LICENCES

    return alternatives()


def problems(found: dict[str, Any]) -> list[str]:
    """Every rule that the dependency graph breaks, in words."""
    members = set(found["workspace_members"])
    used = {node["id"] for node in found["resolve"]["nodes"]}
    versions: dict[str, set[str]] = defaultdict(set)
    complaints = []
    for package in found["packages"]:
        if package["id"] not in used:
            continue
        name, version = package["name"], package["version"]
        versions[name].add(version)
        licence = package["license"]
        if not licence or not licence_allowed(licence):
            complaints.append(f"{name} {version}: licence {licence or 'not stated'} is not on the list")
        if package["id"] in members:
            continue
        if name in BANNED:
            complaints.append(f"{name} {version}: banned: {BANNED[name]}")
        if not (package["source"] or "").startswith("registry+"):
            complaints.append(f"{name} {version}: does not come from the registry")
    for name, several in sorted(versions.items()):
        if len(several) > 1 and name not in DUPLICATES_BORNE:
            complaints.append(f"{name}: more than one version: {', '.join(sorted(several))}")
    complaints.extend(
        f"{name}: listed as a borne duplicate, but there is none any more"
        for name in sorted(DUPLICATES_BORNE)
        if len(versions.get(name, set())) < 2
    )
    return complaints


def main() -> int:
    """Print the complaints and return the exit status."""
    complaints = problems(metadata())
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
