"""Where contents go: equal ones once, in chunks, in blobs that images share, in an order, at large pages."""

from __future__ import annotations

import errno
import io
import random
from pathlib import Path
from typing import Any

import pytest

import pyerofs
from judges import as_tree, assert_same, kernel_mount, of_directory
from pyerofs.cli import app
from pyerofs.errors import UnsupportedFeature

NOISE = random.Random(7).randbytes(1_500_000)
TEXT = b"".join(b"line %d of a text\n" % number for number in range(40_000))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for version in ("1.0", "1.1"):
        (root / version / "lib").mkdir(parents=True)
        (root / version / "lib/noise").write_bytes(NOISE)
        (root / version / "lib/text").write_bytes(version.encode() + TEXT)
        for number in range(50):
            (root / version / f"small{number}").write_bytes(TEXT[number * 100 :][:2000])
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "made.erofs"


def check(image: Path, tree: Path, *devices: Path) -> None:
    with pyerofs.open(image, devices) as opened:
        for path in tree.rglob("*"):
            if path.is_file():
                assert (opened / str(path.relative_to(tree))).read_bytes() == path.read_bytes()


def offsets(image: Path) -> dict[str, int]:
    """Where the first byte of each file is."""
    with pyerofs.open(image) as opened:
        files = [entry for entry in opened.root.rglob("*") if entry.is_file()]
        return {str(file.path).lstrip("/"): next(iter(file.extents())).blob_offset or 0 for file in files}


@pytest.mark.parametrize("how", [{}, {"compress": "zstd"}, {"compress": "lz4", "fragments": False}])
def test_equal_contents_take_room_once(tree: Path, target: Path, how: dict[str, Any]) -> None:
    all_of_it = pyerofs.build(tree, target, dedupe=False, **how)
    once = pyerofs.build(tree, target, dedupe=True, force=True, **how)
    check(target, tree)
    assert all_of_it.shared_bytes == 0
    assert once.shared_bytes >= len(NOISE) // 2
    assert once.bytes < all_of_it.bytes - len(NOISE) // 2
    # Without a word it follows fragments, which need the same kernel.
    usual = pyerofs.build(tree, target, force=True, **how)
    assert (usual.shared_bytes > 0) == (how == {"compress": "zstd"})


def test_chunks_need_no_word_to_be_stored_once(tree: Path, target: Path) -> None:
    report = pyerofs.build(tree, target, chunk=65536)
    check(target, tree)
    assert report.shared_bytes >= len(NOISE)
    assert [feature.name for feature in report.features] == ["chunk-based files", "fingerprints"]


def test_a_blob_serves_later_images_and_never_changes(tree: Path, target: Path) -> None:
    first, second = target.parent / "first", target.parent / "second"
    report = pyerofs.build(tree / "1.0", target, chunk=4096, blob=first)
    assert report.bytes < len(NOISE) // 10
    check(target, tree / "1.0", first)
    before = first.read_bytes()
    later = target.parent / "later.erofs"
    report = pyerofs.build(tree / "1.1", later, chunk=4096, reuse=[first], blob=second)
    check(later, tree / "1.1", first, second)
    assert report.shared_bytes >= len(NOISE)
    assert second.stat().st_size < len(TEXT) + 20_000
    assert first.read_bytes() == before
    with pytest.raises(FileExistsError):
        pyerofs.build(tree, target, chunk=4096, blob=first, force=True)
    assert first.read_bytes() == before
    # What is new may go into the image itself.
    pyerofs.build(tree / "1.1", later, chunk=4096, reuse=[first], force=True)
    check(later, tree / "1.1", first)


@pytest.mark.usefixtures("kernel_erofs")
def test_an_image_with_its_blobs_behind_it_is_mounted_alone(tree: Path, target: Path, tmp_path: Path) -> None:
    first, second = target.parent / "first", target.parent / "second"
    pyerofs.build(tree / "1.0", target, chunk=4096, blob=first)
    pyerofs.build(tree / "1.1", target, chunk=4096, reuse=[first], blob=second, force=True)
    whole = target.parent / "whole.erofs"
    whole.write_bytes(target.read_bytes() + first.read_bytes() + second.read_bytes())
    check(whole, tree / "1.1")
    with kernel_mount(whole, tmp_path / "mnt") as mounted:
        assert_same(as_tree(of_directory(tree / "1.1")), as_tree(of_directory(mounted)), "Linux")
    # Without them nothing is taken for their data.
    with (
        kernel_mount(target, tmp_path / "mnt") as mounted,
        pytest.raises(OSError, match="output error"),
    ):
        (mounted / "lib/noise").read_bytes()


