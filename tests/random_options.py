"""Options of `pyerofs.build` that hypothesis draws: every combination that makes sense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from builders import USUAL_XATTRS, Ours
from judges import Snapshot, with_times

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

SECOND = 10**9
LEVELS: dict[str, list[int | None]] = {
    "lz4": [None],
    "lz4hc": [None, 1, 12],
    "zstd": [None, 1, 6],
    "deflate": [None, 1, 9],
    "lzma": [None, 0],
}
# The usual place for the ends of files, and all the others.
ENDS: list[dict[str, Any]] = [
    {},
    {"fragments": True},
    {"fragments": "all"},
    {"fragments": False},
    {"tail_packing": True},
    {"fragments": False, "tail_packing": True},
]


@dataclass(frozen=True)
class Drawn(Ours):
    """A way of calling `pyerofs.build` that changes times, owners and links too."""

    def expected(self, source: Snapshot) -> Snapshot:
        """What an image of `source` holds."""
        tree = super().expected(source)
        options = self.options
        if options.get("time") is not None:
            tree = with_times(tree, lambda _when: options["time"] * SECOND)
        if options.get("source_date_epoch") is not None:
            tree = with_times(tree, lambda when: min(when, options["source_date_epoch"] * SECOND))
        if options.get("all_root"):
            tree = {path: replace(entry, uid=0, gid=0) for path, entry in tree.items()}
        return tree


@st.composite
def compressions(draw: DrawFn, block: int) -> dict[str, Any]:
    """How files are compressed."""
    algorithm = draw(st.sampled_from(sorted(LEVELS)))
    level = draw(st.sampled_from(LEVELS[algorithm]))
    options: dict[str, Any] = {"compress": algorithm if level is None else f"{algorithm},level={level}"}
    # Whole blocks, seldom a power of two; the kernel allows a MiB.
    most = min(256, (1 << 20) // block)
    options["cluster"] = block * draw(st.sampled_from([1, 1, 2, 3, 16, min(100, most), most]))
    options |= draw(st.sampled_from(ENDS))
    if options.get("fragments") is False and not options.get("tail_packing"):
        # Clusters of any length.
        options["target_kernel"] = draw(st.sampled_from([None, "6.15", "7.2"]))
    if options.get("target_kernel") != "6.15":
        # No larger than what the algorithm can have.
        options["metabox"] = draw(st.sampled_from([None, None, block, min(65536, most * block)]))
    others = draw(
        st.sampled_from([None, None, "none", "lz4,cluster=16384", "zstd,level=1", "deflate,level=1"])
    )
    if others is not None:
        # One file in two or so.
        options["rules"] = [("[a-m\\x80-\\xff]*", others)]
    return options


@st.composite
def ways(draw: DrawFn) -> Drawn:
    """A way to build."""
    block = draw(st.sampled_from([4096, 4096, 4096, 512, 1024, 2048]))
    options: dict[str, Any] = {"block_size": block}
    kind = draw(st.sampled_from(["compressed", "compressed", "compressed", "plain", "chunks"]))
    if kind == "compressed":
        options |= draw(compressions(block))
    elif kind == "chunks":
        options["chunk"] = block << draw(st.integers(0, 6))
    else:
        options["align"] = draw(st.sampled_from([None, 16 * block, 1 << 20]))
        options["target_kernel"] = draw(st.sampled_from([None, "7.2"]))
    options["dedupe"] = draw(st.booleans()) if kind != "chunks" else None
    options["order"] = draw(st.sampled_from([None, "similar"]))
    options["inline_tail"] = draw(st.sampled_from([None, 0, 100, block]))
    options["holes"] = draw(st.booleans())
    options["fingerprint"] = draw(st.booleans())
    options["time"] = draw(st.sampled_from([None, None, 0, 1_700_000_000]))
    options["source_date_epoch"] = draw(st.sampled_from([None, None, 1_000_000_000]))
    options["all_root"] = draw(st.booleans())
    options["label"] = draw(st.sampled_from(["", "drawn"]))
    xattrs, keeps = draw(st.sampled_from([(None, USUAL_XATTRS), ("all", (b"",)), ("none", (b"none",))]))
    options["xattrs"] = xattrs
    options["share_xattrs_above"] = draw(st.sampled_from([0, 2, 1000]))
    options["xattr_prefixes"] = draw(st.sampled_from([(), ("user.a", "user.xy")]))
    options = {name: value for name, value in options.items() if value is not None}
    blob = kind == "chunks" and draw(st.booleans())
    name = ", ".join(f"{name}={value!r}" for name, value in options.items())
    # Where tails and xattrs lie in a metabox, fsck.erofs 1.9.4 takes bytes from the same place of the image.
    fsck = "metabox" not in options
    return Drawn(name, options, keeps, block, fingerprint=options["fingerprint"], fsck=fsck, blob=blob)
