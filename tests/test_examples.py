"""The programs of docs/examples do what the guides say of them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pyerofs

ROOT = Path(__file__).parent.parent


def test_a_packed_data_set_is_read_from_worker_processes(tmp_path: Path) -> None:
    for label, size in (("cat", 3000), ("dog", 2000)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(100):
            (tmp_path / "photos" / label / f"{number}.jpg").write_bytes(bytes(size))
    pyerofs.build(tmp_path / "photos", tmp_path / "photos.erofs")
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "docs/examples/data_set.py", "photos.erofs"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.splitlines() == [
        f"{method}: 500000 bytes in {{'cat': 100, 'dog': 100}}" for method in ("spawn", "fork")
    ]
    assert done.stderr == ""


def data_set(source: str) -> str:
    """The class ErofsDataset in a source, without types, comments and layout."""
    tree = ast.parse(source)
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ErofsDataset"]
    for node in ast.walk(found):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(found)


def test_the_guide_shows_the_data_set_that_is_tested() -> None:
    page = (ROOT / "docs/guides/data-sets.md").read_text()
    shown = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown
    assert data_set(shown[1]) == data_set((ROOT / "docs/examples/data_set.py").read_text())
