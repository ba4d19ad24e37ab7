"""Sizes that are claims and no more: nothing is allocated, written or waited for in proportion to them.

Each image has a file that claims to be long, and an honest one. What reading the first one gives is its
content or an error with its name; the second one is read in any case.
"""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from tiny import BLOCK, DIRECTORY, REGULAR, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAIN, FULL, INLINE, COMPACT, CHUNKS = range(5)
LZ4_FEATURE, CHUNKED, FRAGMENTS = 0x1, 0x4, 0x20
SIZES = (1 << 31, 1 << 40, 1 << 60)
LZ4 = 1 << 28
PARTIAL = 1 << 27
HOLE = (0xFFFFFFFF, 0xFFFF)
HONEST = b"the other file"
# Above what the interpreter with the package takes; what the honest file and a few clusters need is nothing.
MOST_MEMORY = 150 << 20
SECONDS = 60


def inode(
    layout: int, size: int, body: bytes = b"", *, mode: int = REGULAR, u: tuple[int, int] = (0, 0)
) -> bytes:
    """An inode that has room for 64 bits of size."""
    head = struct.pack("<HHHHQ", layout << 1 | 1, 0, mode, u[1], size)
    return head + struct.pack("<IIIIQII16x", u[0], *(0,) * 5, 1) + body


def records(*rows: tuple[int, int, int], code: int = 3, count: int | None = None) -> bytes:
    """A map of extent records of `4 << code` bytes: (plen, address, byte of the file)."""
    size = 4 << code
    number = len(rows) if count is None else count
    made = struct.pack("<IHH", number & 0xFFFFFFFF, 1 | code << 1, number >> 32)
    made += bytes(-(64 + len(made)) % size)
    for plen, address, start in rows:
        made += struct.pack("<IQQ12x", plen, address, start)[:size]
    return made


def index(*entries: tuple[int, int, int], advise: int = 0, h_u: int = 0, bits: int = 0) -> bytes:
    """A map with a full index."""
    rows = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    return struct.pack("<IHBB8x", h_u, advise, 0, bits) + rows


def image(*bodies: bytes, incompat: int = LZ4_FEATURE, packed: int = 0) -> bytes:
    """An image of these inodes as /f1, /f2 and so on, then the honest file, then a block of LZ4."""
    every = (*bodies, inode(INLINE, len(HONEST), HONEST))
    names = [f"f{number}".encode() for number in range(1, len(bodies) + 1)] + [b"honest"]
    entries = ((b".", 0), (b"..", 0), *((name, number) for number, name in enumerate(names, 1)))
    kinds = [struct.unpack_from("<H", body, 4)[0] for body in every]
    nodes = (Node(DIRECTORY, entries=entries), *(Node(kind) for kind in kinds))
    made = bytearray(tiny.image(*nodes, incompat=incompat, tail=cluster()))
    for number, body in enumerate(every, 1):
        at = tiny.place(number)
        made[at : at + BLOCK] = body.ljust(BLOCK, b"\0")
    struct.pack_into("<Q", made, tiny.SUPERBLOCK + 0x60, tiny.nid(packed))
    return bytes(made)


def cluster() -> bytes:
    """A block that decodes to as many sevens as LZ4 can make of it."""
    head, end = b"\x1f\x07\x01\x00", b"\x00\xc0" + b"\x07" * 12
    return head + b"\xff" * (BLOCK - len(head) - len(end)) + end


def places(files: int) -> int:
    """Where the block of LZ4 lies in an image of so many files beside the honest one."""
    return tiny.place(files + 2)


