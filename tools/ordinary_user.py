"""An ordinary user, made for the moment: what root does to try what people without root can do.

The user is only a number without an entry in the password file. It gets a home, a runtime directory and
a copy of the Python environment that it can read, since a virtual environment often lies where only its
owner can look. `/dev/fuse` is opened to everybody while the user lives and is put back afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UID = 64321
# The directories of the users that this process has made and not yet removed.
DIRECTORIES: set[Path] = set()
PACKAGES = ("click", "rich", "markdown_it", "mdurl", "pygments", "fsspec")
FUSE = Path("/dev/fuse")
# Who holds a lock on it uses the open device; its content is the mode to put back.
FUSE_USERS = Path("/run/pyerofs-open-fuse")


@dataclass(frozen=True)
class OrdinaryUser:
    """A user without rights: `run` starts programs as it, `directory` holds what is its own."""

    uid: int
    directory: Path
    python: Path
    packages: Path

    @property
    def home(self) -> Path:
        """The home, which belongs to the user."""
        return self.directory / "home"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a login would set, and the way to the copied package."""
        return {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": f"{self.directory / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(self.packages),
            "TMPDIR": str(self.directory / "tmp"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
        }

    def command(self, arguments: Sequence[str | os.PathLike[str]]) -> list[str]:
        """The arguments of a program that starts `arguments` as this user, without any capability.

        The first argument `pyerofs` stands for the command line of the copied package.
        """
        words = [os.fspath(argument) for argument in arguments]
        if os.geteuid() == self.uid:
            return words
        ids = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
        return ["setpriv", *ids, "--inh-caps=-all", "--", *words]

    def run(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` as this user, in its home and environment; `env` adds variables."""
        options.setdefault("cwd", self.home)
        return subprocess.run(self.command(arguments), env={**self.environment, **(env or {})}, **options)

    def popen(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """`subprocess.Popen` as this user, in its home and environment; `env` adds variables."""
        options.setdefault("cwd", self.home)
        return subprocess.Popen(self.command(arguments), env={**self.environment, **(env or {})}, **options)


@contextlib.contextmanager
def ordinary_user(uid: int = UID) -> Iterator[OrdinaryUser]:
    """Make the user, as root; anybody else is the user already, and gets a home of its own for the moment.

    Everything is removed and put back at the end.
    """
    root = os.geteuid() == 0
    uid = uid if root else os.geteuid()
    directory = Path(tempfile.mkdtemp(prefix="pyerofs-user-"))
    directory.chmod(0o755)
    DIRECTORIES.add(directory)
    try:
        for name in ("home", "run", "tmp"):
            own = directory / name
            own.mkdir(mode=0o700)
            if root:
                os.chown(own, uid, uid)
        packages = copy_packages(directory / "packages")
        python = readable_python(directory)
        programs = directory / "bin"
        programs.mkdir(mode=0o755)
        program = programs / "pyerofs"
        program.write_text(f"#!{python}\nimport sys\nfrom pyerofs.cli import main\nsys.exit(main())\n")
        program.chmod(0o755)
        with fuse_for_everybody() if root else contextlib.nullcontext():
            yield OrdinaryUser(uid, directory, python, packages)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        DIRECTORIES.discard(directory)


@contextlib.contextmanager
def fuse_for_everybody() -> Iterator[None]:
    """Open /dev/fuse to every user, as distributions do; the last of all who did so puts its mode back."""
    if not FUSE.exists():
        yield
        return
    with open(FUSE_USERS, "a+") as users:
        with one_at_a_time():
            fcntl.flock(users, fcntl.LOCK_SH)
            users.seek(0)
            if not users.read():
                users.write(f"{stat.S_IMODE(FUSE.stat().st_mode):o}")
                users.flush()
            FUSE.chmod(0o666)
        try:
            yield
        finally:
            with one_at_a_time(), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                users.seek(0)
                FUSE.chmod(int(users.read(), 8))
                users.truncate(0)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the lock under which the users of /dev/fuse are counted."""
    with open(f"{FUSE_USERS}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copy_packages(target: Path) -> Path:
    """Copy pyerofs and what it imports from where this interpreter finds them."""
    target.mkdir(mode=0o755)
    for name in ("pyerofs", *PACKAGES):
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            if name == "pyerofs":
                raise ModuleNotFoundError("pyerofs is not installed here: make build")
            continue
        source = Path(next(iter(found.submodule_search_locations)))
        shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    # The entry points, by which others find the package.
    for file in importlib.metadata.distribution("pyerofs").files or []:
        if file.name in ("METADATA", "entry_points.txt"):
            (target / "pyerofs.dist-info").mkdir(exist_ok=True)
            shutil.copy(file.locate(), target / "pyerofs.dist-info" / file.name)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
    return target


def readable_python(directory: Path) -> Path:
    """An interpreter that everybody may start: this one, the system's of the same version, or a copy."""
    base = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    for candidate in (base, Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if candidate.is_file() and reachable(candidate):
            return candidate
    prefix = directory / "python"
    version = f"python3.{sys.version_info.minor}"
    shutil.copytree(
        Path(sys.base_prefix) / "lib",
        prefix / "lib",
        symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "site-packages", "test", "*.a", "pkgconfig"),
    )
    (prefix / "bin").mkdir()
    shutil.copy2(base, prefix / "bin" / version)
    return prefix / "bin" / version


def reachable(path: Path) -> bool:
    """Whether everybody can read and start the program at `path`."""
    if path.stat().st_mode & 0o005 != 0o005:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)
