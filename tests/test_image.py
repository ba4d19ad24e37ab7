"""Reading through the Python interface: sources, entries as paths, files, threads."""

from __future__ import annotations

import errno
import importlib.resources
import io
import mmap
import os
import pathlib
import pickle
import stat
import subprocess
import sys
import threading
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

import pyerofs
import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "sample.erofs"
    made.write_bytes(tiny.sample())
    return made


@pytest.fixture
def image(path: pathlib.Path) -> Iterator[pyerofs.Image]:
    with pyerofs.open(path) as opened:
        yield opened


def test_import_loads_no_other_package_and_little_of_python() -> None:
    code = "import sys; before = set(sys.modules); import pyerofs; print(*set(sys.modules) - before)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(found) <= {"pyerofs", "__future__"}


def test_every_public_name_can_be_had() -> None:
    for name in pyerofs.__all__:
        assert getattr(pyerofs, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pyerofs.nonsense


@pytest.mark.parametrize(
    "kind", ["str", "path", "fd", "file", "bytes", "bytearray", "mmap", "view", "object", "ranges"]
)
def test_every_kind_of_source_gives_the_same_bytes(path: pathlib.Path, kind: str) -> None:
    class Seekable:
        """The least that a file object may be."""

        def __init__(self) -> None:
            self._file = io.BytesIO(path.read_bytes())

        def seek(self, offset: int, whence: int = 0) -> int:
            return self._file.seek(offset, whence)

        def read(self, size: int) -> bytes:
            return self._file.read(min(size, 1000))  # as short as a raw file may be

    class Ranges:
        """An object that has no position."""

        size = path.stat().st_size

        def read_at(self, offset: int, length: int) -> bytes:
            return path.read_bytes()[offset : offset + min(length, 1000)]

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        sources: dict[str, Any] = {
            "str": lambda: str(path),
            "path": lambda: path,
            "fd": lambda: file.fileno(),
            "file": lambda: file,
            "bytes": path.read_bytes,
            "bytearray": lambda: bytearray(path.read_bytes()),
            "mmap": lambda: mapped,
            "view": lambda: memoryview(path.read_bytes()),
            "object": Seekable,
            "ranges": Ranges,
        }
        image = pyerofs.open(sources[kind]())
        assert (image / "big").read_bytes() == tiny.BIG
        image.close()
        del image


@pytest.mark.parametrize(("wrong", "kind"), [(b"x" * 10**6, OSError), ("text", TypeError), (None, TypeError)])
def test_a_source_that_breaks_its_promise_is_an_error(wrong: Any, kind: type[Exception]) -> None:
    class Broken:
        def read_at(self, _offset: int, _length: int) -> bytes:
            return wrong  # type: ignore[no-any-return]

    with pytest.raises(kind):
        pyerofs.open(Broken())


def test_an_image_may_begin_anywhere_in_its_source() -> None:
    with pyerofs.open(bytes(8192) + tiny.sample(), offset=8192) as image:
        assert (image / "file.txt").read_bytes() == b"hello\nworld\n"


def test_a_descriptor_stays_the_caller_s(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    with pyerofs.open(descriptor) as image:
        os.close(descriptor)
        assert (image / "file.txt").read_text() == "hello\nworld\n"


def test_removing_the_file_changes_nothing(path: pathlib.Path) -> None:
    with pyerofs.open(path) as image:
        path.unlink()
        assert (image / "big").read_bytes() == tiny.BIG


@pytest.mark.parametrize("source", [3.5, None, True, object()])
def test_what_is_no_source_is_a_type_error(source: object) -> None:
    with pytest.raises(TypeError):
        pyerofs.open(source)  # type: ignore[arg-type]


def test_one_device_alone_is_not_taken_for_a_list(path: pathlib.Path) -> None:
    with pytest.raises(TypeError, match="sequence"):
        pyerofs.open(path, devices="blob")


def test_what_is_no_file_is_refused_and_a_pipe_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="regular file or a block device") as caught:
        pyerofs.open(pipe)
    assert caught.value.filename == str(pipe)
    with pytest.raises(IsADirectoryError):
        pyerofs.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        pyerofs.open(tmp_path / "nothing")


def test_an_exception_of_a_file_object_comes_through_as_it_was() -> None:
    class Bad(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise LookupError("of mine")

    with pytest.raises(LookupError, match="of mine"):
        pyerofs.open(Bad(tiny.sample()))


def test_the_superblock_s_facts(image: pyerofs.Image) -> None:
    assert image.block_size == 4096
    assert image.blocks == image.inodes + 1 == 14
    assert image.uuid == UUID(bytes=tiny.UUID)
    assert image.label == "tiny"
    assert image.build_time == tiny.EPOCH
    assert image.checksum is None
    assert image.features == ()
    assert image.oldest_kernel == (5, 4)
    assert image.devices == ()
    assert not image.compressed
    assert image.root_nid == 0
    assert "sample.erofs" in repr(image)


def test_features_come_with_the_first_kernel_that_reads_them() -> None:
    made = tiny.image(
        tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0))), compat=0x8000_0003, incompat=4
    )
    with pyerofs.open(made) as image:
        assert [(f.name, f.kind, f.first_kernel) for f in image.features] == [
            ("sb_chksum", "compat", (5, 5)),
            ("mtime", "compat", (5, 18)),
            ("unknown_0x80000000", "compat", None),
            ("chunked_file", "incompat", (5, 15)),
        ]
        assert image.oldest_kernel == (5, 15)
        assert image.checksum is not None


