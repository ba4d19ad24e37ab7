"""The filesystem `erofs://`: what it says beside LocalFileSystem, where images may lie, what it refuses."""

from __future__ import annotations

import asyncio
import errno
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import pyerofs
import tiny
from cases import CASES
from pyerofs.fsspec import ErofsFile, ErofsFileSystem
from pyerofs.ranges import RangeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trees import Trees

CONTENT = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, directories and every kind of link."""
    root = tmp_path_factory.mktemp("fsspec") / "tree"
    (root / "data/deep/er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "lines.txt").write_text("one\ntwo\nthree\n")
    (root / "data/bytes").write_bytes(CONTENT)
    (root / "data/deep/er/file.csv").write_text("a,b\n1,2\n3,4\n")
    (root / "data/.hidden").write_text("h")
    (root / "data/none").touch()
    (root / "to-file").symlink_to("data/bytes")
    (root / "to-directory").symlink_to("data")
    (root / "nowhere").symlink_to("not/there")
    (root / "data/up").symlink_to("..")
    (root / "self").symlink_to("self")
    os.mkfifo(root / "pipe")
    os.link(root / "lines.txt", root / "data/lines-too")
    for path in (root / "lines.txt", root / "data"):
        os.utime(path, ns=(1_600_000_000_250_000_000, 1_600_000_000_250_000_000))
    return root


@pytest.fixture(scope="module")
def path(tree: Path) -> str:
    made = tree.parent / "tree.erofs"
    pyerofs.build(tree, made)
    return str(made)


@pytest.fixture
def fs(path: str) -> Iterator[ErofsFileSystem]:
    made = ErofsFileSystem(path)
    yield made
    made.close()


def comparable(info: dict[str, Any], root: str = "") -> dict[str, Any]:
    """An info without what an image cannot have in common with a directory."""
    kept = {key: value for key, value in info.items() if key not in ("created", "ino")}
    kept["name"] = info["name"].removeprefix(root).lstrip("/")
    if info["type"] == "directory" or (info["islink"] and info["type"] == "other"):
        # Directories take another space in each filesystem.
        del kept["size"]
    return kept


def told(question: Callable[[str], dict[str, Any]], path: str, root: str) -> Any:
    """The comparable info or the error's number, so that both can be compared."""
    try:
        return comparable(question(path), root)
    except OSError as error:
        return error.errno


# What it says, beside LocalFileSystem


def compare_with_local(fs: ErofsFileSystem, root: Path) -> int:
    """Ask both about every path of a tree; return how many there were."""
    local = LocalFileSystem()
    names = sorted(str(found.relative_to(root)) for found in root.rglob("*"))
    names = ["" if name == "." else name for name in ["", *names]]
    strip = partial(comparable, root=str(root))
    for name in names:
        there = f"{root}/{name}".rstrip("/")
        if not (os.path.realpath(there) + "/").startswith(f"{root}/"):
            continue  # leads out of the directory there, which nothing does here
        assert told(fs.info, name, "") == told(local.info, there, str(root)), name
        for method in ("exists", "lexists", "isdir", "isfile", "islink"):
            assert getattr(fs, method)(name) == getattr(local, method)(there), (method, name)
        if fs.isdir(name):
            assert {found["name"]: comparable(found) for found in fs.ls(name)} == {
                strip(found)["name"]: strip(found) for found in local.ls(there, detail=True)
            }, name
            assert sorted(fs.ls(name, detail=False)) == sorted(
                found.removeprefix(str(root)).lstrip("/") for found in local.ls(there, detail=False)
            ), name
        elif fs.isfile(name):
            assert fs.cat_file(name) == local.cat_file(there)
    return len(names)


def test_everything_said_is_what_the_local_filesystem_says(fs: ErofsFileSystem, tree: Path) -> None:
    assert compare_with_local(fs, tree) == 17


@pytest.mark.parametrize("case", [case for case in CASES if not case.memory], ids=str)
def test_the_trees_of_the_table_are_told_as_locally(case: Any, trees: Trees, tmp_path: Path) -> None:
    root, _ = trees.get(case)
    pyerofs.build(root, tmp_path / "image", fingerprint=False)
    fs = ErofsFileSystem(tmp_path / "image")
    compare_with_local(fs, root)
    for detail in (False, True):
        found = LocalFileSystem().find(str(root), withdirs=True, detail=detail)
        relative = {name.removeprefix(str(root)).lstrip("/") for name in found} - {""}
        assert set(fs.find("", withdirs=True, detail=detail)) == relative


