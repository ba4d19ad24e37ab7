"""Processes named so that a number used again is not taken for the old process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

__all__ = ["end_process", "is_same_process", "start_time"]


def start_time(pid: int) -> int | None:
    """When ``pid`` was started, in clock ticks since the machine's boot; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name is in parentheses and may hold anything, so count from the last one.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def is_same_process(pid: int, started: int) -> bool:
    """Whether the process ``pid`` lives and is the one that was started at ``started`` ticks."""
    return start_time(pid) == started


def end_process(pid: int, started: int, timeout: float = 5.0) -> bool:
    """Ask one process to end with SIGTERM and wait for it; True once it is gone.

    Args:
        pid: its number.
        started: its :func:`start_time`; another process of that number is left alone.
        timeout: how long to wait, in seconds.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if not is_same_process(pid, started):
                return True
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            ready, _, _ = select.select([handle], [], [], timeout)
            return bool(ready)
        finally:
            os.close(handle)
    return True
