"""Comparing after random edits: each is found, whatever else was edited."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

import pyerofs
from diff_tools import WHEN, built, edited

if TYPE_CHECKING:
    import pytest

EDITS = st.lists(
    st.tuples(
        st.sampled_from(
            ["content", "mode", "mtime", "xattr", "remove", "add", "move", "link", "split", "join", "target"]
        ),
        st.integers(0, 39),
    ),
    max_size=12,
)


@given(edits=EDITS, a_image=st.booleans(), b_image=st.booleans())
def test_random_edits_are_found_exactly(
    edits: list[tuple[str, int]], a_image: bool, b_image: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("edits")
    old, new = base / "old", base / "new"
    for number in range(40):
        path = old / f"d{number % 4}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d " % number * (number * 300))
        os.utime(path, ns=(WHEN, WHEN))
        # Two names of one file, two equal files, and a symbolic link, apart from the others.
        for name, content in (("one", b"%d linked" % number), ("same", b"%d equal" % number)):
            (old / f"{name}{number}").write_bytes(content)
            os.utime(old / f"{name}{number}", ns=(WHEN, WHEN))
        (old / f"two{number}").hardlink_to(old / f"one{number}")
        shutil.copy2(old / f"same{number}", old / f"too{number}")
        (old / f"symlink{number}").symlink_to(f"one{number}")
        os.utime(old / f"symlink{number}", ns=(WHEN, WHEN), follow_symlinks=False)
    subprocess.run(["cp", "-a", old, new], check=True)
    expected: dict[str, tuple[Any, ...]] = {}
    touched: set[int] = set()
    for kind, number in edits:
        if number in touched:
            continue
        touched.add(number)
        name = f"d{number % 4}/f{number}"
        path = new / name
        match kind:
            case "content":
                edited(path, b"edited %d" % number)
                expected[name] = ("changed", None, ("content",))
            case "mode":
                path.chmod(0o711)
                expected[name] = ("changed", None, ("mode",))
            case "mtime":
                os.utime(path, ns=(WHEN, WHEN + number + 1))
                expected[name] = ("changed", None, ("mtime",))
            case "xattr":
                os.setxattr(path, "user.edit", b"x")
                expected[name] = ("changed", None, ("xattrs",))
            case "remove":
                path.unlink()
                expected[name] = ("removed", None, ())
            case "add":
                (new / f"added{number}").write_bytes(b"added %d" % number)
                expected[f"added{number}"] = ("added", None, ())
            case "move" if number:  # the first one is empty, so its content tells nothing
                path.rename(new / f"moved{number}")
                expected[f"moved{number}"] = ("moved", name, ())
            case "link":
                (new / f"link{number}").hardlink_to(path)
                expected[f"link{number}"] = ("added", None, ())
            case "split":
                (new / f"two{number}").unlink()
                shutil.copy2(new / f"one{number}", new / f"two{number}")
                expected[f"two{number}"] = ("changed", None, ("links",))
            case "join":
                (new / f"too{number}").unlink()
                (new / f"too{number}").hardlink_to(new / f"same{number}")
                expected[f"too{number}"] = ("changed", None, ("links",))
            case "target":
                (new / f"symlink{number}").unlink()
                (new / f"symlink{number}").symlink_to("elsewhere")
                os.utime(new / f"symlink{number}", ns=(WHEN, WHEN), follow_symlinks=False)
                expected[f"symlink{number}"] = ("changed", None, ("target",))
    for directory in [".", "d0", "d1", "d2", "d3"]:
        for root in (old, new):
            os.utime(root / directory, ns=(WHEN, WHEN))
    a = built(old) if a_image else old
    b = built(new) if b_image else new
    found = {c.path: (c.kind, c.old_path, c.fields) for c in pyerofs.diff(a, b)}
    assert found == expected
