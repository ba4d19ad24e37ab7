"""Reading many files at once: order, errors as values, bounded memory, ends that leave nothing behind."""

from __future__ import annotations

import gc
import io
import itertools
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs
import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = 3000
LARGE = 3 << 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand small files in a few directories, and two large ones."""
    top = tmp_path_factory.mktemp("many")
    for number in range(FILES):
        path = top / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"{number}:".encode() * (number % 500))
    (top / "large").write_bytes(os.urandom(LARGE))
    (top / "large2").write_bytes(os.urandom(LARGE + 1))
    return top


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of the tree."""
    path = tmp_path_factory.mktemp("image") / "many.erofs"
    pyerofs.build(tree, path)
    return path


@pytest.fixture
def image(built: Path) -> Iterator[pyerofs.Image]:
    """The image, opened by its path."""
    with pyerofs.open(built) as image:
        yield image


@pytest.fixture
def sample() -> Iterator[pyerofs.Image]:
    """The sample tree in memory."""
    with pyerofs.open(tiny.sample()) as image:
        yield image


def files_of(tree: Path) -> list[str]:
    """Every file below, as a path in the image."""
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
@pytest.mark.parametrize("budget", [1, 100_000, 1 << 20, 64 << 20])
def test_every_file_comes_whole_and_in_order(
    tree: Path, image: pyerofs.Image, threads: int | None, budget: int
) -> None:
    names = files_of(tree)
    for (name, content), expected in zip(
        image.read_many(names, threads=threads, budget=budget), names, strict=True
    ):
        assert name is expected
        assert content == (tree / name).read_bytes(), name


def test_paths_may_be_of_any_kind(sample: pyerofs.Image) -> None:
    scanned = {entry.path: entry for entry in sample.root.scan()}
    listed = {entry.path: entry for entry in sample.root.iterdir()}
    asked: list[Any] = [
        "file.txt",
        "/file.txt",
        b"file.txt",
        PurePosixPath("sub/inner.txt"),
        "link",
        sample / "link",
        scanned["/link"],
        listed["/link"],
        scanned["/file.txt"],
        listed["/file.txt"],
        "absolute/./deep/../inner.txt",
        os.fsdecode(b"n\xff"),
        b"n\xff",
    ]
    with sample.read_many(asked) as files:
        answers = list(files)
    for given, (path, content) in zip(asked, answers, strict=True):
        assert path is given
        expected = given if isinstance(given, pyerofs.Entry) else sample / os.fsdecode(given)
        assert content == expected.read_bytes()


def test_a_file_that_cannot_be_read_is_a_value_and_the_others_come(sample: pyerofs.Image) -> None:
    asked = [
        "file.txt",
        "gone",
        "sub",
        "pipe",
        "loop",
        "file.txt/x",
        "gone/x",
        "dangling",
        "",
        "sub/inner.txt",
    ]
    found = dict(sample.read_many(asked))
    assert found["file.txt"] == b"hello\nworld\n"
    assert found["sub/inner.txt"] == "gr\u00fc\u00df\n".encode()
    for path, kind in {
        "gone": FileNotFoundError,
        "sub": IsADirectoryError,
        "": IsADirectoryError,
        "file.txt/x": NotADirectoryError,
        "gone/x": FileNotFoundError,
        "dangling": FileNotFoundError,
        "pipe": OSError,
        "loop": OSError,
    }.items():
        error = found[path]
        assert isinstance(error, kind), path
        assert isinstance(error, OSError)
        assert error.filename == path


def test_a_corrupt_file_does_not_stop_the_others() -> None:
    broken = bytearray(tiny.sample())
    broken[tiny.place(3)] = 0xFF  # the format of the inode of sub/inner.txt
    with pyerofs.open(bytes(broken)) as image:
        found = dict(image.read_many(["sub/inner.txt", "file.txt"]))
    assert found["file.txt"] == b"hello\nworld\n"
    error = found["sub/inner.txt"]
    assert isinstance(error, pyerofs.ErofsError)
    assert (error.nid, error.filename) == (tiny.nid(3), "sub/inner.txt")


def test_a_false_size_costs_no_memory() -> None:
    nodes = [
        tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0), (b"good", 1), (b"liar", 2))),
        tiny.Node(tiny.REGULAR, b"good"),
        tiny.Node(tiny.REGULAR, b"", size=0xFFFFFFFF, layout=0, i_u=0xFFFFFFFF),
    ]
    with pyerofs.open(tiny.image(*nodes)) as image:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = dict(image.read_many(["liar", "good"]))
        assert found["good"] == b"good"
        error = found["liar"]
        assert isinstance(error, pyerofs.LimitExceeded)
        assert "open()" in str(error)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_paths_are_taken_a_few_at_a_time(image: pyerofs.Image) -> None:
    taken = itertools.count()

    def endless() -> Iterator[str]:
        while True:
            yield f"d{next(taken) % 7}/f0"

    with image.read_many(endless()) as files:
        for _ in range(10):
            next(files)
        assert next(taken) < 3000


def test_what_the_iterable_raises_comes_after_the_answers_to_what_it_gave(image: pyerofs.Image) -> None:
    def failing() -> Iterator[str]:
        yield "d0/f0"
        yield "d1/f1"
        raise KeyError("mine")

    files = image.read_many(failing())
    assert [path for path, _ in itertools.islice(files, 2)] == ["d0/f0", "d1/f1"]
    with pytest.raises(KeyError, match="mine"):
        next(files)
    assert list(files) == []


