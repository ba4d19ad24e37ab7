"""Images from archives, other images, several of them, and entries that Python makes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

import pyerofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ordinary_user import OrdinaryUser

PROGRAM = [sys.executable, "-m", "pyerofs", "build"]


def archive(members: dict[str, bytes]) -> bytes:
    """An archive with these files, times 0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def files(image: Path) -> dict[str, bytes]:
    """Every regular file of an image."""
    with pyerofs.open(image) as opened:
        return {entry.path: entry.read_bytes() for entry in opened.root.scan() if entry.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.erofs"


def test_an_archive_is_built_from_a_path_a_descriptor_and_a_stream(tmp_path: Path, target: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive({"a/b": b"content"}))
    with path.open("rb") as file:
        images = []
        for source in (path, file.fileno(), io.BytesIO(path.read_bytes())):
            pyerofs.build(source, target, force=True)
            images.append(target.read_bytes())
    assert images[0] == images[1] == images[2]
    assert files(target) == {"/a/b": b"content"}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_standard_input_is_an_archive(compress: Callable[[bytes], bytes], target: Path) -> None:
    archived = compress(archive({"x": b"1"}))
    done = subprocess.run([*PROGRAM, "-", target], input=archived, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files(target) == {"/x": b"1"}


def test_a_cut_archive_leaves_nothing_and_names_place_and_remedy(user: OrdinaryUser, tmp_path: Path) -> None:
    home = user.home / "cut"
    user.run(["mkdir", "-p", home], check=True)
    whole = archive({"x": b"1" * 9999})
    for cut in (0, 100, 512, 3000, 10752):
        done = user.run(
            [user.python, "-m", "pyerofs", "build", "-", home / "image"],
            input=whole[:cut],
            capture_output=True,
        )
        assert done.returncode == 1, done.stderr
        assert b"<stdin>: at byte " in done.stderr
        assert b"cut off" in done.stderr
        assert b"make or fetch the archive again" in done.stderr
        listed = user.run(["ls", "-A", home], capture_output=True, check=True)
        assert listed.stdout == b""
    with pytest.raises(pyerofs.ErofsError, match="cut off") as raised:
        pyerofs.build(io.BytesIO(whole[:3000]), tmp_path / "image")
    assert raised.value.filename == "<stream>"
    assert not (tmp_path / "image").exists()


def test_a_build_that_waits_for_an_archive_can_be_interrupted(target: Path) -> None:
    with subprocess.Popen([*PROGRAM, "-", target], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert not target.exists()


class Broken:
    """A stream that gives what it is told to, or raises it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def read(self, _size: int) -> object:
        """Answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ZeroDivisionError("mine"), ZeroDivisionError),
        ("text", TypeError),
        (None, TypeError),
        (bytes(10**7), OSError),
    ],
)
def test_what_a_stream_raises_comes_back_as_it_was(
    answer: object, error: type[Exception], target: Path
) -> None:
    with pytest.raises(error):
        pyerofs.build(Broken(answer), target)  # type: ignore[arg-type]
    assert not target.exists()


def test_the_newest_of_several_images_wins(tmp_path: Path, target: Path) -> None:
    for number in range(3):
        text = str(number).encode()
        layer = archive({"same": text, f"own{number}": b"x", "dir/of": text})
        pyerofs.build(io.BytesIO(layer), tmp_path / str(number))
    layers = [tmp_path / str(number) for number in range(3)]
    pyerofs.build(layers, target, compress="lz4")
    assert files(target) == {
        "/same": b"2", "/dir/of": b"2", "/own0": b"x", "/own1": b"x", "/own2": b"x",
    }  # fmt: skip


def test_an_image_that_is_damaged_is_an_error_with_its_path(tmp_path: Path, target: Path) -> None:
    content = io.BytesIO(archive({"a": bytes(range(256)) * 64}))
    pyerofs.build(content, tmp_path / "bad", compress="zstd", fragments=False)
    damaged = bytearray((tmp_path / "bad").read_bytes())
    with pyerofs.open(bytes(damaged)) as image:
        (extent,) = (image / "a").extents()
    at = extent.blob_offset or 0
    damaged[at : at + extent.stored] = bytes(extent.stored)
    (tmp_path / "bad").write_bytes(damaged)
    with pytest.raises(pyerofs.CorruptImage, match="bad/a"):
        pyerofs.build(tmp_path / "bad", target)
    assert not target.exists()


def test_an_open_image_is_a_source_and_a_closed_one_is_not(tmp_path: Path, target: Path) -> None:
    pyerofs.build(io.BytesIO(archive({"a": b"1"})), tmp_path / "first")
    with pyerofs.open((tmp_path / "first").read_bytes()) as image:
        pyerofs.build(image, target)
    assert files(target) == {"/a": b"1"}
    with pytest.raises(ValueError, match="closed"):
        pyerofs.build(image, target, force=True)


def test_later_sources_lie_over_earlier_ones(tmp_path: Path, target: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "kept").write_bytes(b"0")
    (base / "gone").write_bytes(b"0")
    layer = tmp_path / "layer.tar"
    layer.write_bytes(archive({"kept2": b"1", ".wh.gone": b""}))
    pyerofs.build([base, layer, io.BytesIO(archive({"kept": b"2"}))], target)
    assert files(target) == {"/kept": b"2", "/kept2": b"1"}
    commands: list[list[str | Path]] = [["-o", target, base, layer], [base, layer, target]]
    for command in commands:
        subprocess.run([*PROGRAM, "-f", "--whiteouts", "plain", *command], check=True, capture_output=True)
    assert set(files(target)) == {"/kept", "/gone", "/kept2", "/.wh.gone"}


