"""Where an image may come from besides a plain file, and views of its memory."""

from __future__ import annotations

import gc
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Store:
    """Bytes behind read_at(), as an object store would have them."""

    def __init__(self, data: bytes, answer: Callable[[bytes], object] = bytes) -> None:
        self.data = data
        self.answer = answer
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> object:
        """Return the bytes there, fewer at the end."""
        self.reads.append((offset, length))
        return self.answer(self.data[offset : offset + length])


def check_sample(image: pyerofs.Image) -> None:
    """Read what is in the sample tree in all ways."""
    assert (image / "file.txt").read_bytes() == b"hello\nworld\n"
    assert (image / "big").read_bytes() == tiny.BIG
    assert len(list(image.root.scan())) == 15
    assert dict(image.read_many(["big", "link"])) == {"big": tiny.BIG, "link": "gr\u00fc\u00df\n".encode()}


@pytest.mark.parametrize(
    "answer",
    [bytes, bytearray, memoryview, lambda data: data[:1000]],
    ids=["bytes", "bytearray", "view", "short"],
)
def test_an_object_with_read_at_is_a_source(answer: Callable[[bytes], object]) -> None:
    store = Store(tiny.sample(), answer)
    with pyerofs.open(store) as image:  # type: ignore[arg-type]
        check_sample(image)
    assert store.reads


def test_read_at_comes_before_seek_and_read() -> None:
    class Both(Store):
        def seek(self, offset: int, whence: int = 0) -> int:
            raise AssertionError("seek() moves the position of others")

        read = seek

    with pyerofs.open(Both(tiny.sample())) as image:  # type: ignore[arg-type]
        check_sample(image)


def test_a_source_that_answers_too_much_is_an_error_and_no_overflow() -> None:
    with pytest.raises(OSError, match=r"read_at\(\) returned more bytes"):
        pyerofs.open(Store(tiny.sample(), lambda data: data + b"more"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pyerofs.open(Store(tiny.sample(), str))  # type: ignore[arg-type]


def test_an_image_may_begin_anywhere_in_any_source(tmp_path: Path) -> None:
    shift = 12345
    data = os.urandom(shift) + tiny.sample()
    path = tmp_path / "shifted"
    path.write_bytes(data)
    for source in (path, data, bytearray(data), Store(data)):
        with pyerofs.open(source, offset=shift) as image:  # type: ignore[arg-type]
            check_sample(image)
    with pyerofs.open(path, offset=shift, mmap=True) as image:
        check_sample(image)
        view = (image / "file.txt").memoryview(allow_copy=False)
        assert bytes(view) == b"hello\nworld\n"


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A block device with the sample somewhere inside, and where."""
    shift = 1 << 20
    path = tmp_path / "disk"
    path.write_bytes(bytes(shift) + tiny.sample())
    attached = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", path], capture_output=True, text=True, check=False
    )
    if attached.returncode:
        pytest.skip(f"no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    yield device, shift
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.root
@pytest.mark.parametrize("mmap", [False, True])
def test_a_block_device_is_a_source(loop_device: tuple[str, int], mmap: bool) -> None:
    device, shift = loop_device
    with pyerofs.open(device, offset=shift, mmap=mmap) as image:
        check_sample(image)
        assert bytes((image / "file.txt").memoryview()) == b"hello\nworld\n"
    descriptor = os.open(device, os.O_RDONLY)
    try:
        os.lseek(descriptor, 77, os.SEEK_SET)
        with pyerofs.open(descriptor, offset=shift, mmap=mmap) as image:
            check_sample(image)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 77
    finally:
        os.close(descriptor)


# Views


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The sample tree as a file."""
    path = tmp_path / "sample.erofs"
    path.write_bytes(tiny.sample())
    return path


def test_a_view_of_bytes_is_the_bytes_themselves() -> None:
    data = tiny.sample()
    with pyerofs.open(data) as image:
        view = (image / "file.txt").memoryview(allow_copy=False)
    assert view.obj is data
    assert view.readonly
    assert bytes(view) == b"hello\nworld\n"


def test_a_view_outlives_the_image_and_the_name_of_its_file(path: Path) -> None:
    image = pyerofs.open(path, mmap=True)
    view = (image / "link").memoryview(allow_copy=False)
    path.unlink()
    image.close()
    del image
    gc.collect()
    assert bytes(view) == "gr\u00fc\u00df\n".encode()
    assert view.readonly


def test_a_file_in_two_pieces_is_copied_or_refused(path: Path) -> None:
    with pyerofs.open(path, mmap=True) as image:
        assert (image / "big").memoryview() == tiny.BIG
        with pytest.raises(BufferError, match="one piece"):
            (image / "big").memoryview(allow_copy=False)


def test_a_source_that_is_no_memory_is_copied_or_refused(path: Path) -> None:
    for source in (path, bytearray(tiny.sample()), Store(tiny.sample())):
        with pyerofs.open(source) as image:  # type: ignore[arg-type]
            assert bytes((image / "file.txt").memoryview()) == b"hello\nworld\n"
            with pytest.raises(BufferError, match="mmap="):
                (image / "file.txt").memoryview(allow_copy=False)


def test_directories_have_no_view(path: Path) -> None:
    with pyerofs.open(path, mmap=True) as image, pytest.raises(IsADirectoryError):
        (image / "sub").memoryview()


def test_a_sealed_memfd_is_mapped_without_being_asked() -> None:
    import fcntl

    descriptor = os.memfd_create("sample", os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, tiny.sample())
        with (
            pyerofs.open(descriptor) as image,
            pytest.raises(BufferError, match="mmap="),
        ):
            (image / "file.txt").memoryview(allow_copy=False)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
        with pyerofs.open(descriptor) as image:
            check_sample(image)
            assert bytes((image / "file.txt").memoryview(allow_copy=False)) == b"hello\nworld\n"
    finally:
        os.close(descriptor)


def test_no_descriptor_is_left_open(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        with pyerofs.open(path, mmap=True) as image:
            check_sample(image)
            (image / "file.txt").memoryview()
    gc.collect()
    assert descriptors() == before


def test_a_mapped_image_that_is_too_short_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "short.erofs"
    path.write_bytes(tiny.sample()[: 14 * tiny.BLOCK])
    with pyerofs.open(path, mmap=True) as image:
        assert (image / "file.txt").read_bytes() == b"hello\nworld\n"
        with pytest.raises(pyerofs.CorruptImage):
            (image / "big").read_bytes()
        with pytest.raises((pyerofs.CorruptImage, BufferError)):
            (image / "big").memoryview(allow_copy=False)
    path.write_bytes(b"")
    with pytest.raises(pyerofs.ErofsError):
        pyerofs.open(path, mmap=True)
