"""Linux 7.2 as a judge: many images are mounted in one virtual machine, each looked at as judges.py does.

The images lie as files in a container, an EROFS image on a virtio disk, and are mounted straight from it.
This module runs on both sides: here it packs the images and reads the answers, there it mounts and looks.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judges import Entry, Snapshot, kernel_mount, of_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builders import Made
    from peers import Peers

SCRATCH_SIZE = 1 << 30
SCRIPT = """
mkdir -p /root/images
mount -t erofs -o ro /dev/vda /root/images
in_root /usr/bin/python3 /given/vm_judge.py $SCRATCH
"""


@dataclass(frozen=True)
class Refused:
    """What the kernel says of an image that it doesn't mount, or doesn't read."""

    error: str


def judge(peers: Peers, images: Sequence[Made], *, command_line: str = "") -> list[Snapshot | Refused]:
    """What the kernel of the virtual machine sees in each image.

    Raises:
        vm.NoMachineError: there can be no virtual machine here.
        vm.MachineError: the kernel stumbled over an image.
    """
    import vm

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        container = work / "container"
        container.mkdir()
        plan = []
        for number, made in enumerate(images):
            names = []
            for part, path in enumerate((made.image, *made.devices)):
                names.append(f"{number}.{part}")
                link_or_copy(path, container / names[-1])
            plan.append(names)
        peers.mkfs(work / "disk", container, "--quiet")
        shutil.rmtree(container)
        scratch = work / "scratch"
        with open(scratch, "wb") as file:
            file.truncate(SCRATCH_SIZE)
        here = Path(__file__).parent
        given = {name: (here / name).read_bytes() for name in ("vm_judge.py", "judges.py")}
        given["plan"] = json.dumps(plan).encode()
        options = vm.Options(
            command_line=command_line, memory=2048, scratch=scratch, root=True, given=given, timeout=900
        )
        vm.run([work / "disk"], SCRIPT, options)
        with open(scratch, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            answers = json.loads(file.read(size))
    return [
        Refused(answer) if isinstance(answer, str) else dict(map(unpacked, answer.items()))
        for answer in answers
    ]


def link_or_copy(path: Path, to: Path) -> None:
    """The same file at another place."""
    try:
        os.link(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(path, to)


def packed(path: bytes, entry: Entry) -> tuple[str, dict[str, Any]]:
    """An entry as JSON can hold it: bytes become text of the same length."""
    shown = asdict(entry)
    shown["group"] = entry.group.decode("latin-1")
    shown["target"] = None if entry.target is None else entry.target.decode("latin-1")
    shown["xattrs"] = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in entry.xattrs]
    return path.decode("latin-1"), shown


def unpacked(item: tuple[str, dict[str, Any]]) -> tuple[bytes, Entry]:
    """The entry again."""
    path, shown = item
    shown["group"] = shown["group"].encode("latin-1")
    shown["target"] = None if shown["target"] is None else shown["target"].encode("latin-1")
    shown["xattrs"] = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in shown["xattrs"]
    )
    return path.encode("latin-1"), Entry(**shown)


def look(names: list[str]) -> dict[str, dict[str, Any]] | str:
    """In the guest: what is in an image, or why it can't be told."""
    image, *devices = (Path("/images", name) for name in names)
    at = Path("/tmp/mnt")
    try:
        with kernel_mount(image, at, devices=devices):
            return dict(packed(path, entry) for path, entry in of_directory(at).items())
    except OSError as error:
        return str(error)


def main() -> None:
    """In the guest: look at every image of the plan, and write the answers to the scratch disk."""
    plan = json.loads(Path("/given/plan").read_bytes())
    answers = json.dumps([look(names) for names in plan]).encode()
    with open(sys.argv[1], "r+b") as disk:
        disk.write(struct.pack("<Q", len(answers)) + answers)


if __name__ == "__main__":
    main()
