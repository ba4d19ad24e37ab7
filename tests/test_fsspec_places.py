"""Where the images of the filesystem `erofs://` may lie, and which processes and threads may share it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import pyerofs
from fsspec_tools import CONTENT, make_tree
from pyerofs.fsspec import ErofsFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = make_tree(tmp_path_factory.mktemp("fsspec") / "tree")
    made = tree.parent / "tree.erofs"
    pyerofs.build(tree, made)
    return str(made)


# Where images may lie


class Counting(MemoryFileSystem):
    """A store far away: files in memory, and every request for a range on record."""

    protocol = "counting"
    store: dict[str, Any] = {}  # noqa: RUF012 - MemoryFileSystem keeps its files in the class
    pseudo_dirs = [""]  # noqa: RUF012
    requests: list[tuple[int, int]] = []  # noqa: RUF012
    lock = threading.Lock()
    delay = 0.0
    waiting = 0
    most_waiting = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(path.removeprefix("counting://"))

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        assert start is not None
        assert end is not None
        kind = type(self)
        with self.lock:
            self.requests.append((start, end))
            kind.waiting += 1
            kind.most_waiting = max(kind.most_waiting, kind.waiting)
        time.sleep(self.delay)
        with self.lock:
            kind.waiting -= 1
        with self.open(path, "rb") as file:
            file.seek(start)
            return bytes(file.read(end - start))


@pytest.fixture
def store(path: str) -> Iterator[type[Counting]]:
    fsspec.register_implementation("counting", Counting, clobber=True)
    Counting().pipe("/bucket/tree.erofs", Path(path).read_bytes())
    Counting.requests.clear()
    Counting.most_waiting = 0
    yield Counting
    Counting.store.clear()
    Counting.delay = 0.0


class Asynchronous(AsyncFileSystem):
    """A store whose methods are coroutines, as those of s3fs and of fsspec's own HTTP filesystem."""

    protocol = "asynchronous"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path.removeprefix("asynchronous:/")

    async def _info(self, path: str, **_options: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"name": path, "size": os.stat(path).st_size, "type": "file"}

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_options: Any
    ) -> bytes:
        await asyncio.sleep(0)
        return Path(path).read_bytes()[start:end]


def test_the_entry_point_finds_the_class() -> None:
    code = "import fsspec; print(fsspec.get_filesystem_class('erofs').__module__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "pyerofs.fsspec.filesystem"


@pytest.mark.parametrize(
    "kind", ["str", "path", "url", "bytes", "file", "openfile", "image", "remote", "cached"]
)
@pytest.mark.usefixtures("store")
def test_every_kind_of_fo_gives_the_same_bytes(path: str, kind: str) -> None:
    with open(path, "rb") as file, pyerofs.open(path) as image:
        given: Any = {
            "str": path,
            "path": Path(path),
            "url": f"file://{path}",
            "bytes": Path(path).read_bytes(),
            "file": file,
            "openfile": fsspec.open(path),
            "image": image,
            "remote": "counting://bucket/tree.erofs",
            "cached": "simplecache::counting://bucket/tree.erofs",
        }[kind]
        fs = fsspec.filesystem("erofs", fo=given)
        assert fs.cat_file("data/bytes") == CONTENT
        assert fs.ukey("data/bytes") != fs.ukey("lines.txt")
        fs.close()
        assert image.closed is False


@pytest.mark.usefixtures("store")
def test_urls_are_chained(path: str) -> None:
    for url in (f"erofs://data/bytes::{path}", f"erofs:///data/bytes::file://{path}"):
        with fsspec.open(url) as file:
            assert file.read() == CONTENT
    with fsspec.open("erofs://data/bytes::counting://bucket/tree.erofs") as file:
        assert file.read() == CONTENT
    with fsspec.open("erofs://lines.txt::simplecache::counting://bucket/tree.erofs", "rt") as file:
        assert file.read() == "one\ntwo\nthree\n"
    fs = fsspec.filesystem(
        "erofs",
        fo="bucket/tree.erofs",
        target_protocol="counting",
        target_options={"use_listings_cache": False},
    )
    assert fs.find("data/deep") == ["data/deep/er/file.csv"]
    files = fsspec.open_files(f"erofs://data/**/*.csv::{path}", "rt")
    assert [file.path for file in files] == ["data/deep/er/file.csv"]


