"""pyerofs: build, read, mount and share EROFS images, with or without root.

    with pyerofs.open("tools.erofs") as image:
        for entry in (image / "usr/bin").iterdir():
            print(entry.name, entry.stat().st_size)

Importing the package loads nothing but this file: each public name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for typing.TYPE_CHECKING, which costs 6 ms to import
if TYPE_CHECKING:
    from typing import Any

    from . import errors as errors
    from . import sources as sources
    from ._core import __version__ as __version__
    from .builder import BuildReport as BuildReport
    from .builder import build as build
    from .compression import Compression as Compression
    from .differ import Change as Change
    from .differ import Diff as Diff
    from .differ import diff as diff
    from .domain import Domain as Domain
    from .errors import CorruptImage as CorruptImage
    from .errors import ErofsError as ErofsError
    from .errors import LimitExceeded as LimitExceeded
    from .errors import NotAnImage as NotAnImage
    from .errors import RefusedByPolicy as RefusedByPolicy
    from .errors import UnsupportedFeature as UnsupportedFeature
    from .extractor import ExtractReport as ExtractReport
    from .extractor import extract as extract
    from .extractor import extract_tar as extract_tar
    from .image import Entry as Entry
    from .image import Image as Image
    from .image import limits as limits
    from .image import open as open
    from .mounting.handle import Mount as Mount
    from .mounting.mounter import mount as mount
    from .mounting.probe import probe as probe
    from .sources.entry import SourceEntry as SourceEntry

#: Public name -> the module of this package that holds it. Add a name here and above.
_HOMES = {
    "__version__": "_core",
    "BuildReport": "builder",
    "build": "builder",
    "Compression": "compression",
    "Change": "differ",
    "Diff": "differ",
    "diff": "differ",
    "Domain": "domain",
    "CorruptImage": "errors",
    "ErofsError": "errors",
    "LimitExceeded": "errors",
    "NotAnImage": "errors",
    "RefusedByPolicy": "errors",
    "UnsupportedFeature": "errors",
    "ExtractReport": "extractor",
    "extract": "extractor",
    "extract_tar": "extractor",
    "Entry": "image",
    "Image": "image",
    "limits": "image",
    "open": "image",
    "Mount": "mounting.handle",
    "mount": "mounting.mounter",
    "probe": "mounting.probe",
    "SourceEntry": "sources.entry",
}

__all__ = sorted(["errors", "sources", *_HOMES])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("errors", "sources"):
        return import_module(f".{name}", __name__)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
