"""The examples of README and the guides do what they show.

A fenced block `console` is run line by line (what follows `$ `) by a shell, a block `python` by the
interpreter, both as an ordinary user and in a directory with a small tree `stack`. A block marked
`norun` needs a mount point or an account of the reader's own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ordinary_user import OrdinaryUser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


STACK = """
mkdir -p stack/lib
echo "a small stack" >stack/README
seq 20000 >stack/lib/data
ln -s data stack/lib/data.link
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, user: OrdinaryUser) -> None:
    """A reader who types a page's examples in their order gets no error."""
    place = user.home / "docs" / page.stem
    environment = {"PYEROFS_STATE": str(place / "state"), "SHELL": "/bin/true"}

    def run(*argv: str | Path) -> None:
        done = user.run(argv, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{page.name}:\n{argv[-1]}\n{done.stdout}{done.stderr}"

    user.run(["mkdir", "-p", place], check=True)
    run("sh", "-ec", STACK)
    blocks = list(BLOCK.finditer(page.read_text()))
    assert blocks, f"{page.name} shows no example that runs"
    for kind, text in (block.groups() for block in blocks):
        if kind == "python":
            run(user.python, "-W", "error", "-c", text)
            continue
        commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        run("bash", "-e", "-o", "pipefail", "-c", "\n".join(commands))
