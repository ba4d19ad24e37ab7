"""What every test may ask for, and what no test may leave behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

import peers as peer_tools
import vm
from ordinary_user import DIRECTORIES, OrdinaryUser, fuse_for_everybody, ordinary_user
from trees import Trees

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["mount_tools", "diff_tools"]

SHARED_MEMORY = Path("/dev/shm")

# The default is quick and the same each time; HYPOTHESIS_PROFILE=deep looks further and elsewhere.
settings.register_profile(
    "quick",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("deep", parent=settings.get_profile("quick"), max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Have programs that tests start die of Ctrl-C, also where a shell runs pytest in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `root` for anybody else."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def peers() -> peer_tools.Peers:
    """The newest erofs-utils; skips with the reason where they can't be had."""
    try:
        return peer_tools.find()
    except peer_tools.NoPeersError as error:
        pytest.skip(f"no newest erofs-utils: {error}")


@pytest.fixture(scope="session")
def machine() -> vm.Machine:
    """A virtual machine with the newest kernel; skips with the reason where there can be none."""
    try:
        return vm.find()
    except vm.NoMachineError as error:
        pytest.skip(f"no virtual machine: {error}")


@pytest.fixture(scope="session")
def kernel_erofs() -> None:
    """Skips where the kernel's own EROFS can't mount a plain file here."""
    if os.geteuid() != 0:
        pytest.skip("a kernel mount needs root")
    if "\terofs\n" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "erofs"], check=False, capture_output=True)
    if "\terofs\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")


@pytest.fixture(scope="session")
def fuse_device() -> Iterator[None]:
    """/dev/fuse, open to everybody for the session where root can arrange that; skips without it."""
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse")
    if os.geteuid() != 0:
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("/dev/fuse can't be opened by this user")
        yield
        return
    with fuse_for_everybody():
        yield


@pytest.fixture(scope="session")
def user(fuse_device: None) -> Iterator[OrdinaryUser]:  # noqa: ARG001
    """An ordinary user with a home and `pyerofs` in its PATH: made by root, else oneself."""
    with ordinary_user() as made:
        yield made


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trees]:
    """The trees of tests/cases.py."""
    memory = None
    if SHARED_MEMORY.is_dir():
        memory = Path(tempfile.mkdtemp(prefix="pyerofs-trees-", dir=SHARED_MEMORY))
    yield Trees(tmp_path_factory.mktemp("trees"), memory)
    if memory is not None:
        shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory on a tmpfs, which takes any time and xattrs of any size."""
    if not SHARED_MEMORY.is_dir():
        pytest.skip("there is no /dev/shm")
    path = Path(tempfile.mkdtemp(prefix="pyerofs-test-", dir=SHARED_MEMORY))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def mounts(below: tuple[str, ...]) -> set[str]:
    """The mounts of this namespace below some directories, as `MOUNT POINT (TYPE)`."""
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            kind = fields[fields.index("-") + 1]
            if fields[4].startswith(below):
                found.add(f"{fields[4]} ({kind})")
    return found


@pytest.fixture(autouse=True)
def nothing_left_mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test that leaves a mount behind, and take the mount away so that the next test starts clean."""
    # Other mounts that appear meanwhile are somebody else's.
    own = (str(tmp_path_factory.getbasetemp()), *map(str, DIRECTORIES))
    before = mounts(own)
    yield
    left = sorted(mounts(own) - before)
    for mount in left:
        subprocess.run(["umount", "-l", mount.rsplit(" ", 1)[0]], check=False, capture_output=True)
    assert not left, f"left mounted: {', '.join(left)}"