def test_a_closed_image_says_so_and_its_open_files_read_on(path: pathlib.Path) -> None:
    image = pyerofs.open(path)
    file = (image / "big").open("rb")
    image.close()
    image.close()
    assert image.closed
    assert "closed" in repr(image)
    with pytest.raises(ValueError, match="closed image"):
        (image / "big").stat()
    assert file.read() == tiny.BIG


def test_entries_take_the_pieces_of_a_path_as_pathlib_does(image: pyerofs.Image) -> None:
    for text in ("a/b.tar.gz", "/a//b/./c", "", ".", "a/..", "x/"):
        pure = pathlib.PurePosixPath("/") / text
        entry = image / text
        assert (str(entry), entry.name, entry.parts) == (str(pure), pure.name, pure.parts)
        assert (entry.suffix, entry.suffixes, entry.stem) == (pure.suffix, pure.suffixes, pure.stem)
        assert str(entry.parent) == str(pure.parent)
        assert [str(parent) for parent in entry.parents] == [str(parent) for parent in pure.parents]
    entry = image / "sub" / "inner.txt"
    assert str(entry.joinpath("/file.txt")) == "/file.txt"
    assert str(entry.with_name("x")) == "/sub/x"
    assert str(entry.with_suffix(".md")) == "/sub/inner.md"
    assert str(entry.relative_to(image / "sub")) == "inner.txt"
    assert entry.is_relative_to("/sub")
    assert not entry.is_relative_to(image / "other")
    assert entry.match("*.txt")
    assert image.joinpath("sub", "deep") == image / "sub/deep"
    assert len({image / "sub", image / "sub/", image.root / "sub"}) == 1
    assert sorted([image / "sub/b", image / "sub", image / "a"]) == [
        image / "a",
        image / "sub",
        image / "sub/b",
    ]
    with pytest.raises(TypeError):
        image / b"sub"  # type: ignore[operator]


def test_kinds_and_links(image: pyerofs.Image) -> None:
    assert image.root.is_dir()
    assert (image / "file.txt").is_file()
    assert (image / "pipe").is_fifo()
    assert (image / "null").is_char_device()
    assert not (image / "null").is_block_device()
    assert not (image / "pipe").is_socket()
    link = image / "link"
    assert link.is_symlink()
    assert link.is_file()
    assert not link.is_file(follow_symlinks=False)
    assert link.readlink() == "sub/inner.txt"
    assert link.samefile("sub/inner.txt")
    assert (image / "absolute" / "inner.txt").is_file()
    assert (image / "sub/../file.txt").is_file()
    assert not (image / "dangling").exists()
    assert (image / "dangling").exists(follow_symlinks=False)
    assert not (image / "loop").exists()
    assert not (image / "file.txt" / "x").exists()
    with pytest.raises(OSError, match="Not a symbolic link") as caught:
        (image / "file.txt").readlink()
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="symbolic links") as caught:
        (image / "loop").stat()
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, "/loop")


def test_stat_is_that_of_a_mount(image: pyerofs.Image) -> None:
    found = (image / "file.txt").stat()
    assert isinstance(found, os.stat_result)
    assert (found.st_mode, found.st_nlink, found.st_uid, found.st_gid) == (0o100644, 1, 1000, 100)
    assert (found.st_size, found.st_ino, found.st_blksize) == (12, tiny.nid(1), 4096)
    assert found.st_mtime == tiny.EPOCH == found.st_atime == found.st_ctime
    assert found.st_mtime_ns == tiny.EPOCH * 10**9
    assert os.major((image / "null").stat().st_rdev) == 1
    assert stat.S_ISLNK((image / "link").lstat().st_mode)
    assert ((image / "file.txt").uid, (image / "file.txt").gid) == (1000, 100)
    with pytest.raises(FileNotFoundError) as caught:
        (image / "sub/nothing").stat()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/sub/nothing")
    with pytest.raises(NotADirectoryError):
        (image / "file.txt/x").stat()


