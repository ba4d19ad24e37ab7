"""fsspec's own conformance suites over built images.

The suites write what they then read. For the reading half each test writes into a directory, and an image of
that, plain or compressed, is built when the test asks the filesystem something. The writing half runs
against an image as it is, and each of its tests must end with EROFS.
"""

from __future__ import annotations

import errno
import functools
import os
import posixpath
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

import pyerofs
from pyerofs.fsspec import ErofsFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from peers import Peers


class Rebuilt(ErofsFileSystem):
    """Writes go to a directory; reading is done by the real methods from a new image of it."""

    _current: pyerofs.Image | None = None

    def __init__(self, tree: Path, images: Path, make: Callable[[Path, Path], object]) -> None:
        self._tree = tree
        self._images = images
        self._make = make
        self._count = 0
        super().__init__(fo=self._build())

    def _build(self) -> pyerofs.Image:
        self._count += 1
        path = self._images / str(self._count)
        self._make(self._tree, path)
        return pyerofs.open(path)

    def _write(self, method: str, path: Any, *args: Any, **kwargs: Any) -> None:
        place = self._tree / self._strip_protocol(path)
        getattr(LocalFileSystem(auto_mkdir=True), method)(str(place), *args, **kwargs)
        self.close()

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
        self._current = None

    @property
    def image(self) -> pyerofs.Image:
        if self._current is None:
            self._current = self._build()
        return self._current

    @image.setter
    def image(self, image: pyerofs.Image | None) -> None:
        self._current = image

    mkdir = functools.partialmethod(_write, "mkdir")
    makedirs = functools.partialmethod(_write, "makedirs")
    touch = functools.partialmethod(_write, "touch")
    pipe = functools.partialmethod(_write, "pipe")
    rm = functools.partialmethod(_write, "rm")


class Fixtures(abstract.AbstractFixtures):
    """What the suites ask for, on an image."""

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def fs_path(self) -> str:
        return "place"


class TestGet(Fixtures, abstract.AbstractGetTests):
    """The reading half."""

    def make(self, tree: Path, image: Path) -> None:
        pyerofs.build(tree, image, fingerprint=False)

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[ErofsFileSystem]:
        for name in ("tree/place", "images"):
            (tmp_path / name).mkdir(parents=True)
        made = Rebuilt(tmp_path / "tree", tmp_path / "images", self.make)
        yield made
        made.close()


class TestGetCompressed(TestGet):
    """The same where the files lie in clusters that they share, and so do their inodes and directories."""

    @pytest.fixture(autouse=True)
    def _with_peers(self, peers: Peers) -> None:
        self.peers = peers

    def make(self, tree: Path, image: Path) -> None:
        self.peers.run("mkfs.erofs", "-zzstd", "-Eall-fragments,dedupe", "-m4096", image, tree)


def refused(test: Callable[..., None]) -> Callable[..., None]:
    """The same test, which now is to end with EROFS."""

    @functools.wraps(test)
    def turned(*args: Any, **kwargs: Any) -> None:
        with pytest.raises(OSError) as caught:
            test(*args, **kwargs)
        assert caught.value.errno == errno.EROFS

    return turned


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ErofsFileSystem]:
    """An image with every scenario of the suites."""
    place = tmp_path_factory.mktemp("suite")
    local = LocalFileSystem(auto_mkdir=True)
    makers = Fixtures()
    for scenario in (
        makers._bulk_operations_scenario_0,
        makers._glob_edge_cases_files,
        makers._dir_and_file_with_same_name_prefix,
        makers._10_files_with_hashed_names,
    ):
        scenario(local, os.path.join, str(place / "tree" / scenario.__name__))
    pyerofs.build(place / "tree", place / "image")
    made = ErofsFileSystem(str(place / "image"))
    yield made
    made.close()


class ReadOnlyFixtures(Fixtures):
    """An image that holds what the suites would have written first."""

    @pytest.fixture
    def fs(self, read_only: ErofsFileSystem) -> ErofsFileSystem:
        return read_only

    @pytest.fixture
    def fs_path(self) -> str:
        return ""

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        return "_bulk_operations_scenario_0/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return "_glob_edge_cases_files/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return "_dir_and_file_with_same_name_prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return "_10_files_with_hashed_names/source"


def turned(suite: type) -> type:
    """A suite whose every test must end with EROFS."""
    tests = {name: refused(getattr(suite, name)) for name in dir(suite) if name.startswith("test_")}
    assert tests, f"{suite.__name__} has no tests any more"
    return type(suite.__name__, (ReadOnlyFixtures,), tests)


TestCopy = turned(abstract.AbstractCopyTests)
TestPut = turned(abstract.AbstractPutTests)
TestPipe = turned(abstract.AbstractPipeTests)
TestOpen = turned(abstract.AbstractOpenTests)


def test_no_suite_was_forgotten() -> None:
    """A suite that a newer fsspec adds is run here or this fails."""
    suites = {name for name in dir(abstract) if name.startswith("Abstract") and name.endswith("Tests")}
    assert suites == {f"Abstract{kind}Tests" for kind in ("Copy", "Get", "Open", "Pipe", "Put")}