def test_entries_come_from_a_generator_with_everything_that_they_can_say(
    tmp_path: Path, target: Path
) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"0123456789")
    with content.open("rb") as file:
        entries = (
            entry
            for entry in [
                pyerofs.SourceEntry(path="/", type="directory", mode=0o700),
                pyerofs.SourceEntry(
                    path="d/bytes", content=b"bytes", mode=0o600, uid=5, gid=6, mtime_ns=7_000_000_008,
                    xattrs={"user.x": b"\0"},
                ),
                pyerofs.SourceEntry(path="whole", content=content),
                pyerofs.SourceEntry(path="part", content=(file, 2, 3)),
                pyerofs.SourceEntry(path="early", type="link", target="d/bytes"),
                pyerofs.SourceEntry(path="link", type="symlink", target="whole"),
                pyerofs.SourceEntry(path="null", type="char", rdev=(1, 3)),
                pyerofs.SourceEntry(path="pipe", type="fifo"),
            ]
        )  # fmt: skip
        pyerofs.build(entries, target)
    with pyerofs.open(target) as image:
        assert (image / "part").read_bytes() == b"234"
        assert (image / "whole").read_bytes() == b"0123456789"
        assert (image / "link").readlink() == "whole" or str((image / "link").readlink()) == "whole"
        stat = (image / "early").stat()
        assert (stat.st_uid, stat.st_gid, stat.st_mtime_ns, stat.st_nlink) == (5, 6, 7_000_000_008, 2)
        assert (image / "d/bytes").extended_attributes()["user.x"] == b"\0"
        assert image.root.stat().st_mode & 0o7777 == 0o700


def test_a_mapping_of_entries_goes_by_its_keys(target: Path) -> None:
    pyerofs.build({"here": pyerofs.SourceEntry(path="there", content=b"1")}, target)
    assert files(target) == {"/here": b"1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "door"},
        {"mode": 0o10000},
        {"uid": -1},
        {"gid": 2**32},
        {"mtime_ns": 2**63 * 10**9},
        {"type": "char", "rdev": (-1, 0)},
    ],
)
def test_an_entry_that_no_file_can_be_is_refused_where_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'x': "):
        pyerofs.SourceEntry(path="x", **wrong)  # type: ignore[arg-type]


def test_a_generator_may_close_its_files_when_it_goes_on(tmp_path: Path, target: Path) -> None:
    def entries() -> Iterator[pyerofs.SourceEntry]:
        for number in range(5):
            with (tmp_path / str(number)).open("w+b") as file:
                file.write(b"%d and more" % number)
                file.flush()
                yield pyerofs.SourceEntry(path=str(number), content=(file, 0, 5))

    pyerofs.build(entries(), target)
    assert files(target) == {f"/{number}": b"%d and" % number for number in range(5)}


def test_what_a_generator_raises_comes_back_as_it_was(target: Path) -> None:
    def entries() -> Iterator[pyerofs.SourceEntry]:
        yield pyerofs.SourceEntry(path="x")
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pyerofs.build(entries(), target)
    assert not target.exists()


def test_a_part_that_a_file_does_not_have_is_an_error(tmp_path: Path, target: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with (tmp_path / "file").open("rb") as file:
        for part, error in (
            ((file, 3, 3), OSError),
            ((file, -1, 3), ValueError),
            ((file, 0, 2**63), ValueError),
        ):
            with pytest.raises(error):
                pyerofs.build([pyerofs.SourceEntry(path="x", content=part)], target)
    assert not target.exists()


@pytest.mark.parametrize("source", [b"bytes", 1.5, [b"x"], ["no/such/file"], iter(["text"]), []])
def test_what_is_no_source_is_refused(source: object, target: Path) -> None:
    with pytest.raises((TypeError, ValueError, FileNotFoundError)):
        pyerofs.build(source, target)  # type: ignore[arg-type]
    assert not target.exists()


@pytest.mark.parametrize("path", ["../up", "a/../b", "n" * 256, "p/" * 2100 + "x"])
def test_paths_that_no_tree_has_are_refused(path: str, target: Path) -> None:
    with pytest.raises(pyerofs.ErofsError):
        pyerofs.build({path: b""}, target)


def test_images_among_the_sources_take_their_devices_in_turn(tmp_path: Path, target: Path) -> None:
    first, second = tmp_path / "first.blob", tmp_path / "second.blob"
    one, two, plain = tmp_path / "one", tmp_path / "two", tmp_path / "plain"
    pyerofs.build({"a": b"a" * 10_000}, one, chunk=4096, blob=first)
    pyerofs.build({"a": b"a" * 10_000, "b": b"b" * 5000}, two, chunk=4096, reuse=[first], blob=second)
    pyerofs.build({"c": b"c" * 5000}, plain)

    def built(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PROGRAM, "-f", *words], capture_output=True, text=True, check=False)

    devices: list[str | Path] = []
    for blob in (first, first, second):
        devices += ["--device", blob]
    done = built(*devices, one, plain, two, target)
    assert done.returncode == 0, done.stderr
    assert files(target) == {"/a": b"a" * 10_000, "/b": b"b" * 5000, "/c": b"c" * 5000}
    target.unlink()
    for words, message in (
        ([*devices, plain, one], f"{first} is a device of no SRC"),
        (["--device", first, two], "has 2 extra devices, but 1 were given"),
        ([two], "has 2 extra devices, but 0 were given"),
        ([*devices[2:], "--limit", "walk_entries=1", two], "walk_entries is 2, at most 1"),
        (["--device", tmp_path / "nothing", one], "nothing: No such file"),
    ):
        done = built(*words, target)
        assert done.returncode in (1, 2, 3), done.stderr
        assert message in done.stderr
        assert not target.exists()