def test_directories_list_what_is_in_them(image: pyerofs.Image) -> None:
    assert [entry.name for entry in (image / "sub").iterdir()] == ["deep", "inner.txt"]
    assert {os.fsencode(entry.name) for entry in image.root.iterdir()} >= {b"n\xff", b"bell\x07"}
    assert (image / os.fsdecode(b"n\xff")).read_bytes() == b"odd"
    assert [entry.path for entry in (image / "absolute").iterdir()] == [
        "/absolute/deep",
        "/absolute/inner.txt",
    ]
    with pytest.raises(NotADirectoryError):
        (image / "file.txt").iterdir()


def test_walk_visits_everything_once_and_can_be_pruned(image: pyerofs.Image) -> None:
    walked = [(str(here), dirs, files) for here, dirs, files in image.root.walk()]
    assert [step[0] for step in walked] == ["/", "/sub", "/sub/deep"]
    assert walked[2][2] == ["a.txt", "b.md"]
    assert [str(here) for here, _, _ in image.root.walk(top_down=False)] == ["/sub/deep", "/sub", "/"]
    seen = []
    for here, directories, _ in image.root.walk():
        seen.append(str(here))
        directories.clear()
    assert seen == ["/"]
    followed = [str(here) for here, _, _ in image.root.walk(follow_symlinks=True)]
    assert len(followed) == 3  # through the link or beside it, but once


