"""The filesystem `erofs://`: what it says and reads beside LocalFileSystem, and what it refuses."""

from __future__ import annotations

import errno
import io
import os
import pickle
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

import pyerofs
from cases import CASES
from fsspec_tools import CONTENT, make_tree
from pyerofs.fsspec import ErofsFile, ErofsFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trees import Trees


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("fsspec") / "tree")


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
