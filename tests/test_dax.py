"""Direct access: Linux maps large files of an aligned image in large pages, straight from memory."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

import pyerofs
import vm

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 2 << 20
READ = b"""
import mmap

for name in ("large", "exact", "small"):
    with open("/mnt/" + name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert b"".join(mapped[at : at + 65536] for at in range(0, len(mapped), 65536)) == file.read()
"""
SCRIPT = """
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /root/mnt
for disk in /dev/vda /dev/vdb; do
    dd if=$disk of=/dev/pmem0 bs=1M 2>/dev/null
    mount -t erofs -o ro,dax=always /dev/pmem0 /root/mnt || exit 1
    echo 1 > /sys/kernel/tracing/events/fs_dax/dax_pmd_fault_done/enable
    in_root /usr/bin/python3 /given/read.py || exit 2
    echo 0 > /sys/kernel/tracing/events/fs_dax/dax_pmd_fault_done/enable
    echo IMAGE
    cat /sys/kernel/tracing/trace
    echo > /sys/kernel/tracing/trace
    umount /root/mnt
done
"""


@pytest.mark.usefixtures("machine")
@pytest.mark.timeout(300)
def test_linux_maps_aligned_files_in_large_pages(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    noise = random.Random(3)
    for name, size in (("large", 2 * PAGE + 800_000), ("exact", PAGE), ("small", 50_000)):
        (tree / name).write_bytes(noise.randbytes(size))
    images = [tmp_path / "aligned", tmp_path / "close"]
    pyerofs.build(tree, images[0], preset="dax")
    pyerofs.build(tree, images[1], inline_tail=0)
    options = vm.Options(root=True, given={"read.py": READ}, command_line="memmap=64M!512M")
    _, aligned, close = vm.run(images, SCRIPT, options).split("IMAGE\n")
    # The first two pages of the large file and the only one of the other: NOPAGE is a page that was mapped.
    assert len(re.findall(r"dax_pmd_fault_done: .* NOPAGE$", aligned, re.MULTILINE)) == 3
    assert "FALLBACK" in close
    assert "NOPAGE" not in close
