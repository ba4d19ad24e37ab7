"""Domains: the boundaries inside which mounts share their files' page cache.

with pyerofs.mount("a.erofs", domain="tools") as a, pyerofs.mount("b.erofs", domain="tools") as b:
    ...
    print(pyerofs.Domain("tools").stat().saved_bytes)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields
from errno import EBUSY
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core
from .mounting.domains import domain_server_name
from .mounting.paths import DOMAIN_NAME, domain_path, domains_root
from .mounting.server import connect_running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Domain", "DomainGc", "DomainImage", "DomainProblem", "DomainStat", "DomainVerify"]

T = TypeVar("T")

#: Seconds in which a server that has nothing left to serve has surely ended, and its keeper with it.
LINGER = 3.0


@dataclass(frozen=True, slots=True)
class DomainImage:
    """An image that a domain knows.

    Attributes:
        key: its identity, 64 hexadecimal digits.
        name: its path when it was last mounted.
        last_mounted: seconds since 1970 of its last mount or unmount, 0 if not known.
        mounts: how often it is mounted now.
        facts: how many of its files are verified.
        bytes: the sum of the sizes of its distinct objects.
    """

    key: str
    name: str
    last_mounted: int
    mounts: int
    facts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DomainStat:
    """What lies in a domain; all sizes in bytes.

    Attributes:
        objects: how many objects there are.
        bytes: the sum of their sizes.
        disk_bytes: what they take on disk.
        resident_bytes: how much of them is in the page cache, None where the kernel doesn't tell.
        saved_bytes: sum over objects of size x (mounted images that refer to it - 1).
        saved_resident_bytes: the same over what is in the page cache of each.
        limit: bytes on disk above which objects of images not mounted go.
        limit_is_set: whether somebody set that, rather than a tenth of the free space.
        filesystem: the name of the filesystem that it lies on.
        in_memory: whether that is tmpfs, so that what is on disk is in memory too.
        images: the images that it knows, last mounted first.
    """

    objects: int
    bytes: int
    disk_bytes: int
    resident_bytes: int | None
    saved_bytes: int
    saved_resident_bytes: int | None
    limit: int
    limit_is_set: bool
    filesystem: str
    in_memory: bool
    images: list[DomainImage]


@dataclass(frozen=True, slots=True)
class DomainGc:
    """What a collection did.

    Attributes:
        objects: how many objects it removed.
        disk_bytes: what they took on disk, in bytes.
        images: the keys of the images that it forgot.
        promoted: objects of this boot that it made durable.
        other_boots: directories of earlier boots that it deleted.
        remaining_objects: how many objects are left.
        remaining_disk_bytes: what they take on disk, in bytes.
    """

    objects: int
    disk_bytes: int
    images: list[str]
    promoted: int
    other_boots: int
    remaining_objects: int
    remaining_disk_bytes: int


@dataclass(frozen=True, slots=True)
class DomainProblem:
    """Something in a domain that is not as it should be.

    Attributes:
        path: where, relative to the domain.
        problem: what is wrong.
        found: the digest of what was found, where bytes were hashed.
        repaired: whether it was put aside or removed.
    """

    path: str
    problem: str
    found: str | None
    repaired: bool


@dataclass(frozen=True, slots=True)
class DomainVerify:
    """What a verification found.

    Attributes:
        objects: how many objects it hashed.
        bytes: how many bytes.
        facts: how many facts it checked.
        problems: what is wrong; empty if all is well.
    """

    objects: int
    bytes: int
    facts: int
    problems: list[DomainProblem]


def _value(kind: type[T], values: dict[str, Any]) -> T:
    # A field that a newer core adds is none that this class promises.
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


class Domain:
    """A domain of this user, by its name. It need not exist: the first mount makes it.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``, at most 64, the first a letter or digit.

    Raises:
        ValueError: no domain may have that name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path: Path = domain_path(name)

    def __repr__(self) -> str:
        return f"<Domain {self.name!r} in {str(self.path)!r}>"

    @classmethod
    def all(cls) -> list[Domain]:
        """The domains that there are, by name.

        Raises:
            OSError: the state root can't be read.
        """
        try:
            names = sorted(path.name for path in domains_root().iterdir() if path.is_dir())
        except FileNotFoundError:
            return []
        # The store keeps directories of its own there while it removes a domain.
        return [cls(name) for name in names if DOMAIN_NAME.fullmatch(name)]

    def _open(self) -> _core.Domain:
        return _core.Domain.open(self.path)

    def _when_free(self, work: Callable[[], T]) -> T:
        """Do what needs the domain alone; a server that lingers after its last mount is waited for."""
        deadline = time.monotonic() + LINGER
        while True:
            try:
                return work()
            except OSError as error:
                if error.errno != EBUSY or time.monotonic() > deadline or self.mounted_images():
                    raise
            time.sleep(0.05)

    def mounted_images(self) -> list[str]:
        """The key of the image of every mount in this domain; one that is mounted twice comes twice.

        Raises:
            OSError: the domain's server does not answer.
        """
        connection = connect_running(domain_server_name(self.path))
        if connection is None:
            return []
        with connection:
            mounts = connection.status()["mounts"]
        return [mount["key"] for mount in mounts if mount["key"] is not None]

    def stat(self) -> DomainStat:
        """Count objects, bytes and what sharing saves.

        Raises:
            FileNotFoundError: there is no such domain.
            OSError: it can't be read.
        """
        opened = self._open()
        values = json.loads(opened.stat(self.mounted_images()))
        values["images"] = [_value(DomainImage, image) for image in values["images"]]
        return _value(DomainStat, values)

    def gc(
        self, *, keep_bytes: int | None = None, older_than: int | None = None, dry_run: bool = False
    ) -> DomainGc:
        """Remove what nobody can use.

        Args:
            keep_bytes: remove objects of the images mounted least recently until no more bytes are on disk.
            older_than: forget images that were not mounted for so many seconds.
            dry_run: only say what would be done.

        Raises:
            FileNotFoundError: there is no such domain.
            OSError: EBUSY while something is mounted in it.
        """
        opened = self._open()
        report = self._when_free(
            lambda: opened.gc(keep_bytes=keep_bytes, older_than=older_than, dry_run=dry_run)
        )
        return _value(DomainGc, json.loads(report))

    def verify(self, *, repair: bool = False) -> DomainVerify:
        """Hash every object and check every fact.

        Args:
            repair: put aside what is bad; only while nothing is mounted in it.

        Raises:
            FileNotFoundError: there is no such domain.
            OSError: EBUSY with ``repair`` while something is mounted in it.
        """
        opened = self._open()
        values = json.loads(self._when_free(lambda: opened.verify(repair=repair)))
        values["problems"] = [_value(DomainProblem, problem) for problem in values["problems"]]
        return _value(DomainVerify, values)

    def set_limit(self, limit: int | None) -> None:
        """Set how many bytes its objects may take on disk; None for a tenth of the free space.

        Raises:
            FileNotFoundError: there is no such domain.
        """
        self._open().set_limit(limit)

    def remove(self) -> None:
        """Delete the domain with all its objects.

        Raises:
            FileNotFoundError: there is no such domain.
            OSError: EBUSY while something is mounted in it.
        """
        self._when_free(lambda: _core.Domain.remove(self.path))
