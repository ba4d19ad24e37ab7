"""How a failure leaves the program: one sentence on standard error and the exit status."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from .. import errors

if TYPE_CHECKING:
    import click

OK = 0
ERROR = 1
USAGE = 2
UNSUPPORTED = 3
REFUSED = 4
IO_ERROR = 5
INTERRUPTED = 130
#: 128 + SIGPIPE, as a program that doesn't handle the signal.
BROKEN_PIPE = 141

#: Trouble with a name, not with a device: the user asked for something that is not there, not that kind, or
#: not for him.
_NAME_ERRNOS = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
        errno.EBUSY,
        errno.ENODATA,
    }
)


def exit_status(error: BaseException) -> int:
    """Return the exit status that stands for an exception."""
    match error:
        case errors.RefusedByPolicy():
            return REFUSED
        case errors.UnsupportedFeature() | errors.Unavailable():
            return UNSUPPORTED
        case errors.DeviceMismatch():
            return USAGE
        case errors.ErofsError():
            return ERROR
        case OSError() if error.errno not in _NAME_ERRNOS:
            return IO_ERROR
        case ValueError():  # an argument that makes no sense, found further down than the command line
            return USAGE
        case _:
            return ERROR


def sentence(error: BaseException) -> str:
    """Return the one sentence that says what went wrong, where, and what helps."""
    if isinstance(error, OSError):
        return errors.describe(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    text = str(error)
    if isinstance(error, (ValueError, RuntimeError)) and text:
        return text
    return f"internal error, {type(error).__name__}: {text}; please report what PYEROFS_TRACEBACK=1 shows"


def complain(error: BaseException) -> None:
    """Write the sentence for an error to standard error."""
    warn(sentence(error))


def complain_usage(error: click.ClickException) -> None:
    """Write what is wrong with the arguments, and where the right ones are listed."""
    from click import UsageError

    words = "pyerofs"
    if isinstance(error, UsageError) and error.ctx is not None:
        words = error.ctx.command_path
    message = error.format_message().rstrip(".")
    if message[:2].istitle():  # a word, and no name in capitals
        message = message[:1].lower() + message[1:]
    warn(f"{message}; see '{words} --help'")


def warn(message: str) -> None:
    """Write one line to standard error, its control characters quoted."""
    from .output import quoted

    sys.stderr.write(f"pyerofs: {quoted(message)}\n")
