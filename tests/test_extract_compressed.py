"""Extraction of images that mkfs.erofs compresses: whole trees, damaged clusters, and memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

import pyerofs
from grid_trees import prose
from judges import as_tree, assert_same, of_directory
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers

# The options of each codec, with clusters of a size that files here have several of.
CODECS = {
    "lz4": ("-zlz4", "-C65536"),
    "lz4hc": ("-zlz4hc", "-C16384", "-Eztailpacking"),
    "deflate": ("-zdeflate", "-C65536", "-Efragments"),
    "zstd": ("-zzstd", "-C65536", "-Efragments,dedupe"),
    "lzma": ("-zlzma", "-C65536", "-Eall-fragments"),
}
MB = 1 << 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that compress, do not, and are larger than what one thread takes on at once."""
    root = tmp_path_factory.mktemp("compressed") / "tree"
    (root / "small").mkdir(parents=True)
    for number in range(40):
        (root / f"small/{number}").write_bytes(prose(number, 37 * number**2))
    for name in ("first", "second", "third"):
        (root / name).write_bytes(prose(name, 700_000))
    (root / "noise").write_bytes(random.Random(5).randbytes(300_000))
    (root / "large").write_bytes(prose("large", 3 * MB) * 4)
    (root / "link").symlink_to("first")
    os.link(root / "second", root / "two")
    for path in (*root.rglob("*"), root):
        # mkfs.erofs gives small inodes whole seconds.
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return root


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_tree_comes_out_as_it_went_in(
    codec: str, tree: Path, tmp_path: Path, peers: Peers
) -> None:
    image = tmp_path / "image"
    peers.mkfs(image, tree, "--quiet", *CODECS[codec])
    expected = as_tree(of_directory(tree))
    archives = set()
    for threads in (1, 3):
        out, archive = tmp_path / f"out{threads}", tmp_path / f"{threads}.tar"
        report = pyerofs.extract(image, out, threads=threads)
        assert_same(expected, as_tree(of_directory(out)), f"extracted by {threads} threads")
        assert (report.failed, report.losses) == (0, ())
        assert pyerofs.extract(image, None, threads=threads).bytes == report.bytes
        assert app.run(["extract", "-q", f"-j{threads}", str(image), "--tar", str(archive)]) == 0
        archives.add(archive.read_bytes())
    assert len(archives) == 1
    with tarfile.open(tmp_path / "1.tar") as opened:
        for name in ("large", "noise", "small/39"):
            file = opened.extractfile(name)
            assert file is not None
            assert file.read() == (tree / name).read_bytes()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_cluster_costs_one_file_and_is_named(
    codec: str, threads: int, tree: Path, tmp_path: Path, peers: Peers, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image"
    peers.mkfs(image, tree, "--quiet", *CODECS[codec][:2])
    with pyerofs.open(image) as opened:
        bad = {name: opened / name for name in ("second", "large")}
        places = [next(one for one in entry.extents() if one.kind == "encoded") for entry in bad.values()]
        nids = {name: entry.nid for name, entry in bad.items()}
    with open(image, "r+b") as file:
        for place in places:
            assert place.blob_offset is not None
            file.seek(place.blob_offset)
            file.write(b"\xff" * (place.stored or 0))
    failed: list[OSError] = []
    pyerofs.extract(image, tmp_path / "out", threads=threads, on_error=failed.append)
    by_name = {str(error.filename): error for error in failed}
    assert by_name.keys() <= {"/second", "/two", "/large"}
    assert len(by_name) == 3
    for name in ("second", "large"):
        error = by_name["/two" if f"/{name}" not in by_name else f"/{name}"]
        assert isinstance(error, pyerofs.CorruptImage)
        assert (error.nid, error.extent) == (nids[name], 0)
        assert error.offset is not None
    gone = (b"second", b"two", b"large")
    left = {path: entry for path, entry in as_tree(of_directory(tree)).items() if path not in gone}
    assert_same(left, as_tree(of_directory(tmp_path / "out")), "what is left")
    assert app.run(["extract", "--test", f"-j{threads}", str(image)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    for line, name in zip(sorted(told), ("large", "second"), strict=True):
        assert line.startswith(f"pyerofs: {image}: /{name}: corrupt image: ")
        assert f"nid {nids[name]}, " in line
        assert "extent" in line


MEMORY = """
import json, sys
import pyerofs
from pathlib import Path
image, target, threads = sys.argv[1:]
if target.endswith(".tar"):
    with open(target, "wb") as file:
        pyerofs.extract_tar(image, file.fileno(), threads=int(threads))
else:
    pyerofs.extract(image, None if target == "-" else target, threads=int(threads))
status = Path("/proc/self/status").read_text()
print(json.dumps(int(status.split("VmHWM:")[1].split()[0]) * 1024))
"""


@pytest.mark.parametrize(
    "options", [("-zlzma", "-C1048576"), ("-zzstd", "-C1048576")], ids=lambda one: one[0]
)
def test_memory_does_not_grow_with_extents_or_images(
    options: tuple[str, ...], tmp_path: Path, peers: Peers
) -> None:
    (tmp_path / "tree").mkdir()
    word = prose("memory", 4096)
    for number in range(3):
        # Clusters of 1 MiB decode to as much as Linux allows, 12 MiB.
        (tmp_path / f"tree/{number}").write_bytes((word + b"%d" % number) * 7000)
    image = tmp_path / "image"
    peers.mkfs(image, tmp_path / "tree", "--quiet", *options)
    for target in ("-", "out", "x.tar"):
        for threads in (1, 2, 64):
            place = target if target == "-" else str(tmp_path / f"{threads}{target}")
            words = [sys.executable, "-c", MEMORY, str(image), place, str(threads)]
            taken = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
            cache = pyerofs.limits()["decoded_cache_bytes"]
            assert taken < 150e6 + cache, (target, threads)
