"""Many threads on one image: every answer is right, and closing meanwhile is an error, never a wrong byte.

On a free-threaded CPython (`make test-free-threaded`) nothing but the package's own care keeps threads apart;
elsewhere the interpreter is told to switch as often as it can.
"""

from __future__ import annotations

import os
import random
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import pyerofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from peers import Peers

THREADS = 8


@dataclass(frozen=True)
class Made:
    """An image and what is in it."""

    path: Path
    files: dict[str, bytes]
    directories: dict[str, list[str]]


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module", params=["plain", "lz4", "zstd"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("threads")
    draw = random.Random(4)
    files: dict[str, bytes] = {}
    directories: dict[str, list[str]] = {"/": []}
    for outer in range(8):
        directories["/"].append(f"d{outer}")
        names = directories[f"/d{outer}"] = [f"f{inner}" for inner in range(25)]
        (place / f"tree/d{outer}").mkdir(parents=True)
        for name in names:
            size = draw.choice([0, 10, 3000, 5000, 40_000, 300_000])
            piece = draw.randbytes(700)
            content = (piece * (size // 700 + 1))[:size]
            (place / f"tree/d{outer}/{name}").write_bytes(content)
            os.setxattr(place / f"tree/d{outer}/{name}", "user.size", str(size).encode())
            files[f"/d{outer}/{name}"] = content
    image = place / "image.erofs"
    if request.param == "plain":
        pyerofs.build(place / "tree", image)
    else:
        peers: Peers = request.getfixturevalue("peers")
        peers.run("mkfs.erofs", f"-z{request.param}", "-C65536", image, place / "tree")
    return Made(image, files, directories)


def at_once(task: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run a task in several threads that start together; their answers."""
    together = threading.Barrier(threads)

    def begin(number: int) -> Any:
        together.wait()
        return task(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def look_at_everything(image: pyerofs.Image, made: Made, seed: int) -> int:
    """Ask an image about all that it holds, in an order of one's own; return how many answers were right."""
    draw = random.Random(seed)
    todo = [*made.files, *made.directories]
    draw.shuffle(todo)
    for path in todo:
        entry = image / path
        if path in made.directories:
            assert sorted(child.name for child in entry.iterdir()) == sorted(made.directories[path])
            continue
        content = made.files[path]
        assert entry.stat().st_size == len(content)
        assert dict(entry.xattrs) == {"user.size": str(len(content)).encode()}
        assert entry.read_bytes() == content
        start = draw.randrange(len(content) + 1)
        with entry.open("rb") as file:
            file.seek(start)
            assert file.read(5000) == content[start : start + 5000]
    return len(todo)


def test_free_threading_stays_free() -> None:
    """Importing the package must not bring the interpreter's lock back."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this interpreter is not free-threaded: make test-free-threaded")
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined,unused-ignore]


def test_many_threads_read_one_image(made: Made) -> None:
    with pyerofs.open(made.path) as image:
        assert len(set(at_once(lambda number: look_at_everything(image, made, number)))) == 1


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "file", "ranges"])
def test_many_threads_read_through_python_s_own_objects(made: Made, kind: str) -> None:
    content = made.path.read_bytes()

    class Ranges:
        size = len(content)

        def read_at(self, offset: int, length: int) -> bytes:
            return content[offset : offset + length]

    with made.path.open("rb") as file:
        sources: dict[str, Any] = {
            "bytes": content,
            "bytearray": bytearray(content),
            "file": file,
            "ranges": Ranges(),
        }
        with pyerofs.open(sources[kind]) as image:
            at_once(lambda number: look_at_everything(image, made, number), 4)


def test_a_small_cache_is_enough_for_many_threads(made: Made) -> None:
    limits = {"cache_bytes": 16384, "decoded_cache_bytes": 1 << 17}
    with pyerofs.open(made.path, limits=limits) as image:
        at_once(lambda number: look_at_everything(image, made, number))


def test_threads_may_share_entries(made: Made) -> None:
    with pyerofs.open(made.path) as image:
        entries = [image / path for path in made.files]

        def ask(_number: int) -> list[tuple[int, bytes]]:
            return [(entry.stat().st_size, entry.read_bytes()) for entry in entries]

        wanted = [(len(content), content) for content in made.files.values()]
        assert all(found == wanted for found in at_once(ask))


def test_threads_may_walk_and_read_many_at_once(made: Made) -> None:
    wanted = list(made.files.values())

    def read(number: int) -> None:
        if number % 2:
            found = {f"/{entry.path.strip('/')}": entry for entry in image.root.scan() if entry.is_file()}
            assert found.keys() == made.files.keys()
            with image.read_many(found[path] for path in made.files) as files:
                assert [content for _, content in files] == wanted
        else:
            with image.read_many(made.files, threads=3, budget=1 << 18) as files:
                assert [content for _, content in files] == wanted

    with pyerofs.open(made.path) as image:
        for _ in range(3):
            at_once(read)


def test_threads_that_share_one_read_many_get_every_file_once(made: Made) -> None:
    def take(_number: int) -> list[tuple[str, Any]]:
        taken = []
        while True:
            try:
                taken.append(next(files))
            except StopIteration:
                return taken
            except ValueError as error:
                assert "another thread" in str(error)  # noqa: PT017 - it is that, or a file

    with pyerofs.open(made.path) as image, image.read_many(made.files) as files:
        taken = [each for some in at_once(take) for each in some]
    assert len(taken) == len(made.files)
    assert dict(taken) == made.files


def test_views_without_a_copy_outlive_the_image_in_every_thread(made: Made) -> None:
    def look(_number: int) -> None:
        image = pyerofs.open(made.path, mmap=True)
        views = {path: (image / path).memoryview() for path in made.files}
        image.close()
        del image
        for path, view in views.items():
            assert view == made.files[path]

    at_once(look)


def test_threads_may_open_and_close_images_at_once(made: Made) -> None:
    def open_and_close(_number: int) -> int:
        for _ in range(20):
            with pyerofs.open(made.path) as image:
                assert (image / "d0/f0").read_bytes() == made.files["/d0/f0"]
        return len(os.listdir("/proc/self/fd"))

    before = len(os.listdir("/proc/self/fd"))
    at_once(open_and_close)
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_while_others_read_is_an_error_and_nothing_worse(made: Made) -> None:
    for attempt in range(5):
        image = pyerofs.open(made.path)
        started = threading.Barrier(THREADS)

        def read(number: int, image: pyerofs.Image = image, started: threading.Barrier = started) -> str:
            with (image / "d1/f1").open("rb") as kept:
                started.wait()
                if number == 0:
                    threading.Event().wait(0.002 * attempt)  # noqa: B023 - the threads end in this round
                    image.close()
                try:
                    while True:
                        look_at_everything(image, made, number)
                except ValueError as error:
                    # What was open before stays readable.
                    assert kept.read() == made.files["/d1/f1"]
                    return str(error)

        with ThreadPoolExecutor(THREADS) as pool:
            assert set(pool.map(read, range(THREADS))) == {"I/O operation on closed image"}


def test_memory_that_changes_while_it_is_read_breaks_nothing_but_the_answer(made: Made) -> None:
    content = made.path.read_bytes()
    memory = bytearray(content)
    done = threading.Event()

    def disturb() -> None:
        draw = random.Random(1)
        while not done.is_set():
            at = draw.randrange(1088, len(memory))
            memory[at] ^= 0xFF
            memory[at] ^= 0xFF

    def read(number: int) -> None:
        for _ in range(3):
            try:
                look_at_everything(image, made, number)
            except (OSError, AssertionError, ValueError, UnicodeError):
                continue  # whatever was read is the memory's fault

    with pyerofs.open(memory) as image:
        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            at_once(read, 4)
        finally:
            done.set()
            disturber.join()
    assert memory == content
