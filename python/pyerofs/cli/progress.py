"""Progress bars on standard error. The library that draws is loaded once the work has taken a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .output import human_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..builder import BuildProgress
    from ..extractor import ExtractProgress

#: What is done sooner needs no bar, in seconds.
_PATIENCE = 0.4

_TITLES = {"scan": "Scanning", "plan": "Planning", "pack": "Packing", "finish": "Finishing"}


class BuildBar:
    """Draws what the builder reports; call it with each report and close it at the end."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._phase = ""
        self._task: TaskID | None = None

    def __call__(self, state: BuildProgress) -> None:
        if self._bar is None:
            if time.monotonic() - self._began < _PATIENCE:
                return
            self._bar = _new_bar()
            self._bar.start()
        # Only packing knows how much there is to do; the other phases show that they are alive.
        total = state.total_bytes if state.phase == "pack" else None
        if state.phase != self._phase:
            self._phase = state.phase
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(_TITLES[state.phase], total=total, files=0, stored="")
        assert self._task is not None, "a phase has begun"
        # Contents are stored a moment after they were read, so at first the share says too little.
        stored = f", {state.stored / state.bytes:.0%} stored" if total and state.bytes else ""
        self._bar.update(self._task, completed=state.bytes, total=total, files=state.files, stored=stored)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()


class ExtractBar:
    """Draws what an extraction reports; call it with each report and close it at the end."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, state: ExtractProgress) -> None:
        if self._bar is None or self._task is None:
            if time.monotonic() - self._began < _PATIENCE:
                return
            self._bar = _new_entry_bar()
            self._task = self._bar.add_task("Extracting", total=state.total_entries or None, size="")
            self._bar.start()
        # Names may be more than inodes, so the total is a guess.
        total = max(state.total_entries, state.entries) if state.total_entries else None
        size = human_size(state.bytes)
        self._bar.update(self._task, completed=state.entries, total=total, size=size)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()


def _new_entry_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries, {task.fields[size]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[files]} files{task.fields[stored]}"),
        console=Console(stderr=True),
        transient=True,
    )
