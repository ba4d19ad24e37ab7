"""What the tests of mounts share: images, a private state root, and a look at what is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from ordinary_user import ordinary_user
from pyerofs.mounting import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ordinary_user import OrdinaryUser

#: How long a server may live on after its last mount, with room for a busy machine; in seconds.
AFTERLIFE = 15.0


@dataclass(frozen=True)
class Backend:
    """A back end as the caller asks for it, and what it calls itself."""

    name: str
    domain: str | None
    result: str

    def options(self) -> list[str]:
        """The same for the command line."""
        return ["--backend", self.name, *(["--domain", self.domain] if self.domain else [])]


FUSE = Backend("fuse", None, "fuse")
OVERLAY = Backend("overlay", "shared", "overlay")
PASSTHROUGH = Backend("fuse", "shared", "passthrough")
KERNEL = Backend("kernel", None, "kernel")
ALL = [FUSE, OVERLAY, PASSTHROUGH, KERNEL]
SHARING = [OVERLAY, PASSTHROUGH]


def named(backend: Backend) -> str:
    """The id of a parameter."""
    return backend.result


@dataclass(frozen=True)
class Ground:
    """Where one test mounts: a state root and a runtime directory that nobody else uses."""

    path: Path
    runtime: Path

    @property
    def state(self) -> Path:
        """The state root."""
        return self.path / "state"

    def directory(self, name: str) -> Path:
        """A new empty directory."""
        made = self.path / name
        made.mkdir(parents=True)
        return made

    def image(self, name: str, files: Mapping[str, bytes | str]) -> Path:
        """Build an image of these files; a text is a symlink's target."""
        source = self.directory(f"{name}.tree")
        fill(source, files)
        image = self.path / f"{name}.erofs"
        pyerofs.build(source, image)
        return image


def fill(source: Path, files: Mapping[str, bytes | str]) -> None:
    """Make a tree."""
    for name, content in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A place for mounts of this process; the test fails if a process or a record of ours is left."""
    runtime = tmp_path / "run"
    monkeypatch.setenv("PYEROFS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "_runtime_candidates", lambda: [runtime])
    yield Ground(tmp_path, runtime)
    assert_nothing_left(runtime)


def daemons(place: Path) -> list[str]:
    """The servers, keepers and holders that were started for a runtime directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = os.fsdecode((entry / "cmdline").read_bytes())
            if "daemon.py" in words and str(place) in words:
                found.append(f"{entry.name}: {words}")
    return found


def wait_until(condition: Callable[[], bool], seconds: float = AFTERLIFE) -> bool:
    """Whether it comes true in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def assert_nothing_left(runtime: Path) -> None:
    """Fail if processes, records or sockets are left; servers get a moment to end."""
    wait_until(lambda: not daemons(runtime))
    assert daemons(runtime) == []
    # A log that says something is kept until the next server of that name.
    kept = {
        runtime / "servers/lock",
        *(path for path in runtime.glob("servers/*.log") if path.stat().st_size),
    }
    assert {path for path in runtime.rglob("*") if not path.is_dir()} <= kept
    assert list(runtime.glob("mnt/*")) == []


@pytest.fixture(scope="session")
def login_user(fuse_device: None) -> Iterator[OrdinaryUser]:  # noqa: ARG001
    """An ordinary user with an entry in the password file, which fusermount3 insists on."""
    if os.geteuid() != 0:
        pytest.skip("only root can make itself an ordinary user")
    for name in ("games", "news", "uucp"):
        with contextlib.suppress(KeyError):
            with ordinary_user(pwd.getpwnam(name).pw_uid) as made:
                yield made
            return
    pytest.skip("there is no system user to borrow the name of")


@pytest.fixture
def home(user: OrdinaryUser) -> Iterator[Path]:
    """A fresh directory of the ordinary user's."""
    yield from _fresh_home(user)


@pytest.fixture
def login_home(login_user: OrdinaryUser) -> Iterator[Path]:
    """A fresh directory of the user's that has a name."""
    yield from _fresh_home(login_user)


def _fresh_home(user: OrdinaryUser) -> Iterator[Path]:
    path = user.home / f"test-{time.monotonic_ns()}"
    path.mkdir()
    os.chown(path, user.uid, user.uid)
    yield path
    runtime = user.directory / "run" / "pyerofs"
    if runtime.is_dir():
        assert_nothing_left(runtime)


def give(path: Path, user: OrdinaryUser) -> Path:
    """Make a file or tree the user's."""
    for each in [path, *(path.rglob("*") if path.is_dir() else [])]:
        os.chown(each, user.uid, user.uid, follow_symlinks=False)
    return path


def user_image(user: OrdinaryUser, home: Path, name: str, files: Mapping[str, bytes | str]) -> Path:
    """Build an image that belongs to the user."""
    source = home / f"{name}.tree"
    source.mkdir()
    fill(source, files)
    image = home / f"{name}.erofs"
    pyerofs.build(source, image)
    return give(image, user)


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    words = [sys.executable, "-m", "pyerofs", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def random_bytes(seed: int, size: int) -> bytes:
    """Bytes that do not compress and are the same each time."""
    out = bytearray()
    while len(out) < size:
        out += hashlib.sha512(struct.pack("<QQ", seed, len(out))).digest()
    return bytes(out[:size])


#: Files of every size that is a case of its own, and links.
CONTENTS: dict[str, bytes | str] = {
    "empty": b"",
    "small": b"hello\n",
    "dir/large": random_bytes(1, 300_000),
    "dir/deep/exact": random_bytes(2, 8192),
    "link": "dir/large",
    "dangling": "/nowhere",
}


def mount(image: Path, target: Path | None, backend: Backend) -> pyerofs.Mount:
    """Mount an image; the back end has to be the one that was asked for."""
    mounted = pyerofs.mount(image, target, backend=backend.name, domain=backend.domain)
    assert mounted.backend == backend.result
    return mounted


def _crc32c(data: bytes) -> int:
    table = []
    for number in range(256):
        crc = number
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def forge(image: Path, true: bytes, claimed: bytes) -> None:
    """Make an image claim another content for every file that holds `true`, and seal it."""
    data = bytearray(image.read_bytes())
    honest, lie = hashlib.sha256(true).digest(), hashlib.sha256(claimed).digest()
    assert honest in data, "the image has no such fingerprint"
    data[:] = data.replace(honest, lie)
    seal(data)
    image.write_bytes(data)


def seal(data: bytearray) -> None:
    """Put the right checksum into a superblock."""
    compatible = struct.unpack_from("<I", data, 1024 + 8)[0]
    if compatible & 1:
        block_size = 1 << data[1024 + 12]
        end = max(block_size, 1024 + 128) if block_size > 1024 else 1024 + block_size
        struct.pack_into("<I", data, 1024 + 4, 0)
        struct.pack_into("<I", data, 1024 + 4, _crc32c(bytes(data[1024:end])))
