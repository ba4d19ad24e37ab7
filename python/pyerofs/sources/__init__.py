"""What images are built from besides paths: entries made in memory, and manifests that list them."""

from .entry import SourceEntry
from .manifest_composefs import composefs_dump
from .manifest_mtree import mtree

__all__ = ["SourceEntry", "composefs_dump", "mtree"]
