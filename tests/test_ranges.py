"""A source that is read by ranges, as the filesystem `erofs://` reads what lies far away."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tiny
from pyerofs.fsspec import ErofsFileSystem
from pyerofs.ranges import RangeSource


def counted(data: bytes, asked: list[tuple[int, int]], **options: Any) -> RangeSource:
    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    return RangeSource(fetch, len(data), "there", **options)


def test_blocks_are_fetched_once_and_neighbours_together() -> None:
    data, asked = os.urandom(10_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000)
    assert source.read_at(1500, 10) == data[1500:1510]
    assert source.read_at(900, 3000) == data[900:3900]
    assert source.read_at(9990, 100) == data[9990:]
    assert source.read_at(10_000, 1) == source.read_at(20_000, 5) == b""
    assert asked == [(1000, 2000), (0, 1000), (2000, 4000), (9000, 10_000)]


def test_the_cache_of_blocks_is_bounded() -> None:
    data, asked = os.urandom(100_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=3000)
    for start in (0, 1000, 2000, 0, 3000, 0, 1000):
        assert source.read_at(start, 10) == data[start : start + 10]
    assert [start for start, _ in asked] == [0, 1000, 2000, 3000, 1000]
    assert source.read_at(0, 100_000) == data
    assert asked[-1] == (0, 100_000)


def test_who_reads_on_gets_more_at_once() -> None:
    data, asked = os.urandom(100_500), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=128_000)
    read = b"".join(source.read_at(start, 300) for start in range(0, len(data), 300))
    assert read == data
    lengths = [end - start for start, end in asked]
    assert lengths[:6] == [1000, 2000, 4000, 8000, 8000, 8000]
    assert sum(lengths) == len(data)  # nothing twice


def test_who_jumps_gets_what_is_asked_for_and_no_more() -> None:
    data, asked = os.urandom(100_000), list[tuple[int, int]]()
    source = counted(data, asked, block_size=1000, cache_bytes=128_000)
    for start in (50_000, 10_000, 90_000, 30_000):
        source.read_at(start, 10)
    assert [end - start for start, end in asked] == [1000] * 4


def test_a_failed_request_is_tried_again() -> None:
    broken = True

    def fetch(start: int, end: int) -> bytes:
        if broken:
            raise ConnectionResetError("gone")
        return bytes(end - start)

    source = RangeSource(fetch, 100, "there", block_size=10)
    with pytest.raises(ConnectionResetError):
        source.read_at(0, 35)
    broken = False
    assert source.read_at(0, 35) == bytes(35)


def test_a_store_that_sends_the_wrong_length_is_an_error() -> None:
    source = RangeSource(lambda _start, _end: b"everything", 100, "there", block_size=10)
    assert source.read_at(0, 10) == b"everything"
    with pytest.raises(OSError, match="came back"):
        source.read_at(10, 20)


def test_threads_that_want_one_block_cause_one_request() -> None:
    asked: list[int] = []
    together = threading.Barrier(8)

    def fetch(start: int, end: int) -> bytes:
        asked.append(start)
        return bytes(end - start)

    source = RangeSource(fetch, 1000, "there", block_size=100)

    def read(_number: int) -> bytes:
        together.wait()
        return source.read_at(0, 1000)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {bytes(1000)}
    assert sum(asked.count(start) for start in range(0, 1000, 100)) == len(set(asked))


def test_tiny_images_are_read_too() -> None:
    assert ErofsFileSystem(tiny.sample()).find("")
