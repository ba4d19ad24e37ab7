"""What images are built from besides paths: entries made in memory."""

from .entry import SourceEntry

__all__ = ["SourceEntry"]
