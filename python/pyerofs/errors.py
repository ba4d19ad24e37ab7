"""What can go wrong, as exceptions that are also the built-in ones.

Corrupt, unsupported, refused by policy and I/O error are four different things, and a caller may catch
either our class or the built-in one it derives from: every class here is an :class:`OSError` with a useful
``errno``. Missing names, wrong kinds of entry and trouble of the operating system are plain
:class:`FileNotFoundError`, :class:`NotADirectoryError`, :class:`IsADirectoryError` and :class:`OSError`.
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BuildInterrupted",
    "CorruptImage",
    "DeviceMismatch",
    "ErofsError",
    "LimitExceeded",
    "NotAnImage",
    "RefusedByPolicy",
    "SourceError",
    "Unavailable",
    "UnsupportedFeature",
]

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class ErofsError(OSError):
    """Base of every error that is about EROFS and not about the operating system.

    Attributes:
        errno: the number that a system call would give.
        strerror: what is wrong, one clause without a full stop.
        filename: the path that it is about, of the image or of the entry, if known.
        nid: the number of the inode at fault, if known.
        extent: the byte of the file at which the extent at fault begins, if it lies in one.
        offset: where in the blob the fault lies, in bytes, if known.
        remedy: what the user can do about it, if anything.
    """

    #: ``errno`` of an instance that was made without one.
    default_errno = _errno.EIO

    nid: int | None
    extent: int | None
    offset: int | None
    remedy: str | None

    # OSError sorts its arguments out in __new__, so the short form Error("message") is completed there.
    def __new__(cls, *args: Any, **_details: Any) -> Self:
        """Take (errno, message[, filename]) as OSError does, or the message alone."""
        if len(args) == 1:
            args = (cls.default_errno, args[0])
        return super().__new__(cls, *args)

    def __init__(
        self,
        *args: Any,
        nid: int | None = None,
        extent: int | None = None,
        offset: int | None = None,
        remedy: str | None = None,
    ) -> None:
        if len(args) == 1:
            args = (self.default_errno, args[0])
        super().__init__(*args)
        self.nid = nid
        self.extent = extent
        self.offset = offset
        self.remedy = remedy

    def __str__(self) -> str:
        return describe(self)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments: tuple[Any, ...] = (self.errno, self.strerror)
        if self.filename is not None:
            arguments += (self.filename,)
        return (_rebuild, (type(self), arguments, dict(self.__dict__)))


def _rebuild(cls: type[ErofsError], arguments: tuple[Any, ...], state: dict[str, Any]) -> ErofsError:
    error = cls(*arguments)
    error.__dict__.update(state)
    return error


class CorruptImage(ErofsError):
    """The image breaks a rule of the format (``EUCLEAN``)."""

    default_errno = _errno.EUCLEAN


class NotAnImage(CorruptImage):
    """There is no EROFS superblock where one should be (``EUCLEAN``)."""


class UnsupportedFeature(ErofsError):
    """The image may be good, but uses what this version does not read (``EOPNOTSUPP``)."""

    default_errno = _errno.EOPNOTSUPP


class LimitExceeded(ErofsError):
    """Reading on would take more work or memory than the limits allow (``EFBIG``).

    Attributes:
        limit_name: the name of the limit, a key of ``limits=`` in :func:`pyerofs.open`; None for a bound that
            is no limit of its own.
        value: what was asked for; None where that is not known.
        limit: what is allowed; None likewise.
    """

    default_errno = _errno.EFBIG

    limit_name: str | None
    value: int | None
    limit: int | None

    def __init__(
        self,
        *args: Any,
        limit_name: str | None = None,
        value: int | None = None,
        limit: int | None = None,
        **details: Any,
    ) -> None:
        super().__init__(*args, **details)
        self.limit_name = limit_name
        self.value = value
        self.limit = limit


class DeviceMismatch(ErofsError):
    """The devices given are not those that the image names (``EINVAL``)."""

    default_errno = _errno.EINVAL


class RefusedByPolicy(ErofsError, PermissionError):
    """The policy does not let this image be used in this way (``EACCES``)."""

    default_errno = _errno.EACCES


class Unavailable(ErofsError):
    """This machine lacks what was asked for; ``remedy`` says how to get it (``EOPNOTSUPP``)."""

    default_errno = _errno.EOPNOTSUPP


class SourceError(ErofsError):
    """The tree can't become an image (``EINVAL``)."""

    default_errno = _errno.EINVAL


class BuildInterrupted(ErofsError):
    """The build was told to stop; nothing of it is left (``ECANCELED``)."""

    default_errno = _errno.ECANCELED


def describe(error: OSError) -> str:
    """Return the one sentence for an error: ``PATH: what (nid N, extent E, offset O); remedy``."""
    parts = [f"{_text(name)}: " for name in (error.filename, error.filename2) if name is not None]
    parts.append(error.strerror or " ".join(str(a) for a in error.args) or type(error).__name__)
    place = [
        f"{word} {value}"
        for word in ("nid", "extent", "offset")
        if (value := getattr(error, word, None)) is not None
    ]
    if place:
        parts.append(f" ({', '.join(place)})")
    remedy = getattr(error, "remedy", None)
    if remedy:
        parts.append(f"; {remedy}")
    return "".join(parts)


def over_limit(path: str, name: str, value: int, limit: int) -> LimitExceeded:
    """Return the error for a limit that was hit in Python, in the words of those that are hit in Rust."""
    raised = max(value, 2 * limit)
    return LimitExceeded(
        LimitExceeded.default_errno,
        f"limit exceeded: {name} is {value}, at most {limit} is allowed",
        path,
        remedy=f"limits={{'{name}': {raised}}} or --limit {name}={raised} allows more",
        limit_name=name,
        value=value,
        limit=limit,
    )


def ask(
    path: str, question: Callable[_Arguments, _Answer], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Answer:
    """Call ``question``; an error of the system's kind that names no path gets this one."""
    try:
        return question(*args, **kwargs)
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _text(name: object) -> str:
    if isinstance(name, bytes):
        import os

        return os.fsdecode(name)
    return str(name)
