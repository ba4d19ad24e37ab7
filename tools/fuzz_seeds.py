"""Small compressed images as seeds for the fuzz targets: fuzz_seeds.py DIRECTORY.

They are made by mkfs.erofs, one for each kind of map and of place that data may have. Where no new
mkfs.erofs can be had the seeds of our own builder must do, which this says and is no failure.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import peers

OPTIONS = {
    "lz4": ("-zlz4",),
    "lz4-512": ("-b512", "-zlz4hc", "-C8192", "-Eztailpacking"),
    "lz4-full": ("-b1024", "-zlz4", "-C4096", "-Elegacy-compress,fragments"),
    "deflate": ("-b512", "-zdeflate", "-C16384", "-Eall-fragments"),
    "lzma": ("-b512", "-zlzma,dictsize=8192", "-C4096", "-Eztailpacking,dedupe"),
    "zstd-48bit": ("-b1024", "-zzstd", "-C8192", "-E48bit"),
    "zstd-48bit-fragments": ("-b512", "-zzstd", "-C2048", "-E48bit,fragments,dedupe"),
    "metabox": ("-b512", "-zlz4", "-C4096", "-m4096", "-x1"),
    "metabox-fragments": ("-b512", "-zzstd", "-C4096", "-m4096", "-E48bit,all-fragments"),
    "two": ("-b512", "-zlz4:deflate", "-C4096"),
}


def text(length: int) -> bytes:
    """Words that compress to about a third and never repeat exactly."""
    words = (f"{number * 2654435761 % 65521:x} lies at {number} " for number in range(length))
    return "".join(word for word, _ in zip(words, range(length // 8), strict=False)).encode()[:length]


def tree(root: Path) -> None:
    """Files of several sizes, the same bytes twice, zeros, noise, and a directory of many names."""
    data = text(40_000)
    noise = bytes(number * number * 31 % 251 for number in range(3000))
    (root / "long").write_bytes(data[:20_000])
    (root / "same").write_bytes(data[:9_000] + noise + data[:5_000])
    (root / "zeros").write_bytes(bytes(30_000))
    (root / "noise").write_bytes(noise)
    (root / "many").mkdir()
    for number in range(30):
        (root / "many" / f"a longer name to fill a directory {number}").write_bytes(data[: number * 9])


def make(tools: peers.Peers, target: Path) -> list[Path]:
    """Make the images in `target`, which exists; returns their paths."""
    made = []
    with tempfile.TemporaryDirectory() as scratch:
        tree(Path(scratch))
        for name, options in OPTIONS.items():
            made.append(target / f"mkfs-{name}")
            tools.mkfs(made[-1], Path(scratch), "-T0", "--quiet", *options)
    return made


def main() -> None:
    """Make the seeds in the folder that the command line names, or say why there are none."""
    try:
        make(peers.find(), Path(sys.argv[1]))
    except peers.NoPeersError as error:
        print(f"no compressed seeds: {error}")


if __name__ == "__main__":
    main()
