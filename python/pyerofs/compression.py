"""What to compress with: :class:`Compression`, and presets of options."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "Compression"]


@dataclass(frozen=True, slots=True)
class Compression:
    """An algorithm, with a level and a size of its clusters.

    Attributes:
        algorithm: ``"lz4"`` (fastest), ``"lz4hc"`` (smaller, read as fast), ``"zstd"``, ``"deflate"`` or
            ``"lzma"`` (smallest, slowest to read).
        level: how hard to search: lz4hc 1 to 12 (usually 9), zstd 1 to 22 (3), deflate 1 to 12 (6), lzma 0 to
            9 (6); lz4 has none. ``None`` is the usual one.
        cluster: bytes of a compressed cluster; ``None`` is what the image usually has.
    """

    algorithm: str
    level: int | None = None
    cluster: int | None = None

    @classmethod
    def parse(cls, text: str) -> Compression | None:
        """Read ``ALG[,level=N][,cluster=SIZE]`` or, as mkfs.erofs has it, ``ALG,N``; ``none`` is ``None``.

        Raises:
            ValueError: the text is nothing of the kind. Whether the algorithm has the level is found out by
                :func:`pyerofs.build`.
        """
        algorithm, *settings = text.split(",")
        found: dict[str, int] = {}
        for setting in settings:
            key, equals, value = setting.rpartition("=")
            key = key if equals else "level"
            if key not in ("level", "cluster"):
                raise ValueError(
                    f"compress: {setting!r} in {text!r} is no setting; there are level=N and cluster=SIZE"
                )
            shift = {"k": 10, "m": 20}.get(value[-1:].lower(), 0) if key == "cluster" else 0
            try:
                found[key] = int(value[:-1] if shift else value) << shift
            except ValueError:
                raise ValueError(f"compress: {value!r} in {text!r} is not a {key}") from None
        if algorithm == "none":
            if settings:
                raise ValueError(f"compress: {text!r} sets something about nothing")
            return None
        return cls(algorithm, **found)


#: Names of sets of options for :func:`pyerofs.build`. What is given besides a preset goes before it.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "fast": {"compress": "lz4", "cluster": 65536, "tail_packing": True},
        "balanced": {"compress": "zstd,level=3", "cluster": 65536, "fragments": True},
        "small": {"compress": "lzma,level=9", "cluster": 1 << 20, "fragments": True},
        "dax": {"compress": "none", "inline_tail": 0, "align": 2 << 20},
        "core": {
            "compress": "none",
            "fingerprint": False,
            "xattrs": "none",
            "holes": False,
            "target_kernel": "5.4",
        },
    }
)