def claims(size: int) -> Iterator[tuple[str, bytes]]:
    """Files that claim to have so many bytes."""
    fragment = inode(FULL, size, struct.pack("<Q", 1 << 63))
    nothing = inode(PLAIN, size, u=HOLE)
    at = places(1)
    yield "hole", image(nothing)
    yield "flat beyond the end", image(inode(PLAIN, size, u=(1, 0)))
    yield "chunks of holes", image(inode(CHUNKS, size, b"\xff" * 4032, u=(31, 0)), incompat=CHUNKED)
    yield "chunks beyond the end", image(inode(CHUNKS, size, bytes(4032), u=(31, 0)), incompat=CHUNKED)
    yield "record of a hole", image(inode(FULL, size, records((0, 0, 0))))
    yield "no record", image(inode(FULL, size, records()))
    yield (
        "record and hole",
        image(inode(FULL, size, records((LZ4 | PARTIAL | BLOCK, at, 0), (0, 0, 1 << 20)))),
    )
    yield "records that are not there", image(inode(FULL, size, records((LZ4 | BLOCK, at, 0), count=1 << 40)))
    yield "records of zeros", image(inode(FULL, size, records(code=0)))
    yield "index of holes", image(inode(FULL, size, index(*[(1 | 1 << 14, 0, 0)] * 400, bits=15)))
    yield "index that is not there", image(inode(FULL, size, index((1, 0, at // BLOCK))))
    yield "tail behind no index", image(inode(FULL, size, index((1, 0, 4), advise=8, h_u=100 << 16)))
    yield "compact index", image(inode(COMPACT, size, struct.pack("<IHBB", 0, 1, 0, 0) + b"\x55" * 2000))
    yield "fragment of a hole", image(fragment, nothing, incompat=FRAGMENTS | LZ4_FEATURE, packed=2)
    small = inode(INLINE, 4, b"tiny")
    yield "fragment of nothing", image(fragment, small, incompat=FRAGMENTS | LZ4_FEATURE, packed=2)
    yield "directory", image(inode(PLAIN, size, mode=DIRECTORY, u=HOLE))
    yield "link", image(inode(FULL, size, records((0, 0, 0)), mode=tiny.SYMLINK))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("claims")
    made = []
    for size, (name, data) in itertools.chain.from_iterable(
        zip(itertools.repeat(s), claims(s)) for s in SIZES
    ):
        made.append(place / f"{name}, {size.bit_length() - 1} bits")
        made[-1].write_bytes(data)
    return made


def read_bytes(image: pyerofs.Image) -> dict[str, object]:
    return {entry.path: attempt(entry.read_bytes) for entry in image.root.iterdir()}


def read_many(image: pyerofs.Image) -> dict[str, object]:
    paths = [entry.path for entry in image.root.iterdir()]
    return dict(zip(paths, (answer for _, answer in image.read_many(paths)), strict=True))


def views(image: pyerofs.Image) -> dict[str, object]:
    with pyerofs.open(image.name, mmap=True) as mapped:
        return {entry.path: attempt(entry.memoryview) for entry in mapped.root.iterdir()}


def pieces(image: pyerofs.Image) -> dict[str, object]:
    def ends(entry: pyerofs.Entry) -> bytes:
        with entry.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(size // 2)
            file.read(10)
            file.seek(max(0, size - 10))
            file.read()
            file.seek(0)
            for _ in range(50):
                file.read(100_000)
            file.seek(0)
            return file.read(len(HONEST))

    return {entry.path: attempt(ends, entry) for entry in image.root.iterdir()}


def extents(image: pyerofs.Image) -> dict[str, object]:
    def listed(entry: pyerofs.Entry) -> list[pyerofs.Extent]:
        return list(entry.extents())

    return {entry.path: attempt(listed, entry) for entry in image.root.iterdir()}


def attempt(read: Callable[..., object], *arguments: object) -> object:
    try:
        return read(*arguments)
    except OSError as error:
        return error


READERS = {
    "read_bytes": read_bytes,
    "read_many": read_many,
    "views": views,
    "pieces": pieces,
    "extents": extents,
}


def peak() -> int:
    """The most memory that this process had, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def run(name: str, paths: list[str]) -> None:
    """In a process of its own: reads the images and prints what became of it."""
    before = peak()
    for path in paths:
        with pyerofs.open(path) as image:
            found = READERS[name](image)
        errors = {
            entry: [type(error).__name__, str(error), getattr(error, "nid", None), error.filename]
            for entry, error in found.items()
            if isinstance(error, OSError)
        }
        honest = found["/honest"]
        content = bytes(honest).decode() if isinstance(honest, bytes | memoryview) else repr(honest)
        print(json.dumps([errors, content]))
    print(peak() - before)


@pytest.mark.parametrize("name", READERS)
def test_no_claim_is_believed(name: str, images: list[Path]) -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from test_claims import run; run({name!r}, sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, *map(str, images)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS * 3, check=False)
    assert done.returncode == 0, done.stderr
    *lines, taken = done.stdout.splitlines()
    assert int(taken) < MOST_MEMORY
    for path, line in zip(images, lines, strict=True):
        errors, honest = json.loads(line)
        assert honest == HONEST.decode() or name == "extents", path.name
        assert "/honest" not in errors, path.name
        for entry, (kind, message, nid, filename) in errors.items():
            assert filename == entry, path.name
            if kind != "IsADirectoryError":
                assert kind in ("CorruptImage", "LimitExceeded", "UnsupportedFeature"), (
                    f"{path.name}: {message}"
                )
                assert nid is not None, f"{path.name}: {message}"
        if name in ("read_bytes", "read_many"):
            assert "/f1" in errors, path.name


def test_the_limit_on_memory_can_be_raised() -> None:
    size = (1 << 30) + 5000
    made = image(inode(PLAIN, size, u=HOLE))
    with pyerofs.open(made) as opened, pytest.raises(pyerofs.LimitExceeded) as caught:
        (opened / "f1").read_bytes()
    error = caught.value
    assert (error.limit_name, error.value, error.limit) == ("memory_bytes", size, 1 << 30)
    assert error.remedy is not None
    assert "open() reads it in pieces" in error.remedy
    limits = {"memory_bytes": 17 << 20}
    small = image(inode(PLAIN, 17 << 20, u=HOLE), inode(PLAIN, 1 + (17 << 20), u=HOLE))
    with pyerofs.open(small, limits=limits) as opened:
        assert (opened / "f1").read_bytes() == bytes(17 << 20)
        answers = dict(opened.read_many(["/f1", "/f2"], budget=1 << 20))
        assert len(answers["/f1"]) == 17 << 20  # type: ignore[arg-type]
        assert isinstance(answers["/f2"], pyerofs.LimitExceeded)
        with (opened / "f2").open("rb") as file:
            assert sum(len(piece) for piece in iter(lambda: file.read(1 << 20), b"")) == 1 + (17 << 20)


def command(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pyerofs", *words], capture_output=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def longest(images: list[Path]) -> list[Path]:
    """Those of the largest size."""
    return [path for path in images if path.name.endswith("60 bits")]


def test_testing_an_image_ends_and_tells_of_the_one_file(longest: list[Path]) -> None:
    for path in longest:
        done = command("extract", "--test", str(path))
        assert done.returncode in (0, 1, 3), path.name
        assert b"honest" not in done.stderr, path.name
        if done.returncode:
            assert b": /f1: " in done.stderr or b": /f2: " in done.stderr, path.name


def test_extraction_ends_and_brings_the_other_file(longest: list[Path], tmp_path: Path) -> None:
    for path in longest:
        target = tmp_path / path.name
        command("extract", str(path), str(target))
        assert (target / "honest").read_bytes() == HONEST, path.name
        blocks = sum(entry.lstat().st_blocks for entry in target.iterdir())
        assert blocks * 512 < 16 << 20, path.name


def test_an_archive_ends_and_has_the_other_file(longest: list[Path], tmp_path: Path) -> None:
    for path in longest:
        archive = tmp_path / "archive.tar"
        done = command("extract", "--tar", str(archive), str(path))
        assert done.returncode in (0, 1, 3), path.name
        assert HONEST in archive.read_bytes(), path.name
        assert archive.stat().st_size < 2 << 20, path.name
        archive.unlink()


def test_comparing_ends(longest: list[Path], tmp_path: Path) -> None:
    for path in longest:
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        assert command("diff", str(path), str(copy)).returncode in (0, 2), path.name