def test_contents_follow_one_another_as_it_is_said(tree: Path, target: Path) -> None:
    def order(**options: Any) -> tuple[list[str], pyerofs.BuildReport]:
        report = pyerofs.build(tree, target, force=True, inline_tail=0, **options)
        places = offsets(target)
        return sorted(places, key=places.__getitem__), report

    usual, _ = order()
    assert order(order="path")[0] == usual
    similar, _ = order(order="similar")
    assert similar.index("1.1/lib/text") == similar.index("1.0/lib/text") + 1
    listed, report = order(order=["/1.1/lib", Path("1.0/small7"), "no/such"])
    assert listed[:3] == ["1.1/lib/noise", "1.1/lib/text", "1.0/small7"]
    assert [name for name in usual if name not in listed[:3]] == listed[3:]
    assert report.unknown_paths == 1


def test_large_files_start_where_large_pages_do(tree: Path, target: Path) -> None:
    pyerofs.build(tree, target, align=65536)
    check(target, tree)
    assert all(place % 65536 == 0 for name, place in offsets(target).items() if "/lib/" in name)
    (tree / "huge").write_bytes(NOISE * 2)
    pyerofs.build(tree, target, preset="dax", force=True)
    check(target, tree)
    assert offsets(target)["huge"] % (2 << 20) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": "random"}, ValueError, "order: 'random' is none; there are path, similar and lists"),
        ({"align": 5000}, ValueError, "align: 5000 is not a power of two from 4096"),
        ({"align": 65536, "chunk": 65536}, ValueError, "align: chunks lie close together"),
        ({"chunk": 5000}, ValueError, "chunk: 5000 is not a power of two from 4096 to 8388608"),
        ({"chunk": 4096, "compress": "zstd"}, ValueError, "chunk: chunks can't be compressed"),
        ({"blob": "b"}, ValueError, "blob: is only for files in chunks"),
        ({"reuse": ["b"]}, ValueError, "blob: is only for files in chunks"),
        ({"chunk": 4096, "reuse": [__file__]}, ValueError, "is not a blob of this block size"),
        ({"chunk": 4096, "reuse": ["no-such-blob"]}, FileNotFoundError, "no-such-blob"),
        ({"chunk": 4096, "target_kernel": "5.4"}, UnsupportedFeature, r"5\.15.*no chunks"),
        ({"chunk": 4096, "blob": "b", "target_kernel": "5.15"}, UnsupportedFeature, r"5\.16.*in the image"),
        ({"compress": "lz4", "dedupe": True, "target_kernel": "5.15"}, UnsupportedFeature, "without dedupe"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    tree: Path, target: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pyerofs.build(tree, target, fingerprint=False, **options)
    assert list(target.parent.iterdir()) == []


def test_a_build_that_fails_leaves_no_blob_either(tree: Path, target: Path) -> None:
    class Full(io.RawIOBase):
        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "full")

    blob = target.parent / "blob"
    with pytest.raises(OSError, match="full"):
        pyerofs.build(tree, Full(), chunk=4096, blob=blob)
    with pytest.raises(ValueError, match="is not a blob"):
        pyerofs.build(tree, target, chunk=4096, blob=blob, reuse=[__file__])
    assert list(target.parent.iterdir()) == []


def test_the_command_line_says_the_same(tree: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    listed = target.parent / "list"
    listed.write_text("/1.1/lib\nno/such\n\n1.0\n")
    blob, again = target.parent / "blob", target.parent / "again"
    for words, options in (
        (["--dedupe"], {"dedupe": True}),
        (["--preset", "dax", "--align", "4k"], {"preset": "dax", "align": 4096}),
        (["--order", "similar"], {"order": "similar"}),
        (["--order", str(listed)], {"order": ["1.1/lib", "1.0", "other"]}),
        (["--chunk", "64k", "--blob", str(again)], {"chunk": 65536, "blob": blob}),
        (["--chunk", "64k", "--reuse", str(blob)], {"chunk": 65536, "reuse": [again]}),
    ):
        assert app.run(["build", "-f", *words, str(tree), str(target)]) == 0
        said = target.read_bytes()
        pyerofs.build(tree, target, force=True, **options)
        assert target.read_bytes() == said, words
    assert blob.read_bytes() == again.read_bytes()
    assert f"{listed}: 1 path of it names nothing" in capfd.readouterr().err
    assert app.run(["build", "-fv", "--dedupe", str(tree), str(target)]) == 0
    assert "of contents stored elsewhere already" in capfd.readouterr().out
    assert app.run(["build", "-f", "--order", "no/such/list", str(tree), str(target)]) == 1
