"""What is to be mounted, as the back ends are told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .records import new_id

if TYPE_CHECKING:
    from .blobs import OpenImage

__all__ = ["DomainPlace", "MountRequest"]


@dataclass(frozen=True, slots=True)
class DomainPlace:
    """A domain that is open.

    Attributes:
        name: its name.
        path: its directory.
        secret: what the kernel is told as ``domain_id``.
    """

    name: str
    path: str
    secret: str


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One image that is to be mounted.

    Attributes:
        id: names the mount at its server and in its record.
        image: its open files.
        domain: where its files are shared, if anywhere.
        owners: the uid and gid of all files, as the mount's user namespace counts; None for the image's own.
        allow_other: let users other than the mounter in, as far as the files' modes allow.
    """

    id: str
    image: OpenImage
    domain: DomainPlace | None
    owners: tuple[int, int] | None
    allow_other: bool

    @property
    def source(self) -> str:
        """What the mount table shows as the source of a FUSE mount."""
        return self.image.name.path


def default_owners(policy: str | None, *, privileged: bool) -> tuple[int, int] | None:
    """Who owns the files: ``map`` is what the image says, ``squash`` is the caller.

    Without a choice root maps. For anybody else most ids would show as ``nobody`` and files that are private
    to them could not be read, so all files are the caller's.

    Raises:
        ValueError: the policy is neither.
    """
    if policy not in (None, "map", "squash"):
        raise ValueError(f"owners must be 'map' or 'squash', not {policy!r}")
    chosen = policy or ("map" if privileged else "squash")
    return None if chosen == "map" else (os.geteuid(), os.getegid())


def make_request(
    image: OpenImage,
    *,
    domain: DomainPlace | None,
    owners: tuple[int, int] | None,
    allow_other: bool,
) -> MountRequest:
    """A request with a fresh id."""
    return MountRequest(new_id(), image, domain, owners, allow_other)
