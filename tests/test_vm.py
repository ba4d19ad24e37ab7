"""The virtual machine itself: what it reports, and that nothing that goes wrong in it is taken for a pass."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import tiny
import vm
from builders import MKFS, Made
from judges import Snapshot, as_tree, assert_same, of_directory
from vm_judge import Refused, judge

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peers


@pytest.mark.usefixtures("machine")
def test_a_script_sees_its_disks_and_files(tmp_path: Path) -> None:
    disks = [tmp_path / "first,disk", tmp_path / "second"]
    for number, disk in enumerate(disks):
        disk.write_bytes(f"disk {number}\n".encode().ljust(4096, b"\0"))
    scratch = tmp_path / "scratch"
    scratch.write_bytes(bytes(4096))
    printed = vm.run(
        disks,
        """
        head -n1 /dev/vda; head -n1 /dev/vdb
        cat /given/words
        ! echo x 2>/dev/null > /dev/vda || exit 1
        echo written | dd of=$SCRATCH conv=notrunc 2>/dev/null
        uname -r; cat /proc/cmdline
        """,
        vm.Options(
            scratch=scratch, given={"words": b"given words\n"}, command_line="kfence.sample_interval=100"
        ),
    )
    lines = printed.splitlines()
    assert lines[:3] == ["disk 0", "disk 1", "given words"]
    assert lines[3] == vm.find().release
    assert lines[4].endswith("kfence.sample_interval=100")
    assert scratch.read_bytes().startswith(b"written\n")


@pytest.mark.usefixtures("machine")
def test_a_kernel_that_panics_is_not_called_done() -> None:
    with pytest.raises(vm.MachineError, match=r"(?s)didn't come to its end.*before.*Kernel panic"):
        vm.run([], "echo before; echo c > /proc/sysrq-trigger; echo after")


@pytest.mark.usefixtures("machine")
def test_a_machine_that_hangs_is_stopped() -> None:
    with pytest.raises(vm.MachineError, match="stopped after 1 seconds"):
        vm.run([], "sleep 100", vm.Options(timeout=1))


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("VM-BEGIN\nhello\n", "didn't come to its end"),
        ("VM-BEGIN\nVM-DONE 0", None),
        ("VM-BEGIN\nsomething\nVM-DONE 3\n", "exit status is 3"),
        ("VM-BEGIN\nVM-COMPLAINT [1.0] UBSAN: array-index\nVM-DONE 0\n", "UBSAN: array-index"),
        ("VM-BEGIN\nVM-DONE 0 said by a script\n", "didn't come to its end"),
    ],
)
def test_the_log_is_judged(log: str, says: str | None) -> None:
    if says is None:
        assert vm.judged(log) == ""
    else:
        with pytest.raises(vm.MachineError, match=says):
            vm.judged(log)


def test_an_expected_complaint_is_no_failure() -> None:
    log = "VM-BEGIN\nhello\nVM-COMPLAINT [1.0] WARNING: as we wanted\nVM-DONE 0\n"
    assert vm.judged(log, ["as we wanted"]) == "hello\n"


@pytest.mark.root
@pytest.mark.usefixtures("machine")
def test_the_guest_sees_what_went_into_an_image_and_survives_broken_ones(
    peers: Peers, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "text").write_text("words and words\n" * 10_000)
    (source / "link").symlink_to("text")
    images: list[Made] = []
    for builder in MKFS[:1] + [one for one in MKFS if one.blobdev][:1]:
        target = tmp_path / builder.name
        target.mkdir()
        images.append(builder.make(peers, source, target))

    compressed = tmp_path / "compressed.erofs"
    peers.mkfs(compressed, source, "-zlz4", "--quiet")
    images.append(Made(compressed))
    # The same with nonsense for the data's blocks: they are the last ones.
    broken_data = tmp_path / "broken-data.erofs"
    broken_data.write_bytes(compressed.read_bytes()[:-4096] + b"\x5a" * 4096)
    # And one whose root is no directory.
    broken_root = tmp_path / "broken-root.erofs"
    sample = bytearray(tiny.sample())
    struct.pack_into("<H", sample, tiny.place(0) + 4, tiny.REGULAR)
    broken_root.write_bytes(sample)

    *seen, data, root = judge(peers, [*images, Made(broken_data), Made(broken_root)])
    expected = MKFS[0].expected(of_directory(source))
    for made, answer in zip(images, seen, strict=True):
        assert not isinstance(answer, Refused), answer
        assert_same(expected, comparable(answer), made.image.name)
    assert isinstance(data, Refused)
    assert "Input/output error" in data.error or "Structure needs cleaning" in data.error
    assert isinstance(root, Refused)
    assert "Invalid argument" in root.error


def comparable(snapshot: Snapshot) -> Snapshot:
    """What mkfs.erofs keeps of a tree."""
    return MKFS[0].comparable(as_tree(snapshot))
