"""The examples of README and the guides do what they show.

A fenced block `console` is run line by line (what follows `$ `) by a shell, a block `python` by the
interpreter, both in a directory with a small tree `stack`. A block marked `norun` needs a mount point or
an account of the reader's own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", params=[page.stem for page in PAGES])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page and the directory in which its examples run one after the other, as a reader would."""
    place = tmp_path_factory.mktemp("docs")
    library = place / "stack" / "lib"
    library.mkdir(parents=True)
    (place / "stack" / "README").write_text("a small stack\n")
    (library / "data").write_bytes(bytes(range(256)) * 512)
    (library / "data.link").symlink_to("data")
    return next(candidate for candidate in PAGES if candidate.stem == request.param), place


def test_examples_run(page: tuple[Path, Path]) -> None:
    """A reader who types a page's examples in their order gets no error."""
    path, place = page
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYEROFS_STATE": str(place / "state"),
        "SHELL": "/bin/true",
    }
    blocks = list(BLOCK.finditer(path.read_text()))
    assert blocks, f"{path.name} shows no example that runs"
    for kind, text in (block.groups() for block in blocks):
        if kind == "console":
            commands = "\n".join(
                line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")
            )
            argv = ["bash", "-e", "-o", "pipefail", "-c", commands]
        else:
            argv = [sys.executable, "-W", "error", "-c", text]
        done = subprocess.run(
            argv, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{path.name}:\n{text}\n{done.stdout}{done.stderr}"
