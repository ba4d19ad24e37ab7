"""The rules of ARCHITECTURE.md about who may know whom, kept by machine."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "pyerofs"

# Each crate may know only those above it.
LAYERS = [
    "erofs-sys",
    "erofs-format",
    "erofs-codec",
    "erofs-encode",
    "erofs-image",
    "erofs-build",
    "erofs-extract",
    "erofs-diff",
    "erofs-store",
    "fuse-dev",
    "erofs-fuse",
    "erofs-py",
]
LONGEST_FILE = 500


@functools.cache
def packages() -> dict[str, dict[str, Any]]:
    """The workspace's own crates as cargo describes them, by name."""
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {package["name"]: package for package in json.loads(done.stdout)["packages"]}


def rust_sources(crate: str) -> list[Path]:
    """The sources of one crate, tests left out."""
    source = Path(packages()[crate]["manifest_path"]).parent / "src"
    return [
        path for path in sorted(source.rglob("*.rs")) if "tests" not in path.relative_to(source).as_posix()
    ]


def crates() -> list[str]:
    """The names of the crates that there are, from their directories."""
    return sorted(path.parent.name for path in (ROOT / "crates").glob("*/Cargo.toml"))


def test_every_crate_has_its_place_in_the_order() -> None:
    assert set(packages()) == set(crates())
    assert set(crates()) <= set(LAYERS)


@pytest.mark.parametrize("crate", crates())
def test_a_crate_knows_only_those_above_it(crate: str) -> None:
    above = LAYERS[: LAYERS.index(crate)]
    known = {dependency["name"] for dependency in packages()[crate]["dependencies"]}
    assert known & set(LAYERS) <= set(above)


@pytest.mark.parametrize("crate", crates())
def test_only_the_bindings_know_python(crate: str) -> None:
    known = {dependency["name"] for dependency in packages()[crate]["dependencies"]}
    assert crate == "erofs-py" or not {name for name in known if name.startswith("pyo3")}


@pytest.mark.parametrize("crate", [crate for crate in crates() if crate != "erofs-sys"])
def test_only_erofs_sys_may_hold_unsafe_code(crate: str) -> None:
    root = Path(packages()[crate]["manifest_path"]).parent / "src/lib.rs"
    assert "#![forbid(unsafe_code)]" in root.read_text()


def test_every_unsafe_block_says_why_it_is_sound() -> None:
    silent = []
    for path in rust_sources("erofs-sys"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"\bunsafe\s*(\{|impl\b)", line.split("//")[0]):
                before = "\n".join(lines[max(0, number - 8) : number + 1])
                if "SAFETY:" not in before:
                    silent.append(f"{path.relative_to(ROOT)}:{number + 1}")
    assert not silent


def test_the_crate_roots_of_the_bindings_only_register() -> None:
    text = (ROOT / "crates/erofs-py/src/lib.rs").read_text()
    assert not re.search(r"^\s*(pub )?(unsafe )?fn (?!init\b)\w+", text, re.MULTILINE)


def test_no_module_has_the_name_of_a_public_function() -> None:
    script = (
        "import json, types, pyerofs\n"
        "names = [n for n in pyerofs.__all__ if isinstance(getattr(pyerofs, n),"
        " (types.FunctionType, types.BuiltinFunctionType))]\n"
        "print(json.dumps(names))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_from_others() -> None:
    script = (
        "import sys; before = set(sys.modules); import pyerofs, json\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(json.dumps(sorted(names - set(sys.stdlib_module_names) - {'pyerofs'})))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_the_command_line_draws_only_when_asked_to() -> None:
    script = (
        "import sys; sys.argv[1:] = ['--version']; import pyerofs.cli\n"
        "try: pyerofs.cli.main()\n"
        "except SystemExit: pass\n"
        "sys.exit('rich' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def long_files() -> list[str]:
    """The files over the limit, with their lengths; tests are not counted."""
    found = []
    sources = [path for crate in crates() for path in rust_sources(crate)]
    sources += [path for folder in ("python", "tools", "demo") for path in (ROOT / folder).rglob("*.py")]
    for path in sources:
        # Unit tests at the end of a Rust file may be long; what they test may not.
        text = re.split(
            r"^#\[cfg\(test\)\]\s*mod tests \{", path.read_text(), maxsplit=1, flags=re.MULTILINE
        )[0]
        length = text.count("\n")
        if length > LONGEST_FILE:
            found.append(f"{path.relative_to(ROOT)}: {length} lines")
    return sorted(found)


def test_no_file_is_longer_than_one_person_reads_at_once() -> None:
    assert long_files() == []
