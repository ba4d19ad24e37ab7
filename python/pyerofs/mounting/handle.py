"""A mount as its maker holds it."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .umount import unmount_record

if TYPE_CHECKING:
    from types import TracebackType

    from .holder import Lifeline
    from .records import MountRecord

__all__ = ["Mount"]


def _close_quietly(record: MountRecord, lifeline: Lifeline | None, owner: int) -> None:
    if os.getpid() != owner:
        # A fork of the program ends: the mount is still its parent's.
        return
    try:
        unmount_record(record, lazy=True)
    except OSError:
        return
    finally:
        if lifeline is not None:
            lifeline.close()


class Mount:
    """A mounted image; a context manager that unmounts it.

    Attributes:
        path: the directory to look into. For a mount that a holder keeps it lies below ``/proc/PID/root``.
        image: the image's absolute path.
        backend: ``kernel``, ``overlay``, ``fuse`` or ``passthrough``.
        domain: the name of the domain that the files are shared in, if any.
        log: the server's log, None for the kernel back end.
        notes: what the user should know, one sentence each; empty if all is as asked.
    """

    def __init__(self, record: MountRecord, notes: list[str], lifeline: Lifeline | None = None) -> None:
        self.path = Path(record.path)
        self.image = Path(record.image)
        self.backend = record.backend
        self.domain = record.domain
        self.log = None if record.log is None else Path(record.log)
        self.notes = tuple(notes)
        self._record = record
        self._lifeline = lifeline
        # Also when nobody closes it: the end of the program must not leave a mount behind.
        self._finalizer = weakref.finalize(self, _close_quietly, record, lifeline, os.getpid())

    def __repr__(self) -> str:
        return f"<Mount {str(self.image)!r} at {str(self.path)!r} ({self.backend})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(lazy=kind is not None)

    @property
    def closed(self) -> bool:
        """Whether it is unmounted."""
        return not self._finalizer.alive

    def close(self, *, lazy: bool = False) -> None:
        """Unmount; does nothing the second time.

        Args:
            lazy: take it out of sight at once, even if files of it are open.

        Raises:
            OSError: EBUSY if files of it are open; it stays mounted then.
        """
        if self.closed:
            return
        unmount_record(self._record, lazy=lazy)
        self._finalizer.detach()
        if self._lifeline is not None:
            self._lifeline.close()

    def keep(self) -> None:
        """Leave it mounted when this object is gone; ``pyerofs umount`` ends it then."""
        if self._finalizer.detach() is not None and self._lifeline is not None:
            self._lifeline.keep()
