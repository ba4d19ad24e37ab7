"""What the tests fetch once and keep between runs, in `$XDG_CACHE_HOME/pyerofs-tests`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyerofs-tests"
RENEW_AFTER = 30 * 86400


class NotHereError(Exception):
    """Something can't be had on this machine; the message says why, and tests that need it are skipped."""


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` of the cache, made now where it is missing, a month old or of another recipe.

    Args:
        name: the directory's name.
        recipe: what it is made of; another recipe than the last time makes it anew.
        make: fills the empty directory that it is given, or raises NotHereError.

    Raises:
        NotHereError: it isn't there and can't be made.
    """
    place = CACHE / name
    made = place / ".made"
    with locked(name):
        usable = made.exists()
        if usable and made.read_text() == recipe and time.time() - made.stat().st_mtime < RENEW_AFTER:
            return place
        fresh = CACHE / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            make(fresh)
        except NotHereError:
            if not usable:
                raise
            # The old one is good for another day; so a machine without a network asks once a day.
            made.write_text(recipe)
            again = time.time() - RENEW_AFTER + 86400
            os.utime(made, (again, again))
        else:
            (fresh / ".made").write_text(recipe)
            old = CACHE / f"{name}.old"
            shutil.rmtree(old, ignore_errors=True)
            if place.exists():
                place.rename(old)
            fresh.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process at a time makes `name`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