def test_an_image_in_an_image_is_read_in_place(path: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/inner.erofs").write_bytes(Path(path).read_bytes())
    pyerofs.build(tmp_path / "tree", tmp_path / "outer.erofs")
    with fsspec.open(f"erofs://data/bytes::erofs://inner.erofs::file://{tmp_path}/outer.erofs") as file:
        assert file.read() == CONTENT


def test_another_filesystem_stands_on_it(path: str, tmp_path: Path) -> None:
    below = DirFileSystem("data", fsspec.filesystem("erofs", fo=path))
    assert below.cat_file("bytes") == CONTENT
    assert below.find("deep") == ["deep/er/file.csv"]
    cached = fsspec.filesystem(
        "filecache", target_protocol="erofs", target_options={"fo": path}, cache_storage=str(tmp_path)
    )
    assert cached.cat_file("data/bytes") == CONTENT


def test_an_image_inside_a_file_and_with_devices(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192) + Path(path).read_bytes())
    fs = fsspec.filesystem("erofs", fo=str(tmp_path / "file"), offset=8192)
    assert fs.cat_file("data/bytes") == CONTENT


def test_a_remote_image_is_read_by_few_ranges(store: type[Counting], tmp_path: Path) -> None:
    big = os.urandom(20 << 20)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(big)
    (tmp_path / "tree/small").write_bytes(b"small")
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    Counting().pipe("/bucket/big.erofs", (tmp_path / "image").read_bytes())
    fs = fsspec.filesystem("erofs", fo="counting://bucket/big.erofs")
    assert fs.cat_file("small") == b"small"
    assert fs.ls("")
    assert sum(end - start for start, end in store.requests) < 1 << 20
    assert len(store.requests) <= 4
    store.requests.clear()
    assert fs.cat_file("big", 10_000_000, 10_000_100) == big[10_000_000:10_000_100]
    assert sum(end - start for start, end in store.requests) <= 2 << 18
    store.requests.clear()
    assert fs.cat_file("big") == big
    assert len(store.requests) <= 4


def test_many_files_of_a_remote_image_are_asked_for_at_once(store: type[Counting], tmp_path: Path) -> None:
    names = [f"file{number}" for number in range(32)]
    (tmp_path / "tree").mkdir()
    for name in names:
        (tmp_path / "tree" / name).write_bytes(name.encode() * 10_000)
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    Counting().pipe("/bucket/many.erofs", (tmp_path / "image").read_bytes())
    fs = fsspec.filesystem("erofs", fo="counting://bucket/many.erofs", block_size=4096)
    assert fs.find("") == sorted(names)
    store.delay = 0.01
    store.most_waiting = 0
    assert fs.cat_ranges([f"{name}" for name in names], 40_000, 40_007) == [
        (name.encode() * 10_000)[40_000:40_007] for name in names
    ]
    assert store.most_waiting > 2
    store.most_waiting = 0
    assert fs.cat(names) == {name: name.encode() * 10_000 for name in names}
    assert store.most_waiting > 2
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([*names, "missing"], 0, 1, on_error="raise")


def test_an_open_file_of_a_remote_image_asks_for_much_at_once(store: type[Counting], tmp_path: Path) -> None:
    big = os.urandom(8 << 20)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(big)
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    Counting().pipe("/bucket/big.erofs", (tmp_path / "image").read_bytes())
    fs = fsspec.filesystem("erofs", fo="counting://bucket/big.erofs")
    with fs.open("big") as file:
        store.requests.clear()
        assert b"".join(iter(lambda: file.read(5000), b"")) == big
    assert len(store.requests) <= 8


# Asynchronous neighbours