@pytest.mark.parametrize(
    "pattern",
    ["*", "**", "data/*", "data/**", "**/*.csv", "d?ta", "[dl]*", "data/*/", "lines.txt", "no*", "*/*"],
)
@pytest.mark.parametrize("maxdepth", [None, 1, 2])
def test_globs_match_what_they_match_locally(
    fs: ErofsFileSystem, tree: Path, pattern: str, maxdepth: int | None
) -> None:
    found = LocalFileSystem().glob(f"{tree}/{pattern}", maxdepth=maxdepth)
    # Locally the directory itself counts for "**", here it has no name.
    relative = [name.removeprefix(str(tree)).lstrip("/") for name in found]
    assert fs.glob(pattern, maxdepth=maxdepth) == sorted(name for name in relative if name)


@pytest.mark.parametrize("maxdepth", [None, 1, 2])
@pytest.mark.parametrize("withdirs", [False, True])
@pytest.mark.parametrize("top", ["", "data", "to-directory", "lines.txt", "missing"])
def test_find_and_du_agree_with_the_local_filesystem(
    fs: ErofsFileSystem, tree: Path, top: str, withdirs: bool, maxdepth: int | None
) -> None:
    local = LocalFileSystem()
    there = f"{tree}/{top}".rstrip("/")
    found = local.find(there, maxdepth=maxdepth, withdirs=withdirs)
    relative = sorted({name.removeprefix(str(tree)).lstrip("/") for name in found} - {""})
    assert fs.find(top, maxdepth=maxdepth, withdirs=withdirs) == relative
    assert list(fs.find(top, maxdepth=maxdepth, withdirs=withdirs, detail=True)) == relative
    sizes = fs.du(top, total=False, maxdepth=maxdepth)
    files = {name: os.stat(tree / name).st_size for name in sizes if os.path.isfile(tree / name)}
    assert {name: sizes[name] for name in files} == files
    assert fs.du(top, maxdepth=maxdepth) == sum(sizes.values())


@pytest.mark.parametrize("topdown", [True, False])
@pytest.mark.parametrize("detail", [True, False])
def test_walk_agrees_with_the_local_filesystem(
    fs: ErofsFileSystem, tree: Path, topdown: bool, detail: bool
) -> None:
    def steps(found: Any) -> dict[str, tuple[list[str], list[str]]]:
        return {
            here.removeprefix(str(tree)).lstrip("/"): (sorted(directories), sorted(others))
            for here, directories, others in found
        }

    ours = steps(fs.walk("", topdown=topdown, detail=detail))
    assert ours == steps(LocalFileSystem().walk(str(tree), topdown=topdown, detail=detail))
    order = list(ours)
    assert (order.index("data") < order.index("data/deep")) == topdown


def test_a_walk_can_be_pruned(fs: ErofsFileSystem) -> None:
    for detail in (False, True):
        seen = []
        for here, directories, _ in fs.walk("/", detail=detail):
            seen.append(here)
            if "deep" in directories:
                del directories[directories.index("deep") if isinstance(directories, list) else "deep"]
        assert seen == ["", "data", "empty"]


def test_times_are_told_in_utc(fs: ErofsFileSystem) -> None:
    when = datetime.fromtimestamp(1_600_000_000.25, tz=UTC)
    assert fs.modified("lines.txt") == fs.created("lines.txt") == when


def test_spellings_of_a_path_are_one_path(fs: ErofsFileSystem) -> None:
    for spelling in (
        "/data/bytes",
        "erofs://data/bytes",
        "erofs:///data/bytes",
        "./data//bytes",
        "data/./bytes",
    ):
        assert fs.info(spelling)["name"] == "data/bytes"
        assert fs.size(spelling) == len(CONTENT)
    for root in ("", "/", "erofs://", "."):
        assert fs.info(root)["name"] == ""
    assert fs.unstrip_protocol("data/bytes") == "erofs://data/bytes"


def test_names_that_are_not_text_are_found_and_read(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / os.fsdecode(b"\xff\xfe")).write_text("raw")
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    fs = ErofsFileSystem(tmp_path / "image")
    (name,) = fs.find("")
    assert os.fsencode(name) == b"\xff\xfe"
    assert fs.cat_file(name) == b"raw"
    assert fs.ukey(name)


