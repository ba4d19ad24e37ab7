"""Images and entries in other processes: by pickle, after a fork, after a spawn."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The sample tree as a file."""
    path = tmp_path / "sample.erofs"
    path.write_bytes(tiny.sample())
    return path


@pytest.mark.parametrize("mmap", [False, True])
def test_an_image_comes_back_as_it_was_opened(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mmap: bool
) -> None:
    path.write_bytes(bytes(512) + tiny.sample())
    monkeypatch.chdir(tmp_path)
    with pyerofs.open(path.name, offset=512, limits={"symlinks": 0}, mmap=mmap) as image:
        pickled = pickle.dumps(image)
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as again:
        assert (again / "file.txt").read_bytes() == b"hello\nworld\n"
        with pytest.raises(OSError, match="levels of symbolic links"):
            (again / "link").read_bytes()
        if mmap:
            assert bytes((again / "file.txt").memoryview(allow_copy=False)) == b"hello\nworld\n"


def test_entries_of_one_image_come_back_to_one_image(path: Path) -> None:
    with pyerofs.open(path) as image:
        entries = [image / "file.txt", next(image.root.iterdir()), *image.root.scan(), image / "gone"]
        first, *rest = again = pickle.loads(pickle.dumps(entries))
    assert [entry.path for entry in again] == [entry.path for entry in entries]
    assert all(entry.image is first.image for entry in rest)
    assert first.read_bytes() == b"hello\nworld\n"
    assert [entry.exists(follow_symlinks=False) for entry in again] == [True] * (len(again) - 1) + [False]


def test_the_profile_and_the_devices_come_back(path: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(bytes(tiny.BLOCK))
    slots = tiny.device_slot(b"tag", 1, 0)
    root = tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0)))
    path.write_bytes(tiny.image(root, incompat=8, extra_devices=1, slots=slots))
    with pyerofs.open(path, [device], profile="plain") as image:
        pickled = pickle.dumps(image)
    with pickle.loads(pickled) as again:
        assert again.devices == ((("tag", 1, 0)),)
    device.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    "make",
    [
        tiny.sample,
        lambda: io.BytesIO(tiny.sample()),
        lambda: os.open(os.environ["PYEROFS_TEST_SAMPLE"], os.O_RDONLY),
    ],
    ids=["bytes", "object", "descriptor"],
)
def test_an_image_without_a_path_says_why_it_cannot_be_pickled(
    make: Callable[[], bytes | io.BytesIO | int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYEROFS_TEST_SAMPLE", str(path))
    source = make()
    with pyerofs.open(source) as image:
        for value in (image, image.root):
            with pytest.raises(TypeError, match="was not opened by a path"):
                pickle.dumps(value)
    if isinstance(source, int):
        os.close(source)


def test_another_image_at_the_path_is_not_taken_for_the_pickled_one(path: Path) -> None:
    with pyerofs.open(path) as image:
        pickled = pickle.dumps(image)
        image.close()
        with pytest.raises(ValueError, match="closed"):
            pickle.dumps(image)
    path.write_bytes(tiny.image(tiny.Node(tiny.DIRECTORY, entries=((b".", 0), (b"..", 0)))))
    with pytest.raises(OSError, match="another image than the one that was pickled"):
        pickle.loads(pickled)


def _work(entry: pyerofs.Entry) -> tuple[bytes, list[bytes | OSError]]:
    image = entry.image
    return entry.read_bytes(), [content for _, content in image.read_many(["big", "link"])]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind_read(path: Path, method: str) -> None:
    expected = (b"hello\nworld\n", [tiny.BIG, "gr\u00fc\u00df\n".encode()])
    with pyerofs.open(path) as image, multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_work, [image / "file.txt"] * 8) == [expected] * 8


def _in_child(work: Callable[[], bool]) -> int:
    """Run something in a forked child and return its exit status; nothing of pytest runs there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("mmap", [False, True])
def test_an_image_and_its_open_files_go_on_in_a_forked_child(path: Path, mmap: bool) -> None:
    with pyerofs.open(path, mmap=mmap) as image, (image / "big").open("rb") as file:
        start = file.read(100)
        view = (image / "file.txt").memoryview()

        def work() -> bool:
            same = start + file.read() == tiny.BIG and bytes(view) == b"hello\nworld\n"
            return same and (image / "sub" / "inner.txt").exists() and len(list(image.root.scan())) == 15

        assert _in_child(work) == 0
        assert start + file.read() == tiny.BIG


def test_a_fork_while_others_read_leaves_no_lock_behind(path: Path) -> None:
    stop = threading.Event()
    with pyerofs.open(path) as image:

        def busy() -> None:
            while not stop.is_set():
                for _ in image.read_many(["big", "file.txt", "sub/inner.txt"] * 10):
                    pass
                (image / "big").read_bytes()

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert _in_child(lambda: _work(image / "file.txt")[0] == b"hello\nworld\n") == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_file_object_refuses_to_share_its_position_with_a_child() -> None:
    with pyerofs.open(io.BytesIO(tiny.sample())) as image:
        assert (image / "file.txt").exists()

        def work() -> bool:
            try:
                (image / "file.txt").read_bytes()
            except OSError as error:
                return "position" in str(error) and "path" in str(error)
            return False

        assert _in_child(work) == 0
        assert (image / "file.txt").read_bytes() == b"hello\nworld\n"