def test_wrong_arguments_are_refused(image: pyerofs.Image, sample: pyerofs.Image) -> None:
    with pytest.raises(TypeError, match="iterable of paths"):
        image.read_many("d0/f0")
    with pytest.raises(ValueError, match="threads: 0"):
        image.read_many([], threads=0)
    with pytest.raises(ValueError, match="budget: 0"):
        image.read_many([], budget=0)
    with pytest.raises(UnicodeEncodeError):
        list(image.read_many(["half of a surrogate: \ud800"]))
    with pytest.raises(TypeError, match="not int"):
        list(image.read_many([1]))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="another image"):
        list(image.read_many([sample / "file.txt"]))
    assert list(image.read_many([])) == []


def _reading_threads() -> int:
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:  # it ended meanwhile
            continue
    return names.count("pyerofs-read")


def _wait_for_threads(count: int) -> None:
    """Threads take their name, and end, soon after they were started and stopped."""
    end = time.monotonic() + 10
    while _reading_threads() != count and time.monotonic() < end:
        time.sleep(0.01)
    assert _reading_threads() == count


@pytest.mark.parametrize("how", ["close", "with", "drop", "exhaust"])
def test_no_thread_outlives_the_iterator(tree: Path, image: pyerofs.Image, how: str) -> None:
    _wait_for_threads(0)
    files = image.read_many(files_of(tree) * 3, threads=3)
    next(files)
    _wait_for_threads(3)
    if how == "close":
        files.close()
        assert list(files) == []
    elif how == "with":
        with files:
            pass
    elif how == "exhaust":
        for _ in files:
            pass
    del files
    gc.collect()
    _wait_for_threads(0)


def test_reading_goes_on_after_the_image_was_closed(tree: Path, built: Path) -> None:
    image = pyerofs.open(built)
    files = image.read_many(["large", "d1/f1"])
    image.close()
    assert [content for _, content in files] == [(tree / "large").read_bytes(), b"1:"]
    with pytest.raises(ValueError, match="closed"):
        image.read_many(["large"])


def test_what_is_read_ahead_stays_within_the_budget(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    for number in range(64):
        (top / f"f{number:02}").write_bytes(bytes([number]) * (4 << 20))
    pyerofs.build(top, tmp_path / "image.erofs")
    code = """
import resource, sys, time, pyerofs
image = pyerofs.open(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files = image.read_many([f"f{n:02}" for n in range(64)], threads=4, budget=32 << 20)
for number, (path, content) in enumerate(files):
    assert content == bytes([number]) * (4 << 20)
    time.sleep(0.005)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "image.erofs"], check=True, capture_output=True
    )
    assert int(done.stdout) < (32 + 24) << 10


def test_two_threads_do_not_iterate_at_once(image: pyerofs.Image) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow() -> Iterator[str]:
        entered.set()
        leave.wait(10)
        yield "d0/f0"

    files = image.read_many(slow())
    thread = threading.Thread(target=lambda: next(files))
    thread.start()
    entered.wait(10)
    with pytest.raises(ValueError, match="another thread"):
        next(files)
    leave.set()
    thread.join()
    assert list(files) == []


class Failing:
    """A source whose data can't be read; the metadata lies in front of it."""

    def __init__(self, error: Exception) -> None:
        self.data = tiny.sample()
        self.error = error

    def read_at(self, offset: int, length: int) -> bytes:
        """Fail in the blocks of the file `big`."""
        if offset >= 14 * tiny.BLOCK:
            raise self.error
        return self.data[offset : offset + length]


def test_an_error_of_the_source_is_a_value_with_the_path() -> None:
    with pyerofs.open(Failing(ConnectionResetError(104, "gone away"))) as image:
        found = dict(image.read_many(["big", "file.txt"]))
    error = found["big"]
    assert isinstance(error, ConnectionResetError)
    assert (error.errno, error.filename) == (104, "big")
    assert found["file.txt"] == b"hello\nworld\n"


def test_a_bug_in_the_source_is_raised() -> None:
    with (
        pyerofs.open(Failing(ZeroDivisionError("oops"))) as image,
        pytest.raises(ZeroDivisionError, match="oops"),
    ):
        list(image.read_many(["big", "file.txt"]))


@pytest.mark.parametrize("source", ["path", "object"])
def test_the_interpreter_ends_in_the_middle(source: str, built: Path) -> None:
    code = """
import io, sys, pyerofs
given = sys.argv[1] if sys.argv[2] == "path" else io.BytesIO(open(sys.argv[1], "rb").read())
image = pyerofs.open(given)
files = image.read_many((entry for _ in range(100) for entry in image.root.scan()), threads=4)
print(len(next(files)), flush=True)
"""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code, built, source], capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"2\n", b"")


def test_a_file_object_is_read_under_its_lock(tree: Path, built: Path) -> None:
    names = files_of(tree)[:500]
    with pyerofs.open(io.BytesIO(built.read_bytes())) as image:
        for name, content in image.read_many(names, threads=4):
            assert content == (tree / name).read_bytes()


def test_an_iterator_is_of_no_use_after_a_fork_but_its_image_is(image: pyerofs.Image) -> None:
    files = image.read_many(["d1/f1"] * 1000, threads=4)
    next(files)
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        status = 1
        try:
            try:
                next(files)
            except RuntimeError:
                files.close()
                fresh = [content for _, content in image.read_many(["d1/f1", "large"])]
                status = 0 if fresh == [b"1:", (image / "large").read_bytes()] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(files)) == 999