def test_tree_shows_the_image(fs: ErofsFileSystem) -> None:
    assert "file.csv" in fs.tree(recursion_limit=5, display_size=True)


# Content


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, None), (0, 10), (5, None), (-10, None), (-10, -5), (None, -1), (10, 5), (9**9, None)],
)
def test_parts_of_a_file_are_what_a_slice_is(fs: ErofsFileSystem, start: int | None, end: int | None) -> None:
    assert fs.cat_file("data/bytes", start, end) == CONTENT[start:end]
    assert fs.read_bytes("to-file", start, end) == CONTENT[start:end]


def test_many_files_come_in_one_call(fs: ErofsFileSystem) -> None:
    assert fs.cat("data/bytes") == CONTENT
    several = fs.cat(["data/bytes", "lines.txt"])
    assert several == {"data/bytes": CONTENT, "lines.txt": b"one\ntwo\nthree\n"}
    assert set(fs.cat("data/deep", recursive=True, on_error="omit")) == {"data/deep/er/file.csv"}
    with pytest.raises(FileNotFoundError):
        fs.cat(["data/bytes", "missing"])
    found = fs.cat(["data/bytes", "missing"], on_error="return")
    assert found["data/bytes"] == CONTENT
    assert isinstance(found["missing"], FileNotFoundError)
    assert set(fs.cat(["data/bytes", "missing"], on_error="omit")) == {"data/bytes"}


