"""Every way in which an image can be bad: exception, number and place; exit status and one sentence."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import pyerofs
import tiny
from pyerofs.cli import app
from pyerofs.errors import DeviceMismatch, NotAnImage
from tiny import DIRECTORY, REGULAR, SYMLINK, Node

if TYPE_CHECKING:
    from pathlib import Path

DOTS = ((b".", 0), (b"..", 0))
CORRUPT = (pyerofs.CorruptImage, errno.EUCLEAN, 1)
UNSUPPORTED = (pyerofs.UnsupportedFeature, errno.EOPNOTSUPP, 3)
NO_IMAGE = (NotAnImage, errno.EUCLEAN, 1)


@dataclass(frozen=True)
class Bad:
    """A bad image, what reading all of it must end with, and words that the sentence must have."""

    name: str
    data: bytes
    outcome: tuple[type[OSError], int, int]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def with_root(*entries: tuple[bytes, int, int], extra: tuple[Node, ...] = ()) -> bytes:
    """An image whose root has these entries, as they are, besides its dots."""
    rows = [(b".", 0, 2), (b"..", 0, 2), *entries]
    return tiny.image(Node(DIRECTORY, tiny.dirents(rows)), *extra)


def with_file(node: Node, **options: int) -> bytes:
    """An image with one entry."""
    return tiny.image(Node(DIRECTORY, entries=(*DOTS, (b"x", 1))), node, **options)  # type: ignore[arg-type]


def patched(at: int, value: bytes, data: bytes | None = None) -> bytes:
    """An image with some bytes changed; by default the sample."""
    made = bytearray(tiny.sample() if data is None else data)
    made[at : at + len(value)] = value
    return bytes(made)


def wrong_checksum() -> bytes:
    made = tiny.image(Node(DIRECTORY, entries=DOTS), compat=1)
    return patched(tiny.SUPERBLOCK + 0x40, b"Other", made)


FILE = Node(REGULAR, b"data")
LOOP = tiny.image(
    Node(DIRECTORY, entries=(*DOTS, (b"sub", 1))),
    Node(DIRECTORY, entries=((b".", 1), (b"..", 0), (b"up", 0))),
)
LYING_VALUE = tiny.xattr_area() + struct.pack("<BBH", 1, 1, 60000) + b"abcd"

BAD = [
    Bad("empty", b"", NO_IMAGE, ("not an EROFS image",)),
    Bad("three bytes", b"abc", NO_IMAGE, ("not an EROFS image",)),
    Bad("text", b"text\n" * 4000, NO_IMAGE, ("not an EROFS image",)),
    Bad("cut in the superblock", tiny.sample()[:1100], CORRUPT, ("ends before", "offset 1024")),
    Bad("cut in the metadata", tiny.sample()[: tiny.place(3)], CORRUPT, ("ends before", "nid 768")),
    Bad("cut in the data", tiny.sample()[:-1000], CORRUPT, ("ends before", "nid 1280")),
    Bad("wrong checksum", wrong_checksum(), CORRUPT, ("checksum is 0x",)),
    Bad(
        "unknown feature", tiny.image(Node(DIRECTORY, entries=DOTS), incompat=0x200), UNSUPPORTED, ("0x200",)
    ),
    Bad("block size", patched(tiny.SUPERBLOCK + 0xC, b"\x08"), CORRUPT, ("block size 2^8", "offset 1024")),
    Bad("root is a file", tiny.image(FILE), CORRUPT, ("root has mode 0o100644",)),
    Bad("root out of reach", patched(tiny.SUPERBLOCK + 0xE, b"\xff\xff"), CORRUPT, ("nid 65535",)),
    Bad("directory loops", LOOP, CORRUPT, ("/sub/up", "second time", "nid 0")),
    Bad("name with a slash", with_root((b"a/b", 128, 1), extra=(FILE,)), CORRUPT, ("a/b", "slash", "nid 0")),
    Bad(
        "name with a NUL",
        with_root((b"a\0b", 128, 1), (b"c", 128, 1), extra=(FILE,)),
        CORRUPT,
        ("NUL", "nid 0"),
    ),
    Bad("names descend", with_root((b"b", 128, 1), (b"a", 128, 1), extra=(FILE,)), CORRUPT, ("nid 0",)),
    Bad("entry leads nowhere", with_root((b"a", 1 << 40, 1)), CORRUPT, (f"nid {1 << 40}",)),
    Bad(
        "xattr value too long",
        with_file(Node(REGULAR, b"x", xattrs=LYING_VALUE)),
        CORRUPT,
        ("xattr", "nid 128"),
    ),
    Bad(
        "too many shared xattrs",
        with_file(Node(REGULAR, b"x", xattrs=struct.pack("<IB7x", 0, 200) + bytes(4))),
        CORRUPT,
        ("200 shared xattrs", "nid 128"),
    ),
    Bad("tail crosses a block", with_file(Node(REGULAR, size=4090)), CORRUPT, ("crosses a block", "nid 128")),
    Bad("link without a target", with_file(Node(SYMLINK)), CORRUPT, ("symbolic link", "nid 128")),
    Bad("unknown layout", with_file(Node(REGULAR, layout=6)), UNSUPPORTED, ("nid 128",)),
    Bad(
        "unknown algorithm",
        with_file(Node(REGULAR, struct.pack("<IHBB8x", 0, 0, 9, 0), size=9, layout=3), incompat=1),
        UNSUPPORTED,
        ("nid 128",),
    ),
]


def read_everything(source: Path | bytes, devices: tuple[Path, ...] = ()) -> None:
    with pyerofs.open(source, devices) as image:
        for here, directories, others in image.root.walk():
            for entry in (here, *(here / name for name in (*directories, *others))):
                dict(entry.extended_attributes(follow_symlinks=False))
                if entry.is_symlink():
                    entry.readlink()
                elif entry.is_file():
                    entry.read_bytes()


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_image_is_the_right_exception(bad: Bad) -> None:
    kind, number, _ = bad.outcome
    with pytest.raises(kind) as caught:
        read_everything(bad.data)
    assert type(caught.value) is kind
    assert caught.value.errno == number
    for word in bad.words:
        assert word in str(caught.value)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_image_is_one_sentence_and_the_right_status(
    bad: Bad, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.erofs"
    path.write_bytes(bad.data)
    statuses = {app.run(["info", str(path)]), app.run(["ls", "-lR", str(path)])}
    capfd.readouterr()
    if statuses == {0}:  # the fault is not on the way there
        names = ("x", "big", "file.txt")
        statuses = {app.run(["stat", str(path), name]) for name in names} - {1}
        statuses |= {app.run(["cat", str(path), name]) for name in names}
    assert bad.outcome[2] in statuses
    for line in capfd.readouterr().err.splitlines():
        assert line.startswith(f"pyerofs: {path}: ")
        assert "Traceback" not in line


def test_the_sentence_names_image_entry_and_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop.erofs"
    path.write_bytes(LOOP)
    assert app.run(["ls", "-R", str(path)]) == 1
    out, err = capfd.readouterr()
    assert (
        err
        == f"pyerofs: {path}: /sub/up: the directory is reached a second time, so the tree loops (nid 0)\n"
    )
    assert out == "/sub\n/sub/up\n"


@pytest.mark.parametrize(("slots", "given"), [(2, 1), (1, 2), (0, 1)])
def test_devices_must_be_as_many_as_the_table_has(
    slots: int, given: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = b"".join(tiny.device_slot(b"blob", 1, 0) for _ in range(slots))
    root = Node(DIRECTORY, entries=DOTS)
    path = tmp_path / "devices.erofs"
    path.write_bytes(tiny.image(root, incompat=8 if slots else 0, extra_devices=slots, slots=table))
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(4096))
    with pytest.raises(DeviceMismatch) as caught:
        pyerofs.open(path, [blob] * given)
    assert caught.value.errno == errno.EINVAL
    assert caught.value.filename == str(path)
    words = [word for _ in range(given) for word in ("--device", str(blob))]
    assert app.run(["info", str(path), *words]) == 2
    assert f"{slots} extra devices, but {given} were given" in capfd.readouterr().err


def test_a_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        pyerofs.open(tiny.sample(), [tmp_path / "gone"])
    assert caught.value.filename == str(tmp_path / "gone")


def test_a_walk_goes_on_behind_an_error_that_somebody_takes() -> None:
    errors: list[OSError] = []
    data = with_root((b"a", 1 << 40, 1), (b"b", 128, 1), extra=(FILE,))
    with pyerofs.open(data) as image:
        steps = list(image.root.walk(on_error=errors.append))
    assert [(directories, others) for _, directories, others in steps] == [([], ["a", "b"])]
    assert [error.filename for error in errors] == ["/a"]
