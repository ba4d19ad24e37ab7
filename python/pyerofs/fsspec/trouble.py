"""What becomes of errors: a name that is missing is an answer, a broken image is not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from pyerofs.errors import ErofsError

__all__ = ["OnError", "pass_on", "unless_missing"]

_Value = TypeVar("_Value")

#: What a walk does with an error: "omit", "raise", a function to call, or None for its own ways.
OnError = str | Callable[[OSError], object] | None

#: Errors that say that there is no such entry, rather than that the image is broken.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def unless_missing(question: Callable[[], _Value], default: _Value) -> _Value:
    """The answer, or `default` where there is no such entry. Other trouble is raised."""
    try:
        return question()
    except OSError as error:
        if error.errno in _MISSING and not isinstance(error, ErofsError):
            return default
        raise


def pass_on(error: OSError, on_error: OnError, *, missing_is_fine: bool = False) -> None:
    """Do with an error of a walk what the caller wants."""
    if callable(on_error):
        on_error(error)
    elif on_error is None:
        if not missing_is_fine or error.errno not in _MISSING:
            raise error
    elif on_error != "omit":
        raise error