def test_ranges_of_many_files_come_in_one_call(fs: ErofsFileSystem) -> None:
    found = fs.cat_ranges(["data/bytes", "lines.txt", "missing"], [1, 0, 0], [3, 3, 1], max_gap=64)
    assert found[:2] == [CONTENT[1:3], b"one"]
    assert isinstance(found[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["missing"], 0, 1, on_error="raise")


def test_blocks_heads_and_tails(fs: ErofsFileSystem) -> None:
    assert fs.head("data/bytes", 10) == CONTENT[:10]
    assert fs.tail("data/bytes", 10) == CONTENT[-10:]
    assert fs.read_block("lines.txt", 1, 5, delimiter=b"\n") == b"two\n"
    assert fs.read_block("data/bytes", 100, None) == CONTENT[100:]
    assert fs.read_text("lines.txt") == "one\ntwo\nthree\n"


def test_an_open_file_is_a_buffered_reader(fs: ErofsFileSystem) -> None:
    with fs.open("to-file") as file:
        assert isinstance(file, ErofsFile)
        assert issubclass(ErofsFile, io.BufferedReader)
        assert (file.size, file.mode, file.full_name) == (len(CONTENT), "rb", "erofs://to-file")
        assert file.info()["size"] == file.size
        file.seek(-3, os.SEEK_END)
        assert file.read() == CONTENT[-3:]
        file.seek(300)
        copy = pickle.loads(pickle.dumps(file))
        assert copy.read(5) == file.read(5) == CONTENT[300:305]
        copy.close()
    with fs.open("lines.txt", "r", encoding="utf-8", newline="\n") as text:
        assert list(text) == ["one\n", "two\n", "three\n"]
    with fs.open("lines.txt", "rt", block_size=1) as text:
        assert text.read() == "one\ntwo\nthree\n"


def test_what_is_no_file_is_not_opened(fs: ErofsFileSystem) -> None:
    for name, kind in (
        ("data", IsADirectoryError),
        ("missing", FileNotFoundError),
        ("nowhere", FileNotFoundError),
    ):
        with pytest.raises(kind):
            fs.open(name)
        with pytest.raises(kind):
            fs.cat_file(name)
    with pytest.raises(OSError) as caught:
        fs.open("pipe")
    assert caught.value.errno == errno.ENXIO


def test_compression_is_undone_by_name(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file.gz").write_bytes(gzip.compress(CONTENT))
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    with fsspec.open("erofs://file.gz", fo=str(tmp_path / "image"), compression="infer") as file:
        assert file.read() == CONTENT


def test_get_brings_a_tree_to_the_disk(fs: ErofsFileSystem, tmp_path: Path) -> None:
    fs.get("data/deep", str(tmp_path / "deep"), recursive=True)
    assert (tmp_path / "deep/er/file.csv").read_text() == "a,b\n1,2\n3,4\n"
    fs.get_file("to-file", str(tmp_path / "new/file"))
    assert (tmp_path / "new/file").read_bytes() == CONTENT
    with io.BytesIO() as target:
        fs.get_file("lines.txt", target)
        assert target.getvalue() == b"one\ntwo\nthree\n"


def test_a_mapper_is_a_dictionary_of_the_files(fs: ErofsFileSystem) -> None:
    mapper = fs.get_mapper("data")
    assert mapper["bytes"] == CONTENT
    assert "deep/er/file.csv" in mapper
    with pytest.raises(KeyError):
        mapper["missing"]
    with pytest.raises(OSError) as caught:
        mapper["new"] = b""
    assert caught.value.errno == errno.EROFS


# What it refuses

MODIFYING: dict[str, tuple[Any, ...]] = {
    "chmod": ("lines.txt", 0o644),
    "copy": ("lines.txt", "new"),
    "cp": ("lines.txt", "new"),
    "cp_file": ("lines.txt", "new"),
    "delete": ("lines.txt",),
    "end_transaction": (),
    "link": ("lines.txt", "new"),
    "makedir": ("new",),
    "makedirs": ("data",),
    "mkdir": ("new",),
    "mkdirs": ("new",),
    "move": ("lines.txt", "new"),
    "mv": ("lines.txt", "lines.txt"),
    "pipe": ("new", b""),
    "pipe_file": ("lines.txt", b""),
    "put": (__file__, "new"),
    "put_file": (__file__, "new"),
    "rename": ("lines.txt", "new"),
    "rm": ("lines.txt",),
    "rm_file": ("lines.txt",),
    "rmdir": ("empty",),
    "start_transaction": (),
    "symlink": ("lines.txt", "new"),
    "touch": ("lines.txt",),
    "upload": (__file__, "new"),
    "write_bytes": ("new", b""),
    "write_text": ("new", ""),
}


@pytest.mark.parametrize("method", sorted(MODIFYING))
def test_whatever_would_modify_is_refused(fs: ErofsFileSystem, method: str) -> None:
    with pytest.raises(OSError) as caught:
        getattr(fs, method)(*MODIFYING[method])
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("mode", ["w", "wb", "a", "ab", "x", "xb", "r+", "r+b", "w+b"])
def test_opening_for_writing_is_refused(fs: ErofsFileSystem, mode: str) -> None:
    for name in ("lines.txt", "new"):
        with pytest.raises(OSError) as caught:
            fs.open(name, mode)
        assert caught.value.errno == errno.EROFS


def test_transactions_are_refused(fs: ErofsFileSystem) -> None:
    with pytest.raises(OSError) as caught, fs.transaction:
        pass
    assert caught.value.errno == errno.EROFS


def test_no_method_of_fsspec_was_forgotten() -> None:
    """Whatever a newer fsspec adds is looked at here: does it read or modify?"""
    # fmt: off
    reading = {
        "cat", "cat_file", "cat_ranges", "checksum", "clear_instance_cache", "created", "current",
        "disk_usage", "download", "du", "exists", "expand_path", "find", "from_dict", "from_json", "get",
        "get_file", "get_mapper", "glob", "head", "info", "invalidate_cache", "isdir", "isfile", "lexists",
        "listdir", "ls", "modified", "open", "read_block", "read_bytes", "read_text", "sign", "size",
        "sizes", "stat", "tail", "to_dict", "to_json", "tree", "ukey", "unstrip_protocol", "walk",
    }
    # fmt: on
    base = fsspec.AbstractFileSystem
    methods = {name for name in dir(base) if not name.startswith("_") and callable(getattr(base, name))}
    assert methods - reading - {"transaction_type"} <= set(MODIFYING)


# Broken images


def test_a_broken_directory_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "tree/data/wide").mkdir(parents=True)
    (tmp_path / "tree/good").write_text("good")
    for number in range(500):
        (tmp_path / f"tree/data/wide/file{number}").touch()
    pyerofs.build(tmp_path / "tree", tmp_path / "image")
    image = bytearray((tmp_path / "image").read_bytes())
    with pyerofs.open(tmp_path / "image") as opened:
        at = (opened / "data/wide").extents()[0][2]
    assert at is not None
    image[at : at + 12] = b"\xff" * 12
    fs = ErofsFileSystem(bytes(image))
    questions: list[Callable[[], Any]] = [
        lambda: fs.find(""),
        lambda: list(fs.walk("")),
        lambda: fs.glob("**"),
        lambda: fs.du(""),
        lambda: fs.exists("data/wide/file1"),
        lambda: fs.ls("data/wide"),
        lambda: fs.isfile("data/wide/file1"),
    ]
    for question in questions:
        with pytest.raises(pyerofs.CorruptImage):
            question()
    assert fs.find("", on_error="omit") == ["good"]
    seen: list[OSError] = []
    assert fs.find("", on_error=seen.append) == ["good"]
    assert [type(error) for error in seen] == [pyerofs.CorruptImage]
    assert fs.cat_file("good") == b"good"


def test_what_is_no_image_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9000))
    with pytest.raises(pyerofs.NotAnImage):
        fsspec.filesystem("erofs", fo=str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        fsspec.filesystem("erofs", fo=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="which image"):
        fsspec.open("erofs://lines.txt")


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


# The source by ranges


def counted(data: bytes, asked: list[tuple[int, int]], **options: Any) -> RangeSource:
    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    return RangeSource(fetch, len(data), "there", **options)


def test_blocks_are_fetched_once_and_neighbours_together() -> None:
    data, asked = os.urandom(10_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000)
    assert source.read_at(1500, 10) == data[1500:1510]
    assert source.read_at(900, 3000) == data[900:3900]
    assert source.read_at(9990, 100) == data[9990:]
    assert source.read_at(10_000, 1) == source.read_at(20_000, 5) == b""
    assert asked == [(1000, 2000), (0, 1000), (2000, 4000), (9000, 10_000)]


def test_the_cache_of_blocks_is_bounded() -> None:
    data, asked = os.urandom(100_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=3000)
    for start in (0, 1000, 2000, 0, 3000, 0, 1000):
        assert source.read_at(start, 10) == data[start : start + 10]
    assert [start for start, _ in asked] == [0, 1000, 2000, 3000, 1000]
    assert source.read_at(0, 100_000) == data
    assert asked[-1] == (0, 100_000)


def test_who_reads_on_gets_more_at_once() -> None:
    data, asked = os.urandom(100_500), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=128_000)
    read = b"".join(source.read_at(start, 300) for start in range(0, len(data), 300))
    assert read == data
    lengths = [end - start for start, end in asked]
    assert lengths[:6] == [1000, 2000, 4000, 8000, 8000, 8000]
    assert sum(lengths) == len(data)  # nothing twice