def test_an_image_in_an_asynchronous_store_is_read_by_every_way(path: str) -> None:
    fsspec.register_implementation("asynchronous", Asynchronous, clobber=True)
    with fsspec.open(f"erofs://data/bytes::asynchronous:/{path}") as file:
        assert file.read() == CONTENT
    fs = fsspec.filesystem("erofs", fo=f"asynchronous:/{path}")
    assert fs.cat(["data/bytes", "lines.txt"]) == {"data/bytes": CONTENT, "lines.txt": b"one\ntwo\nthree\n"}
    assert fs.cat_ranges(["data/bytes"] * 20, list(range(20)), 30) == [CONTENT[n:30] for n in range(20)]
    assert pickle.loads(pickle.dumps(fs)).cat_file("lines.txt") == b"one\ntwo\nthree\n"

    async def inside() -> bytes:
        # Whoever calls from a loop of his own blocks it, but is answered.
        return bytes(fs.cat_file("data/deep/er/file.csv"))

    assert asyncio.run(inside()) == b"a,b\n1,2\n3,4\n"


def test_it_can_be_made_asynchronous(path: str) -> None:
    wrapper = pytest.importorskip("fsspec.implementations.asyn_wrapper")

    async def ask() -> list[Any]:
        fs = wrapper.AsyncFileSystemWrapper(fsspec.filesystem("erofs", fo=path), asynchronous=True)
        several = asyncio.gather(*(fs._cat_file("data/bytes", start, start + 2) for start in range(20)))
        return [await several, await fs._find("data/deep"), (await fs._info("lines.txt"))["size"]]

    assert asyncio.run(ask()) == [
        [CONTENT[start : start + 2] for start in range(20)],
        ["data/deep/er/file.csv"],
        14,
    ]


def test_a_replaced_image_is_seen_by_the_next_instance(path: str, tmp_path: Path) -> None:
    target = tmp_path / "image"
    target.write_bytes(Path(path).read_bytes())
    old = fsspec.filesystem("erofs", fo=str(target))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/lines.txt").write_text("new")
    pyerofs.build(tmp_path / "tree", target, force=True)
    new = fsspec.filesystem("erofs", fo=str(target))
    assert new.cat_file("lines.txt") == b"new"
    assert old.cat_file("lines.txt") == b"one\ntwo\nthree\n"
    assert old == new  # by their arguments, as all filesystems
    assert old.ukey("lines.txt") != new.ukey("lines.txt")
    assert old.checksum("lines.txt") != new.checksum("lines.txt")


# Processes and threads


def read_there(fs: ErofsFileSystem, name: str) -> bytes:
    return bytes(fs.cat_file(name))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_worker_processes_get_the_filesystem(path: str, method: str, kind: str) -> None:
    fs = ErofsFileSystem(path if kind == "path" else Path(path).read_bytes())
    assert fs.exists("data/bytes")
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(read_there, [(fs, "data/bytes"), (fs, "lines.txt")], chunksize=1)
    assert found == [CONTENT, b"one\ntwo\nthree\n"]


def test_a_filesystem_survives_json_and_pickle(path: str) -> None:
    fs = fsspec.filesystem("erofs", fo=path)
    for copy in (pickle.loads(pickle.dumps(fs)), fsspec.AbstractFileSystem.from_json(fs.to_json())):
        assert isinstance(copy, ErofsFileSystem)
        assert copy.cat_file("lines.txt") == b"one\ntwo\nthree\n"
        assert copy == fs
        assert copy.fsid == fs.fsid
    file = fsspec.open(f"erofs://lines.txt::{path}")
    with pickle.loads(pickle.dumps(file)) as opened:
        assert opened.read() == b"one\ntwo\nthree\n"


def test_an_open_image_travels_as_its_path(path: str) -> None:
    with pyerofs.open(path) as image:
        copy = pickle.loads(pickle.dumps(ErofsFileSystem(image)))
    assert copy.cat_file("lines.txt") == b"one\ntwo\nthree\n"


def test_a_file_object_does_not_travel(path: str) -> None:
    with open(path, "rb") as file, pytest.raises(TypeError):
        pickle.dumps(ErofsFileSystem(file))


@pytest.mark.usefixtures("store")
def test_many_threads_share_one_filesystem() -> None:
    fs = fsspec.filesystem("erofs", fo="counting://bucket/tree.erofs")
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: fs.cat(["data/bytes", "lines.txt"]), range(50)):
            assert found == {"data/bytes": CONTENT, "lines.txt": b"one\ntwo\nthree\n"}