def test_glob_agrees_with_pathlib(image: pyerofs.Image, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "same"
    (root / "sub/deep").mkdir(parents=True)
    for name in ("file.txt", "sub/inner.txt", "sub/deep/a.txt", "sub/deep/b.md"):
        (root / name).touch()
    for pattern in (
        "*.txt",
        "sub/*",
        "**/*.txt",
        "**/deep/*",
        "sub/[ab]*",
        "sub/deep/?.md",
        "nothing*",
        "sub",
    ):
        ours = sorted(str(entry)[1:] for entry in image.root.glob(pattern) if entry.name in NAMES)
        theirs = sorted(str(entry.relative_to(root)) for entry in root.glob(pattern))
        assert ours == theirs, pattern
    assert [str(entry) for entry in image.root.rglob("a.txt")] == ["/sub/deep/a.txt"]
    assert [str(entry) for entry in (image / "sub").glob("*/")] == ["/sub/deep"]
    with pytest.raises(ValueError, match="unacceptable"):
        list(image.root.glob(""))
    with pytest.raises(NotImplementedError):
        list(image.root.glob("/sub"))


NAMES = {"file.txt", "sub", "inner.txt", "deep", "a.txt", "b.md"}


def test_importlib_resources_take_an_entry_for_theirs(image: pyerofs.Image) -> None:
    assert isinstance(image.root, Traversable)
    with importlib.resources.as_file(image / "sub/inner.txt") as file:
        assert file.read_text(encoding="utf-8") == "gr\u00fc\u00df\n"


def test_files_are_seekable_and_buffered(image: pyerofs.Image) -> None:
    with (image / "big").open("rb") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.seek(-3, os.SEEK_END) == len(tiny.BIG) - 3
        assert file.read() == tiny.BIG[-3:]
        assert file.seek(4090) == 4090
        assert file.read(10) == tiny.BIG[4090:4100]
        assert file.seek(10**12) == 10**12
        assert file.read() == b""
        file.seek(1)
        assert file.peek(1)[:1] == tiny.BIG[1:2]
        assert not file.writable()
    with (image / "big").open("rb", 0) as raw:
        buffer = bytearray(5000)
        assert raw.readinto(buffer) == 5000
        assert buffer == tiny.BIG[:5000]
        assert raw.read() == tiny.BIG[5000:]
        assert raw.seek(-1, os.SEEK_CUR) == len(tiny.BIG) - 1
        with pytest.raises(OSError, match="Invalid argument"):
            raw.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            raw.seek(0, 9)
    with pytest.raises(ValueError, match="closed"):
        raw.read(1)


def test_text_is_decoded_as_the_built_in_open_does(image: pyerofs.Image) -> None:
    inner = image / "link"
    assert inner.read_text(encoding="utf-8") == "gr\u00fc\u00df\n"
    assert inner.read_text(encoding="latin-1", newline="") == "gr\u00c3\u00bc\u00c3\u009f\n"
    with pytest.raises(UnicodeDecodeError):
        inner.read_text(encoding="ascii")
    assert inner.read_text(encoding="ascii", errors="ignore") == "gr\n"
    with (image / "file.txt").open() as file:
        assert list(file) == ["hello\n", "world\n"]


@pytest.mark.parametrize("mode", ["w", "a", "x", "r+", "wb"])
def test_nothing_is_opened_for_writing(image: pyerofs.Image, mode: str) -> None:
    with pytest.raises(OSError, match="Read-only") as caught:
        (image / "file.txt").open(mode)
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("arguments", [("",), ("rr",), ("rbt",), ("b",), ("r", 0), ("rb", -1, "utf-8")])
def test_a_mode_that_is_none_is_a_value_error(image: pyerofs.Image, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"mode|buffer"):
        (image / "file.txt").open(*arguments)


def test_only_regular_files_have_content(image: pyerofs.Image) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        (image / "sub").read_bytes()
    assert caught.value.filename == "/sub"
    with pytest.raises(OSError, match="Not a regular file") as other:
        (image / "pipe").open("rb")
    assert other.value.errno == errno.ENXIO


def test_xattrs_are_a_mapping(image: pyerofs.Image) -> None:
    xattrs = (image / "file.txt").xattrs
    assert xattrs["user.colour"] == b"blue"
    assert dict(xattrs) == {"user.colour": b"blue", "security.capability": bytes(20)}
    assert len(xattrs) == 2
    assert "user.shape" not in xattrs
    assert xattrs.get("trusted.x") is None
    with pytest.raises(KeyError):
        _ = xattrs["user.col"]
    assert "user.colour" in repr(xattrs)
    assert len((image / "link").xattrs) == 0
    assert len((image / "link").extended_attributes(follow_symlinks=False)) == 0
    assert (image / "file.txt").fingerprint is None


def test_extents_say_where_the_data_lies(image: pyerofs.Image) -> None:
    data = tiny.sample()
    found = b""
    for extent in (image / "big").extents():
        assert (extent.offset, extent.blob, extent.kind) == (len(found), 0, "raw")
        assert (extent.stored, extent.algorithm, extent.nid) == (extent.length, None, None)
        assert extent.blob_offset is not None
        found += data[extent.blob_offset : extent.blob_offset + extent.length]
    assert found == tiny.BIG


@pytest.mark.parametrize("kind", ["path", "object"])
def test_one_image_serves_many_threads(path: pathlib.Path, kind: str) -> None:
    failures: list[BaseException] = []
    with pyerofs.open(path if kind == "path" else io.BytesIO(path.read_bytes())) as image:
        expected = len(list(image.root.rglob("*")))

        def work() -> None:
            try:
                for _ in range(30):
                    assert (image / "big").read_bytes() == tiny.BIG
                    assert len(list(image.root.rglob("*"))) == expected
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_claimed_size_costs_no_memory() -> None:
    """A hole of 4 GiB in an image of 12 KiB: read_bytes() refuses, reading in pieces goes on."""
    hole = tiny.Node(tiny.REGULAR, size=0xFFFF_F000, layout=0, i_u=0xFFFF_FFFF)
    made = tiny.image(tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0), (b"hole", 1))), hole)
    with pyerofs.open(made) as image:
        with pytest.raises(pyerofs.LimitExceeded, match="open") as caught:
            (image / "hole").read_bytes()
        assert (caught.value.errno, caught.value.nid) == (errno.EFBIG, tiny.nid(1))
        with (image / "hole").open("rb") as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == bytes(10)


def test_limits_and_profiles_are_the_caller_s_to_choose() -> None:
    with pytest.raises(ValueError, match="limits"):
        pyerofs.open(tiny.sample(), limits={"nonsense": 1})
    with pytest.raises(ValueError, match="profile"):
        pyerofs.open(tiny.sample(), profile="nonsense")
    with pyerofs.open(tiny.sample(), limits={"symlinks": 0}) as image, pytest.raises(OSError, match="levels"):
        (image / "link").stat()
    with pyerofs.open(tiny.sample(), profile="core") as image, pytest.raises(pyerofs.UnsupportedFeature):
        dict((image / "file.txt").xattrs)


def test_errors_survive_being_sent_to_another_process() -> None:
    error = pyerofs.CorruptImage(errno.EUCLEAN, "bad", "a.img", nid=3, offset=8, remedy="build it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is pyerofs.CorruptImage
    assert str(again) == str(error) == "a.img: bad (nid 3, offset 8); build it again"
    assert (again.errno, again.filename, again.nid, again.offset) == (117, "a.img", 3, 8)
    assert pyerofs.errors.Unavailable("no /dev/fuse").errno == errno.EOPNOTSUPP
    assert issubclass(pyerofs.RefusedByPolicy, PermissionError)