def test_who_jumps_gets_what_is_asked_for_and_no_more() -> None:
    data, asked = os.urandom(100_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=128_000)
    for start in (50_000, 10_000, 90_000, 30_000):
        source.read_at(start, 10)
    assert [end - start for start, end in asked] == [1000] * 4


def test_a_failed_request_is_tried_again() -> None:
    broken = True

    def fetch(start: int, end: int) -> bytes:
        if broken:
            raise ConnectionResetError("gone")
        return bytes(end - start)

    source = RangeSource(fetch, 100, "there", block_size=10)
    with pytest.raises(ConnectionResetError):
        source.read_at(0, 35)
    broken = False
    assert source.read_at(0, 35) == bytes(35)


def test_a_store_that_sends_the_wrong_length_is_an_error() -> None:
    source = RangeSource(lambda _start, _end: b"everything", 100, "there", block_size=10)
    assert source.read_at(0, 10) == b"everything"
    with pytest.raises(OSError, match="came back"):
        source.read_at(10, 20)


def test_threads_that_want_one_block_cause_one_request() -> None:
    asked: list[int] = []
    together = threading.Barrier(8)

    def fetch(start: int, end: int) -> bytes:
        asked.append(start)
        return bytes(end - start)

    source = RangeSource(fetch, 1000, "there", block_size=100)

    def read(_number: int) -> bytes:
        together.wait()
        return source.read_at(0, 1000)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {bytes(1000)}
    assert sum(asked.count(start) for start in range(0, 1000, 100)) == len(set(asked))


def test_tiny_images_are_read_too() -> None:
    assert ErofsFileSystem(tiny.sample()).find("")
