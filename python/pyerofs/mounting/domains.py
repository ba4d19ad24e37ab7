"""Opening a domain for a mount, and the name of its server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from .. import _core
from .paths import check_domain_name, state_root
from .request import DomainPlace
from .server import connect_or_start

if TYPE_CHECKING:
    from .protocol import Connection

__all__ = ["OpenDomain", "domain_server_name", "open_domain"]


def domain_server_name(path: str | os.PathLike[str]) -> str:
    """What the server of the domain at ``path`` is called: another state root, another server."""
    return f"domain-{sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class OpenDomain:
    """A domain that is open, and whether that made it."""

    place: DomainPlace
    core: _core.Domain
    created: bool

    @property
    def server_name(self) -> str:
        """What its server is called."""
        return domain_server_name(self.place.path)

    def connect(self) -> Connection:
        """Connect to its server, starting it and the keeper if need be.

        Raises:
            OSError: it can't be started.
        """
        directory = self.core.directory()
        try:
            return connect_or_start(self.server_name, directory)
        finally:
            os.close(directory)


def open_domain(name: str) -> OpenDomain:
    """Open the domain ``name``, making it if there is none.

    Raises:
        ValueError: no domain may have that name.
        Unavailable: the filesystem of the state root is no place for a domain.
        RefusedByPolicy: the domain's directory is open to others.
        OSError: it can't be made or opened.
    """
    check_domain_name(name)
    path = _core.Domain.prepare_state_root(state_root()) / name
    core, created = _core.Domain.open_or_create(path)
    core.prepare_fresh()
    return OpenDomain(DomainPlace(name, str(path), core.secret()), core, created)
