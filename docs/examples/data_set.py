"""A data set in one file, for PyTorch or any other loader: a folder for each label, a file for each sample.

python data_set.py IMAGE reads everything in IMAGE from two worker processes, with torch if it is installed.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING, Any

import pyerofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ErofsDataset:
    """A map-style data set over an image. It can be pickled, so it reaches workers however they start."""

    def __init__(self, path: str, decode: Callable[[bytes], Any] = bytes) -> None:
        self.image = pyerofs.open(path)
        self.decode = decode
        self.labels = sorted(entry.name for entry in self.image.root.iterdir() if entry.is_dir())
        self.samples = [
            (entry.path, number)
            for number, label in enumerate(self.labels)
            for entry in (self.image / label).scan()
            if entry.is_file()
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, int]]:
        """Return a whole batch: one call into Rust instead of one for each sample."""
        chosen = [self.samples[index] for index in indices]
        batch = []
        # One thread each: the workers are what runs in parallel.
        contents = self.image.read_many([path for path, _ in chosen], threads=1)
        for (_, content), (_, label) in zip(contents, chosen, strict=True):
            if isinstance(content, OSError):
                raise content
            batch.append((self.decode(content), label))
        return batch


def torch_batches(data: ErofsDataset, size: int, workers: int, method: str) -> Iterator[Any]:
    """The batches as PyTorch's own loader makes them."""
    from torch.utils.data import DataLoader

    yield from DataLoader(
        data, batch_size=size, num_workers=workers, multiprocessing_context=method, collate_fn=list
    )


def plain_batches(data: ErofsDataset, size: int, workers: int, method: str) -> Iterator[Any]:
    """The same with nothing but Python: lists of indices go to the workers, batches come back in order."""
    indices = range(len(data))
    asked = [list(indices[start : start + size]) for start in range(0, len(data), size)]
    with multiprocessing.get_context(method).Pool(workers, initializer=_begin, initargs=(data,)) as pool:
        yield from pool.imap(_load, asked)


def _begin(data: ErofsDataset) -> None:
    _load.data = data  # type: ignore[attr-defined]


def _load(indices: list[int]) -> list[tuple[Any, int]]:
    batch: list[tuple[Any, int]] = _load.data.__getitems__(indices)  # type: ignore[attr-defined]
    return batch


def main() -> None:
    """Read all samples of an image, by each way of starting processes."""
    data = ErofsDataset(sys.argv[1])
    try:
        import torch  # noqa: F401

        batches = torch_batches
    except ModuleNotFoundError:
        batches = plain_batches
    for method in ("spawn", "fork"):
        counts = dict.fromkeys(data.labels, 0)
        total = 0
        for batch in batches(data, 32, 2, method):
            for content, label in batch:
                counts[data.labels[label]] += 1
                total += len(content)
        print(f"{method}: {total} bytes in {counts}")


if __name__ == "__main__":
    main()
