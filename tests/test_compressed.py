"""Compressed images from Python and on the command line: reading, facts, damage."""

from __future__ import annotations

import io
import json
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
from pyerofs.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers

SMALL = 300
LARGE = 9 << 20
#: What mkfs.erofs is told, and which algorithms files may be compressed with then.
KINDS = {
    "lz4": (["-zlz4hc,1", "-C65536"], ["lz4"]),
    "lzma": (["-zlzma,1", "-C16384"], ["lzma"]),
    "deflate": (["-zdeflate,1", "-C65536", "-Eztailpacking"], ["deflate"]),
    "zstd": (["-zzstd,3", "-C1048576", "-Efragments,dedupe"], ["zstd"]),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files, one large file of words, one that can't be compressed."""
    top = tmp_path_factory.mktemp("tree")
    draw = random.Random(4)
    words = [draw.randbytes(draw.randint(2, 9)).hex() for _ in range(2000)]
    (top / "small").mkdir()
    for number in range(SMALL):
        (top / "small" / f"{number:03}").write_text(" ".join(draw.choices(words, k=number * 9)))
    (top / "large").write_text(" ".join(draw.choices(words, k=LARGE // 11)))
    (top / "noise").write_bytes(draw.randbytes(200_000))
    (top / "empty").touch()
    return top


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tree: Path, peers: Peers, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """An image of the tree, and its algorithms."""
    options, algorithms = KINDS[request.param]
    image = tmp_path_factory.mktemp("image") / f"{request.param}.erofs"
    peers.mkfs(image, tree, *options)
    return image, algorithms


def names_of(tree: Path) -> list[str]:
    """Every file below, as a path in the image."""
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize(("threads", "budget"), [(1, 64 << 20), (2, 64 << 20), (4, 1 << 20), (None, 1)])
def test_many_compressed_files_come_whole_and_in_order(
    tree: Path, made: tuple[Path, list[str]], threads: int | None, budget: int
) -> None:
    # Each is asked for twice, the second time in another neighbourhood.
    names = [*names_of(tree), *reversed(names_of(tree))]
    with pyerofs.open(made[0]) as image:
        found = list(image.read_many(names, threads=threads, budget=budget))
    assert [name for name, _ in found] == names
    assert all(content == (tree / name).read_bytes() for name, content in found)


def test_an_open_file_is_read_in_pieces_and_anywhere(tree: Path, made: tuple[Path, list[str]]) -> None:
    expected = (tree / "large").read_bytes()
    with pyerofs.open(made[0]) as image:
        entry = image / "large"
        with entry.open("rb") as file:
            assert b"".join(iter(lambda: file.read(70_001), b"")) == expected
            draw = random.Random(1)
            for _ in range(50):
                start = file.seek(draw.randrange(len(expected) + 10))
                assert file.read(5000) == expected[start : start + 5000]
        with entry.open("rb", buffering=0) as raw:
            buffer = bytearray(3_000_001)
            raw.seek(-3_000_000, io.SEEK_END)
            assert raw.readinto(buffer) == 3_000_000
            assert buffer[:-1] == expected[-3_000_000:]
        assert entry.read_text() == expected.decode()
        assert bytes(entry.memoryview()) == expected
        with pytest.raises(BufferError, match="one piece"):
            entry.memoryview(allow_copy=False)


def test_other_threads_run_while_a_file_is_decoded(made: tuple[Path, list[str]]) -> None:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.0005):
            ticks.append(time.perf_counter())

    with pyerofs.open(made[0], limits={"decoded_cache_bytes": 0}) as image:
        thread = threading.Thread(target=tick)
        thread.start()
        try:
            times = []
            for _ in range(20):
                started = time.perf_counter()
                (image / "large").read_bytes()
                times.append((started, time.perf_counter()))
        finally:
            done.set()
            thread.join()
    # One that waited for the interpreter all the time would tick between two reads only.
    assert any(start < tick < end - 0.001 for start, end in times for tick in ticks)


def check_whole(tree: Path, image: pyerofs.Image) -> None:
    """Every file is what it is in the tree, read whole and in small steps."""
    for name, content in image.read_many(names_of(tree), threads=2):
        assert content == (tree / str(name)).read_bytes()
    with (image / "large").open("rb") as file:
        file.seek(LARGE // 2)
        assert file.read(70_001) == (tree / "large").read_bytes()[LARGE // 2 :][:70_001]


@pytest.mark.parametrize("mmap", [False, True])
def test_a_compressed_image_may_begin_anywhere_in_a_larger_file(
    tree: Path, made: tuple[Path, list[str]], mmap: bool, tmp_path: Path
) -> None:
    shift = 12_345
    data = b"before".ljust(shift, b"?") + made[0].read_bytes() + b"behind" * 1000
    larger = tmp_path / "larger"
    larger.write_bytes(data)
    with pyerofs.open(larger, offset=shift, mmap=mmap) as image:
        check_whole(tree, image)
    with pyerofs.open(data, offset=shift) as image:
        check_whole(tree, image)
    assert app.run(["extract", "--test", "--offset", str(shift), str(larger)]) == 0


@pytest.mark.root
@pytest.mark.parametrize("shift", [0, 1 << 20])
def test_a_compressed_image_may_lie_on_a_block_device(
    tree: Path, made: tuple[Path, list[str]], shift: int, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(shift) + made[0].read_bytes())
    losetup = ["losetup", "--find", "--show", "--read-only", str(disk)]
    attached = subprocess.run(losetup, capture_output=True, text=True, check=False)
    if attached.returncode:
        pytest.skip(f"no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    try:
        for mmap in (False, True):
            with pyerofs.open(device, offset=shift, mmap=mmap) as image:
                check_whole(tree, image)
        assert app.run(["extract", "--test", "--offset", str(shift), device]) == 0
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_the_superblock_tells_the_algorithms_and_the_kernel_for_them(
    made: tuple[Path, list[str]], run: Any
) -> None:
    path, algorithms = made
    with pyerofs.open(path) as image:
        assert [algorithm.name for algorithm in image.algorithms] == algorithms
        assert image.compressed
        needed = {"lz4": (5, 4), "lzma": (5, 16), "deflate": (6, 6), "zstd": (6, 10)}
        assert image.oldest_kernel >= max(needed[name] for name in algorithms)
        assert (image.packed_nid is not None) == ("zstd" in algorithms)
    text = run("info", str(path))[1].decode()
    assert f"Compression:   {algorithms[0]}" in text
    facts = json.loads(run("info", "--json", str(path))[1])
    assert [algorithm["name"] for algorithm in facts["algorithms"]] == algorithms


def test_usage_counts_what_is_there(tree: Path, made: tuple[Path, list[str]], run: Any) -> None:
    with pyerofs.open(made[0]) as image:
        usage = image.usage()
    names = names_of(tree)
    assert (usage.files, usage.directories) == (len(names), 2)
    assert (usage.symlinks, usage.others, usage.hard_links) == (0, 0, 0)
    assert usage.size == sum((tree / name).stat().st_size for name in names)
    assert 0 < usage.compressed < usage.files
    assert 0 < usage.stored < made[0].stat().st_size + 4096
    text = run("info", "--usage", str(made[0]))[1].decode()
    assert f"{len(names)}, {usage.compressed} of them compressed" in text
    assert json.loads(run("info", "--usage", "--json", str(made[0]))[1])["usage"] == usage._asdict()


def test_usage_agrees_with_dump_erofs(made: tuple[Path, list[str]], peers: Peers) -> None:
    lines = peers.dump(made[0], "-S").splitlines()
    said = dict(line.split(":", 1) for line in lines if line.startswith("Filesystem ") and ":" in line)
    with pyerofs.open(made[0]) as image:
        usage = image.usage()
    assert int(said["Filesystem regular file count"]) == usage.files
    assert int(said["Filesystem directory count"]) == usage.directories


def test_stat_and_ls_tell_what_a_compressed_file_takes(made: tuple[Path, list[str]], run: Any) -> None:
    path, algorithms = made
    facts = json.loads(run("stat", "--json", str(path), "large")[1])
    assert facts["layout"].startswith("compressed")
    assert 0 < facts["stored"] < facts["size"]
    kinds = {extent["algorithm"] for extent in facts["extents"] if extent["kind"] == "encoded"}
    assert kinds - {None} == set(algorithms)
    ends = [extent["offset"] + extent["length"] for extent in facts["extents"]]
    assert [extent["offset"] for extent in facts["extents"]] == [0, *ends[:-1]]
    assert ends[-1] == facts["size"]

    short = run("stat", str(path), "large")[1].decode().splitlines()
    assert f"Stored:      {facts['stored']} ({100 * facts['stored'] / facts['size']:.1f} %)" in short
    every = run("stat", "--extents", str(path), "large")[1].decode().splitlines()
    count = len(facts["extents"])
    assert any(line.startswith(f"Extents:     {count}: ") and algorithms[0] in line for line in short)
    assert sum(line.startswith("Extent: ") for line in every) == count
    assert sum(line.startswith("Extent: ") for line in short) == (count if count <= 8 else 0)

    assert f"{facts['stored']} large" in run("ls", "-s", str(path))[1].decode()
    row = next(row for row in run("ls", "-ls", str(path))[1].decode().splitlines() if row.endswith(" large"))
    assert row.split()[0] == str(facts["stored"])
    assert row.split()[5] == str(facts["size"])


def test_a_damaged_cluster_is_named_and_harms_its_file_only(
    tree: Path, made: tuple[Path, list[str]], tmp_path: Path, run: Any
) -> None:
    with pyerofs.open(made[0]) as image:
        extent = next(extent for extent in (image / "large").extents()[1:] if extent.kind == "encoded")
        nid = (image / "large").nid
    assert extent.blob_offset is not None
    data = bytearray(made[0].read_bytes())
    data[extent.blob_offset : extent.blob_offset + extent.stored] = bytes(extent.stored)
    bad = tmp_path / "bad.erofs"
    bad.write_bytes(data)
    with pyerofs.open(bad) as image:
        found = dict(image.read_many(["large", "noise", "small/007"]))
        error = found["large"]
        assert isinstance(error, pyerofs.CorruptImage)
        assert (error.filename, error.nid, error.extent) == ("large", nid, extent.offset)
        assert found["noise"] == (tree / "noise").read_bytes()
        # What comes before the damage is read.
        with (image / "large").open("rb") as file:
            before = file.read(extent.offset)
            assert before == (tree / "large").read_bytes()[: extent.offset]
            with pytest.raises(pyerofs.CorruptImage):
                file.read(1)
    status, out, err = run("cat", str(bad), "large", "noise")
    assert status == 1
    assert out.endswith((tree / "noise").read_bytes())
    assert err.count("\n") == 1
    assert err.startswith(f"pyerofs: {bad}: /large: ")
    assert run("stat", str(bad), "large")[0] == 0


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run the program in this process: its status, standard output and standard error."""

    def call(*words: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        status = app.run(words)
        out, err = capfdbinary.readouterr()
        return status, out, err.decode()

    return call
