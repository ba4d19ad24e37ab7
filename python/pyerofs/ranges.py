"""A blob that is far away: read by ranges, with the blocks read last kept in memory.

:class:`RangeSource` is what :mod:`pyerofs.fsspec` puts under an image in an object store. It knows neither
fsspec nor EROFS: whoever has a function that fetches a range of bytes can read an image through it.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fetch = Callable[[int, int], bytes]

__all__ = ["RangeSource"]

#: A request that spans more blocks than this goes past the cache: it would only push everything else out.
_MOST_BLOCKS = 16
#: Readers that each go on where they stopped, and are told apart.
_STREAMS = 16


class RangeSource:
    """A source for :func:`pyerofs.open` over a function that fetches a range.

    Metadata is small and lies close together, so reading happens in whole blocks, and the blocks used last
    are kept. Two threads that want the same block cause one request; neighbouring blocks that are missing
    are one request too. Who goes on where the last request ended gets twice as much at once, up to a
    sixteenth of the cache. What spans more than 16 blocks is fetched as it is and not kept.

    Args:
        fetch: called as ``fetch(start, end)``; returns the bytes from ``start`` up to ``end``, all of them.
            It may be called from several threads at once.
        size: length of the blob in bytes.
        name: what errors call the blob.
        block_size: bytes in a block.
        cache_bytes: bytes of blocks that are kept; at least one block is.
    """

    def __init__(
        self, fetch: Fetch, size: int, name: str, block_size: int = 1 << 18, cache_bytes: int = 1 << 25
    ) -> None:
        if block_size < 1:
            raise ValueError(f"block_size: {block_size} is less than one byte")
        #: Length of the blob in bytes.
        self.size = size
        #: What errors call the blob.
        self.name = name
        self._fetch = fetch
        self._block_size = block_size
        self._most = max(1, cache_bytes // block_size)
        self._forget()
        _sources.add(self)

    def __repr__(self) -> str:
        return f"<RangeSource {self.name!r}, {self.size} bytes>"

    def _forget(self) -> None:
        """Start with nothing kept and nothing under way."""
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        # By the block at which a reader would go on: how many blocks its last request had.
        self._streams: OrderedDict[int, int] = OrderedDict()

    def read_at(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset``; less only at the end.

        Raises:
            OSError: the range could not be fetched, or came back with another length.
        """
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first, last = offset // self._block_size, (end - 1) // self._block_size
        if last - first >= _MOST_BLOCKS:
            return self._fetched(offset, end)
        blocks, missing = self._claim(first, last)
        if missing:
            self._fill(missing)
        # Only now wait for what others fetch: everybody has done his own part by then, so nobody waits in
        # a circle.
        start = offset - first * self._block_size
        joined = blocks[0].result() if len(blocks) == 1 else b"".join(block.result() for block in blocks)
        return joined[start : start + end - offset]

    def _claim(self, first: int, last: int) -> tuple[list[Future[bytes]], dict[int, Future[bytes]]]:
        """Return the blocks from ``first`` to ``last``, and those that the caller is to fetch, in order."""
        blocks: list[Future[bytes]] = []
        missing: dict[int, Future[bytes]] = {}
        with self._lock:
            for number in range(first, last + 1):
                block = self._blocks.get(number)
                if block is None:
                    block = self._blocks[number] = missing[number] = Future()
                else:
                    self._blocks.move_to_end(number)
                blocks.append(block)
            if missing:
                self._read_ahead(missing)
            while len(self._blocks) > self._most:
                self._blocks.popitem(last=False)
        return blocks, missing

    def _read_ahead(self, missing: dict[int, Future[bytes]]) -> None:
        """Add to what is to be fetched if it goes on where an earlier request ended. To be called locked."""
        start, stop = min(missing), max(missing) + 1
        before = self._streams.pop(start, 0)
        most = min(_MOST_BLOCKS, self._most // 16)
        end = min(start + min(2 * before, most), -(-self.size // self._block_size))
        while stop < end and stop not in self._blocks:
            self._blocks[stop] = missing[stop] = Future()
            stop += 1
        self._streams[stop] = stop - start
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)

    def _fill(self, missing: dict[int, Future[bytes]]) -> None:
        """Fetch the blocks, neighbours in one request. A failure is not kept: the next reader tries again."""
        size = self._block_size
        waiting = dict(missing)
        try:
            for run in _runs(list(missing)):
                data = self._fetched(run.start * size, min(run.stop * size, self.size))
                for index, number in enumerate(run):
                    waiting.pop(number).set_result(data[index * size : (index + 1) * size])
        except BaseException as error:
            with self._lock:
                for number, block in waiting.items():
                    if self._blocks.get(number) is block:
                        del self._blocks[number]
            for block in waiting.values():
                block.set_exception(error if isinstance(error, Exception) else _interrupted(self.name))
            raise

    def _fetched(self, start: int, end: int) -> bytes:
        data = self._fetch(start, end)
        if len(data) != end - start:
            message = f"{end - start} bytes were asked for at {start}, {len(data)} came back"
            raise OSError(errno.EIO, message, self.name)
        return data


def _interrupted(name: str) -> OSError:
    """What those hear who waited for a request that somebody else gave up."""
    return OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), name)


def _runs(numbers: list[int]) -> Iterator[range]:
    """Split ascending numbers into ranges of neighbours."""
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield range(numbers[start], numbers[index - 1] + 1)
            start = index


_sources: weakref.WeakSet[RangeSource] = weakref.WeakSet()


def _after_fork() -> None:
    # The threads that held the locks and were fetching do not exist in the child.
    for source in _sources:
        source._forget()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
