"""Signals that ask a command to end, as exceptions, so that it clears up behind itself first."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal asked the command to end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        #: The exit status that a shell gives for a program ended by the signal.
        self.status = 128 + number


def _end(number: int, _frame: object) -> None:
    raise Ended(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, but for those that nohup, say, has put aside."""
    ours = [number for number in _NUMBERS if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # others may not say what a signal does
        ours = []
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
