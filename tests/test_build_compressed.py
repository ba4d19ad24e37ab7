"""Building compressed images through Python and the command line: options, presets, reports, refusals."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from pyerofs import Compression
from pyerofs.cli import app
from pyerofs.compression import PRESETS
from pyerofs.errors import UnsupportedFeature

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "".join(
    f"{number} bottles of beer on the wall, {number} bottles\n" for number in range(20_000)
).encode()
NOISE = random.Random(1).randbytes(300_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "small").mkdir(parents=True)
    (root / "text").write_bytes(TEXT)
    (root / "noise").write_bytes(NOISE)
    for number in range(100):
        (root / "small" / str(number)).write_bytes(TEXT[number * 20 :][:600])
    for path in (*root.rglob("*"), root):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "made.erofs"


def algorithms(image: Path) -> set[str]:
    """The algorithms that the pieces of the files are encoded with."""
    with pyerofs.open(image) as opened:
        assert (opened / "text").read_bytes() == TEXT
        assert (opened / "noise").read_bytes() == NOISE
        assert (opened / "small/99").read_bytes() == TEXT[99 * 20 :][:600]
        files = [entry for entry in opened.root.rglob("*") if entry.is_file()]
        return {piece.algorithm for file in files for piece in file.extents() if piece.algorithm}


@pytest.mark.parametrize("algorithm", ["lz4", "lz4hc", "zstd", "deflate", "lzma"])
def test_each_algorithm_makes_the_image_smaller(tree: Path, target: Path, algorithm: str) -> None:
    plain = pyerofs.build(tree, target)
    report = pyerofs.build(tree, target, compress=algorithm, fragments=False, force=True)
    assert report.bytes == target.stat().st_size < plain.bytes
    assert report.stored_bytes + report.metadata_bytes == report.bytes
    assert report.content_bytes == plain.content_bytes
    assert report.ratio < plain.ratio
    assert algorithms(target) == {algorithm.removesuffix("hc")}


def test_a_level_and_a_cluster_are_heeded(tree: Path, target: Path) -> None:
    sizes = {}
    for how in ("lz4hc,level=1", "lz4hc,12", Compression("lz4hc", 12), "zstd,level=1", "zstd,level=19"):
        sizes[how] = pyerofs.build(tree, target, compress=how, force=True).stored_bytes
    assert sizes["lz4hc,level=1"] > sizes["lz4hc,12"] == sizes[Compression("lz4hc", 12)]
    assert sizes["zstd,level=1"] > sizes["zstd,level=19"]
    pyerofs.build(tree, target, compress="zstd", cluster=4096, force=True)
    with pyerofs.open(target) as image:
        assert max(piece.stored for piece in (image / "text").extents() if piece.algorithm) == 4096


def test_ends_of_files_go_where_it_is_said(tree: Path, target: Path) -> None:
    def size(**options: Any) -> int:
        return pyerofs.build(tree, target, compress="zstd", force=True, **options).bytes

    together = size()
    assert together == size(fragments=True) < size(tail_packing=True) < size(fragments=False)


def test_whole_files_are_fragments(tree: Path, target: Path) -> None:
    pyerofs.build(tree, target, compress="zstd", cluster=4096, fragments="all")
    assert algorithms(target) == set()  # All are in the packed inode.
    with pyerofs.open(target) as image:
        assert {piece.kind for piece in (image / "text").extents()} == {"inside"}
        assert {piece.kind for piece in (image / "noise").extents()} == {"raw"}


def test_a_metabox_makes_metadata_smaller_and_changes_nothing_else(tree: Path, target: Path) -> None:
    for number in range(1000):
        (tree / "small" / f"more {number}").write_bytes(b"more")

    def build(**options: Any) -> tuple[pyerofs.BuildReport, dict[str, tuple[Any, ...]]]:
        report = pyerofs.build(tree, target, compress="zstd", force=True, **options)
        with pyerofs.open(target) as image:
            seen = {
                str(entry.path): (entry.stat().st_mode, entry.stat().st_mtime_ns, entry.stat().st_size)
                + ((entry.read_bytes(),) if entry.is_file() else ())
                for entry in image.root.rglob("*")
            }
        return report, seen

    (plain, before), (boxed, after) = build(), build(metabox=4096)
    assert boxed.metadata_bytes < plain.metadata_bytes
    assert boxed.stored_bytes == plain.stored_bytes
    assert after == before
    assert {build(metabox=4096, threads=threads)[0].uuid for threads in (1, 2, 8)} == {boxed.uuid}


def test_the_default_target_is_a_longterm_kernel_that_reads_it(tree: Path, target: Path) -> None:
    expected: list[tuple[dict[str, Any], tuple[int, int], tuple[int, int]]] = [
        ({"compress": "zstd"}, (6, 10), (6, 12)),
        ({"compress": "lzma"}, (6, 4), (6, 6)),
        ({"compress": "lz4", "metabox": 4096}, (6, 17), (6, 18)),
        ({"compress": "lzma", "fingerprint": False}, (6, 1), (6, 1)),
        ({"compress": "lz4", "fingerprint": False, "target_kernel": "5.4"}, (5, 4), (5, 4)),
        ({"compress": "lz4", "fingerprint": False, "target_kernel": "5.15"}, (5, 13), (5, 15)),
        ({"fingerprint": False}, (5, 4), (5, 10)),
    ]
    for options, oldest, made_for in expected:
        report = pyerofs.build(tree, target, force=True, **options)
        assert (report.oldest_kernel, report.target_kernel) == (oldest, made_for), options


def test_what_the_target_does_not_read_is_refused_with_a_remedy(tree: Path, target: Path) -> None:
    expected: list[tuple[dict[str, Any], str]] = [
        ({"compress": "zstd"}, r"Zstandard clusters need Linux 6\.10.*lz4"),
        ({"compress": "lz4", "cluster": 65536, "target_kernel": "5.4"}, r"5\.13.*clusters of one block"),
        ({"compress": "lz4", "fragments": True}, r"6\.1.*without fragments"),
        ({"compress": "lz4", "tail_packing": True}, r"5\.17.*blocks of their own"),
        ({"compress": "lz4", "metabox": 4096}, r"compressed inodes need Linux 6\.17.*without a metabox"),
    ]
    for options, message in expected:
        with pytest.raises(UnsupportedFeature, match=message):
            pyerofs.build(tree, target, **{"fingerprint": False, "target_kernel": "5.15", **options})
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress": "zip"}, "'zip' is no algorithm; there are lz4"),
        ({"compress": "zstd,level=99"}, "zstd has no level 99, only 1 to 22"),
        ({"compress": "zstd,level=x"}, "'x' in 'zstd,level=x' is not a level"),
        ({"compress": "zstd,dictsize=5"}, "'dictsize=5' in 'zstd,dictsize=5' is no setting; there are"),
        ({"compress": "none,level=3"}, "sets something about nothing"),
        ({"compress": "lz4,level=3"}, "lz4 has no levels, lz4hc has"),
        ({"compress": f"zstd,level={10**12}"}, "level: 1000000000000 is not a number from -2147483648 to"),
        ({"block_size": 1 << 40}, "block_size: 1099511627776 is not a number from 0 to 4294967295"),
        ({"time": 10**20}, "time: 100000000000000000000 is not a number from"),
        ({"uid_map": [(0, -1, 1)]}, "uid_map: -1 is not a number from 0"),
        ({"threads": -1}, "threads: -1 is not a number from 0"),
        ({"compress": "zstd", "cluster": 5000}, "not a multiple of the block size, 4096"),
        ({"compress": "zstd", "cluster": 2 << 20}, "up to 1048576"),
        ({"compress": "lz4", "cluster": 512 << 10, "block_size": 1024}, "up to 262144"),
        ({"compress": "zstd", "fragments": True, "tail_packing": True}, "choose one"),
        ({"cluster": 65536}, "cluster says something about compression"),
        ({"compress": "zstd", "fragments": "some"}, "fragments: 'some' is not True, False or 'all'"),
        ({"compress": "zstd", "fragments": "all", "tail_packing": True}, "choose one"),
        ({"fragments": True}, "fragments says something about compression"),
        ({"metabox": 4096}, "metabox says something about compression"),
        ({"metabox": 4096, "rules": [("*.c", "lz4")]}, "metabox: is only for images that are compressed"),
        ({"compress": "zstd", "metabox": 5000}, "metabox: 5000 is not a multiple of the block size, 4096"),
        ({"preset": "best"}, "there is no preset 'best'; there are fast, balanced, small, dax, core"),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(
    tree: Path, target: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pyerofs.build(tree, target, **options)
    assert list(target.parent.iterdir()) == []


def test_presets_are_what_the_guide_says(tree: Path, target: Path) -> None:
    reports = {name: pyerofs.build(tree, target, preset=name, force=True) for name in PRESETS}
    assert reports["small"].bytes < reports["balanced"].bytes < reports["fast"].bytes < reports["dax"].bytes
    assert reports["fast"].oldest_kernel == (6, 4)
    assert reports["balanced"].oldest_kernel == (6, 10)
    assert reports["core"].oldest_kernel == (5, 4)
    assert reports["core"].fingerprints == 0
    pyerofs.build(tree, target, preset="core", force=True)
    pyerofs.open(target, profile="core").close()
    pyerofs.build(tree, target, preset="dax", force=True)
    with pyerofs.open(target) as image:
        pieces = [piece for entry in image.root.rglob("*") if entry.is_file() for piece in entry.extents()]
        assert {(piece.blob_offset or 0) % 4096 for piece in pieces} == {0}


def test_what_is_given_goes_before_a_preset(tree: Path, target: Path) -> None:
    def build(**options: Any) -> bytes:
        pyerofs.build(tree, target, force=True, **options)
        return target.read_bytes()

    assert build(preset="small", compress="zstd", cluster=4096) == build(compress="zstd", cluster=4096)
    assert build(preset="balanced", tail_packing=True) == build(compress="zstd", tail_packing=True)
    assert build(preset="fast", fragments=True) == build(compress="lz4")
    assert build(preset="balanced", compress="none") == build()
    assert (
        build(preset="core", fingerprint=True, xattrs="default", target_kernel="6.6", holes=True) == build()
    )


def test_the_command_line_says_the_same(tree: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pyerofs.build(tree, target, compress="zstd,level=9", cluster=131072, fragments=False)
    expected = target.read_bytes()
    for words in (
        ["-zzstd,9", "-C131072", "--no-fragments"],
        ["--compress", "zstd,level=9", "--cluster", "128k", "--no-fragments"],
        ["--preset", "balanced", "-zzstd,level=9", "-C", "128K", "--no-fragments"],
    ):
        assert app.run(["build", "-f", *words, str(tree), str(target)]) == 0
        assert target.read_bytes() == expected
    assert "Linux 6.10 and newer (Zstandard clusters)" in capfd.readouterr().out
    pyerofs.build(tree, target, compress="zstd", fragments="all", force=True)
    expected = target.read_bytes()
    for words in (["--all-fragments"], ["--preset", "balanced", "--fragments", "--all-fragments"]):
        assert app.run(["build", "-f", "-zzstd", *words, str(tree), str(target)]) == 0
        assert target.read_bytes() == expected
    command = ["build", "-f", "-zzstd", "--all-fragments", "--no-fragments", str(tree), str(target)]
    assert app.run(command) == 2
    assert "--all-fragments needs fragments" in capfd.readouterr().err
    pyerofs.build(tree, target, compress="zstd", metabox=16384, force=True)
    expected = target.read_bytes()
    assert app.run(["build", "-f", "--explain", "-z", "zstd", "--metabox=16k", str(tree), str(target)]) == 0
    assert target.read_bytes() == expected
    out = capfd.readouterr().out
    assert "Linux 6.17 and newer (compressed inodes)" in out
    assert "Linux 6.17  compressed inodes (to do without: build without a metabox)" in out
    assert app.run(["build", "-f", "-z", "lzma", "--tail-packing", "--json", str(tree), str(target)]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["stored_bytes"] + report["metadata_bytes"] == report["bytes"]
    assert report["target_kernel"] == "6.6"
    assert {"name", "first_kernel", "remedy"} == report["features"][0].keys()


def test_explain_names_the_kernel_and_the_remedy_of_each_feature(
    tree: Path, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["build", "-v", "--explain", "-z", "zstd", str(tree), str(target)]) == 0
    out = capfd.readouterr().out
    assert "made for Linux 6.12" in out
    assert "Linux 6.10  Zstandard clusters (to do without: compress with lz4, or not at all)" in out
    assert out.index("Zstandard clusters (to") < out.index("fragments (to do without: build without")
    assert "stored in" in out


def test_rules_choose_by_path_and_the_last_one_counts(tree: Path, target: Path) -> None:
    rules: list[tuple[str, str | Compression | None]] = [
        ("*", "lz4,cluster=4k"),
        ("/small/", "none"),
        ("/small/7*", Compression("deflate")),
        ("text", "lzma"),
    ]
    (tree / "small/7large").write_bytes(TEXT)
    report = pyerofs.build(tree, target, compress="zstd", rules=rules)
    assert report.oldest_kernel == (6, 10)
    assert algorithms(target) == {"lzma", "deflate"}
    with pyerofs.open(target) as image:
        for name, algorithm in (
            ("text", "lzma"),
            ("small/7large", "deflate"),
            ("small/8", None),
            ("noise", None),
        ):
            assert {piece.algorithm for piece in (image / name).extents()} == {algorithm}, name
    said = target.read_bytes()
    words = [f"--rule={pattern}={how}" for pattern, how in rules[:2]]
    words += ["--rule=/small/7*=deflate", "--rule", "text=lzma", "-z", "zstd"]
    assert app.run(["build", "-f", *words, str(tree), str(target)]) == 0
    assert target.read_bytes() == said


def test_a_rule_that_says_the_usual_changes_nothing(tree: Path, target: Path) -> None:
    pyerofs.build(tree, target, compress="zstd,level=5")
    usual = target.read_bytes()
    pyerofs.build(tree, target, compress="zstd,level=5", rules=[("small/", "zstd,level=5")], force=True)
    assert target.read_bytes() == usual


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("x", "'x' is not PATTERN=ALG"),
        ("=lz4", "not PATTERN"),
        ("x=zip", "not PATTERN"),
        ("!x=lz4", "'!x' is not"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    tree: Path, target: Path, rule: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["build", "--rule", rule, str(tree), str(target)]) == 2
    assert message in capfd.readouterr().err
    assert not target.exists()


def test_progress_tells_what_is_stored(tree: Path, target: Path) -> None:
    told: list[Any] = []
    report = pyerofs.build(tree, target, compress="zstd", progress=told.append)
    stored = [state.stored for state in told]
    assert stored == sorted(stored)
    assert stored[-1] == report.stored_bytes
