"""Building over an earlier image: the same bytes, less compression."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [f"{number:x}".encode() for number in random.Random(5).sample(range(1 << 24), 3000)]


def text(seed: int, length: int) -> bytes:
    return b" ".join(random.Random(seed).choices(WORDS, k=length // 5))[:length]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "small").mkdir(parents=True)
    for number in range(200):
        (root / "small" / str(number)).write_bytes(text(number, 500 + number * 40))
    for number in range(6):
        (root / f"large{number}").write_bytes(text(1000 + number, 400_000))
    for path in (*root.rglob("*"), root):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def change(tree: Path) -> None:
    (tree / "small/7").write_bytes(b"changed")
    (tree / "large1").write_bytes(text(77, 300_000))
    (tree / "large2").rename(tree / "renamed")
    (tree / "small/8").unlink()
    (tree / "small/new").write_bytes(text(78, 3000))


@pytest.mark.parametrize(
    "how",
    [
        {"compress": "zstd"},
        {"compress": "lz4", "fragments": False, "target_kernel": "6.15"},
        {"compress": "lz4hc", "tail_packing": True},
        {"compress": "zstd", "dedupe": True},
        {"compress": "zstd", "rules": [("/large3", "lz4"), ("/large4", None)]},
    ],
)
def test_the_bytes_are_those_of_a_clean_build(tree: Path, out: Path, how: dict[str, Any]) -> None:
    pyerofs.build(tree, out / "old", **how)
    change(tree)
    report = pyerofs.build(tree, out / "new", base=out / "old", **how)
    clean = pyerofs.build(tree, out / "clean", **how)
    assert (out / "new").read_bytes() == (out / "clean").read_bytes()
    assert report.base_unused is None
    assert report.taken_bytes > report.stored_bytes // 3
    assert clean.taken_bytes == 0
    assert not list(pyerofs.diff(tree, out / "new"))


def test_another_source_of_the_same_files_finds_them_too(tree: Path, out: Path) -> None:
    pyerofs.build(tree, out / "old", compress="lz4")
    report = pyerofs.build(out / "old", out / "new", compress="lz4", base=out / "old")
    assert report.taken_bytes > report.stored_bytes * 9 // 10


def test_an_image_is_replaced_by_one_that_is_built_over_it(tree: Path, out: Path) -> None:
    pyerofs.build(tree, out / "image", compress="lz4")
    change(tree)
    report = pyerofs.build(tree, out / "image", compress="lz4", base=out / "image", force=True)
    assert report.taken_bytes > 0
    pyerofs.build(tree, out / "clean", compress="lz4")
    assert (out / "image").read_bytes() == (out / "clean").read_bytes()


def test_the_command_says_what_was_taken_or_why_nothing_was(
    tree: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = str(out / "old"), str(out / "new")
    assert app.run(["build", "-z", "lz4", str(tree), old]) == 0
    assert app.run(["build", "-z", "lz4", "--base", old, str(tree), new]) == 0
    said = capsys.readouterr()
    assert "of clusters taken from the base" in said.out
    assert not said.err
    assert app.run(["build", "-f", "-z", "lz4hc", "--base", old, str(tree), new]) == 0
    said = capsys.readouterr()
    assert "nothing can be taken from it" in said.err
    assert "lz4hc,level=9" in said.err
    assert app.run(["build", "-f", "-z", "lz4", "--base", old, "--json", str(tree), new]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["taken_bytes"] > 0
    assert facts["base_unused"] is None


def test_bases_that_make_no_sense_are_refused(tree: Path, out: Path) -> None:
    pyerofs.build(tree, out / "bare", compress="lz4", fingerprint=False)
    with pytest.raises(ValueError, match="no fingerprints"):
        pyerofs.build(tree, out / "new", compress="lz4", base=out / "bare")
    with pytest.raises(ValueError, match="base"):
        pyerofs.build(tree, out / "new", base=out / "bare")
    with pytest.raises(FileNotFoundError):
        pyerofs.build(tree, out / "new", compress="lz4", base=out / "missing")
    (out / "text").write_text("no image")
    with pytest.raises(OSError, match="text"):
        pyerofs.build(tree, out / "new", compress="lz4", base=out / "text")
    assert not (out / "new").exists()


def test_info_shows_how_an_image_was_compressed(
    tree: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pyerofs.build(tree, out / "image", compress="zstd,level=5", dedupe=True)
    with pyerofs.open(out / "image") as image:
        assert image.build_record is not None
        assert "compress zstd,level=5,cluster=65536,fragments\ndedupe\n" in image.build_record
    assert app.run(["info", str(out / "image")]) == 0
    assert "compress zstd,level=5,cluster=65536,fragments, dedupe" in capsys.readouterr().out
    pyerofs.build(tree, out / "image", force=True)
    with pyerofs.open(out / "image") as image:
        assert image.build_record is None
