"""A virtual machine with the newest Linux as a judge: `run(images, script)` gives what the script printed.

Plain emulation, so that it works wherever QEMU does: a boot takes 3 to 5 seconds, and a core of the guest is
four to six times slower than one of the host. Many images belong into one boot. Broken images are mounted
only here: whatever they do to a kernel costs one virtual machine.

The kernel and its modules are fetched by apt from the mirror that this machine itself is set up to use, and
kept between runs, as is the guest's root: the tree of peers.py as an EROFS image.
"""

from __future__ import annotations

import functools
import gzip
import lzma
import os
import platform
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import peers as peer_tools
from kept import NotHereError, kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUITE = "sid"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
OLDEST_ACCEPTED = (7, 2)
# The last two make a disk of memory that the command line keeps back: `memmap=64M!512M` is /dev/pmem0.
MODULES = ("virtio_blk", "erofs", "overlay", "loop", "dm-verity", "nd_e820", "nd_pmem")
# QEMU's default machine has slots for some more.
MOST_DISKS = 24
TAIL = 4000
# What the kernel says when something went wrong in it, whether or not it lived on.
COMPLAINTS = r"Kernel panic|BUG:|Oops|UBSAN:|KFENCE:|WARNING: |general protection fault|Unable to handle"

INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
. /settings
if [ -n "$ROOT" ]; then
    mount -t erofs -o ro $ROOT /lower
    mount -t tmpfs tmpfs /upper
    mkdir /upper/data /upper/work
    mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root
    for name in proc sys dev; do mount --bind /$name /root/$name; done
    mount -t tmpfs tmpfs /root/tmp
    cp -r /given /root/given
fi
in_root() {{ chroot /root /usr/bin/env PATH=/usr/sbin:/usr/bin "$@"; }}
echo VM-BEGIN
( . /script )
status=$?
sync
dmesg | grep -E '{COMPLAINTS}' | sed 's/^/VM-COMPLAINT /'
echo VM-DONE $status
poweroff -f
"""


class NoMachineError(NotHereError):
    """There can be no virtual machine here; the message says why."""


class MachineError(AssertionError):
    """A virtual machine didn't come to its end, its kernel complained, or its script failed."""


@dataclass(frozen=True)
class Machine:
    """A kernel that can be started.

    Attributes:
        kernel: its bzImage.
        release: what its uname -r says.
        initramfs: a compressed cpio archive with the modules, busybox and init.
    """

    kernel: Path
    release: str
    initramfs: Path

    @property
    def version(self) -> tuple[int, ...]:
        """The kernel's version."""
        return peer_tools.parse_version(self.release)


@dataclass(frozen=True)
class Options:
    """How a virtual machine is set up.

    Attributes:
        command_line: words for the kernel, such as `slab_debug=FZP`.
        memory: the guest's memory, in MiB.
        scratch: a file that the guest may write as the disk `$SCRATCH`.
        root: give the guest the tree of peers.py: writable at /root, entered with `in_root COMMAND`. It has
            erofs-utils and Python.
        given: small files that the guest finds in /given.
        timeout: seconds until the machine is stopped.
        complaints: patterns, as `grep -E` has them, of warnings of the kernel that are expected.
    """

    command_line: str = ""
    memory: int = 1024
    scratch: Path | None = None
    root: bool = False
    given: Mapping[str, bytes] = field(default_factory=dict)
    timeout: float = 300
    complaints: Sequence[str] = ()


DEFAULT = Options()


def run(images: Sequence[Path], script: str, options: Options = DEFAULT) -> str:
    """Start a machine, run a script in it, and return what the script printed.

    Args:
        images: read-only disks: /dev/vda, /dev/vdb and so on.
        script: a shell script for busybox. It runs as root beside init, in an initramfs.
        options: more disks, files, memory, and what the kernel is told.

    Raises:
        NoMachineError: there can be no virtual machine here.
        MachineError: the script failed, the kernel complained, or neither came to an end in time; with the
            end of the serial log.
    """
    machine = find()
    disks = [(image, True) for image in images]
    settings = {"ROOT": "", "SCRATCH": ""}
    if options.root:
        settings["ROOT"] = device(len(disks))
        disks.append((guest_root(), True))
    if options.scratch:
        settings["SCRATCH"] = device(len(disks))
        disks.append((options.scratch, False))
    if len(disks) > MOST_DISKS:
        raise ValueError(f"{len(disks)} disks are more than the {MOST_DISKS} that a machine takes")
    files: dict[str, bytes | None] = {"given": None}
    files |= {f"given/{name}": data for name, data in options.given.items()}
    files["settings"] = "".join(f"{name}={value}\n" for name, value in settings.items()).encode()
    files["script"] = script.encode()
    # The kernel unpacks one archive after the other.
    initramfs = machine.initramfs.read_bytes() + archive(files)
    log = start(machine, initramfs, disks, options)
    return judged(log, options.complaints)


def start(machine: Machine, initramfs: bytes, disks: Sequence[tuple[Path, bool]], options: Options) -> str:
    """Let a machine run to its end, and return its serial log."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise NoMachineError("qemu-system-x86_64 is not installed")
    command = [
        program,
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        str(options.memory),
        "-nic",
        "none",
        "-no-reboot",
    ]
    command += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(machine.kernel)]
    words = f"console=ttyS0 quiet loglevel=3 panic=-1 oops=panic {options.command_line}"
    command += ["-append", words.strip()]
    for path, read_only in disks:
        # A comma in QEMU's options is written twice.
        name = os.fspath(path).replace(",", ",,")
        command += ["-drive", f"file={name},format=raw,if=virtio,readonly={'on' if read_only else 'off'}"]
    archive_of_run = os.memfd_create("initramfs")
    try:
        with open(archive_of_run, "wb", closefd=False) as file:
            file.write(initramfs)
        command += ["-initrd", f"/proc/self/fd/{archive_of_run}"]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[archive_of_run],
        ) as process:
            try:
                said, _ = process.communicate(timeout=options.timeout)
                late = ""
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
                late = f"\nstopped after {options.timeout:g} seconds"
    finally:
        os.close(archive_of_run)
    return said.decode(errors="backslashreplace").replace("\r", "") + late


def judged(log: str, expected: Sequence[str] = ()) -> str:
    """What the script of a serial log printed.

    Raises:
        MachineError: the machine didn't come to its end, or something failed in it.
    """
    end = log[-TAIL:]
    found = re.search(
        r"^VM-BEGIN\n(.*?)((?:^VM-COMPLAINT .*\n)*)^VM-DONE (\d+)$", log, re.DOTALL | re.MULTILINE
    )
    if not found:
        raise MachineError(f"the virtual machine didn't come to its end:\n{end}")
    printed, complaints, status = found.groups()
    lines = [line for line in complaints.splitlines() if not any(re.search(one, line) for one in expected)]
    if lines:
        raise MachineError("the kernel complained:\n" + "\n".join(lines) + f"\n{end}")
    if status != "0":
        raise MachineError(f"the script's exit status is {status}:\n{end}")
    return printed


def device(number: int) -> str:
    """The name of the disk of that number in the guest."""
    return f"/dev/vd{chr(ord('a') + number)}"


def archive(files: Mapping[str, bytes | None]) -> bytes:
    """A compressed cpio archive of files, and of directories where there is None; all may be executed."""
    made = b""
    entries = [*files.items(), ("TRAILER!!!", b"")]
    for number, (name, data) in enumerate(entries):
        mode = stat.S_IFDIR | 0o755 if data is None else stat.S_IFREG | 0o755
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data or b""), 0, 0, 0, 0, len(raw), 0)
        made += b"070701" + "".join(f"{value:08x}" for value in fields).encode() + raw
        made += bytes(-len(made) % 4) + (data or b"")
        made += bytes(-len(made) % 4)
    return gzip.compress(made, 1, mtime=0)


@functools.cache
def find() -> Machine:
    """The newest kernel, fetched now where it is missing or older than a month.

    Raises:
        NoMachineError: it can't be had; tests that need it are skipped with its message.
    """
    if platform.machine() != "x86_64":
        raise NoMachineError(f"the virtual machine is made for x86_64, not for {platform.machine()}")
    for program, package in (
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("depmod", "kmod"),
        ("modprobe", "kmod"),
        ("apt-get", "apt"),
        ("dpkg-deb", "dpkg"),
    ):
        if shutil.which(program) is None:
            raise NoMachineError(f"{program} of the Debian package {package} is not installed")
    try:
        place = kept("machine", f"{SUITE} {' '.join(MODULES)}\n{INIT}", make)
    except NotHereError as error:
        raise NoMachineError(str(error)) from error
    machine = Machine(place / "vmlinuz", (place / "release").read_text(), place / "initramfs")
    if machine.version < OLDEST_ACCEPTED:
        wanted = ".".join(map(str, OLDEST_ACCEPTED))
        raise NoMachineError(f"Linux {machine.release} of {SUITE} is older than {wanted}")
    return machine


def make(place: Path) -> None:
    """Fetch the kernel into the empty directory `place`, and make its initramfs."""
    work = place / "apt"
    options = apt_options(work, SUITE)
    depends = command("apt-cache", *options, "depends", "linux-image-cloud-amd64")
    found = re.search(r"Depends: linux-image-(\d\S*)", depends)
    if not found:
        raise NoMachineError(f"{SUITE} has no kernel linux-image-cloud-amd64")
    release = found[1]
    packages = [f"linux-{part}-{release}" for part in ("binary", "modules", "base")]
    command("apt-get", *options, "-qq", "download", *packages, cwd=work)
    tree = work / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    for package in work.glob("*.deb"):
        command("dpkg-deb", "--extract", package, tree)
    # No package brings modules.dep along.
    command("depmod", "-b", tree, release)
    files: dict[str, bytes | None] = dict.fromkeys(
        ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "root", "mnt", "tmp")
    )
    order: list[str] = []
    for module in MODULES:
        listed = command("modprobe", "-d", tree, "-S", release, "--show-depends", module)
        for path in map(Path, re.findall(r"^insmod (\S+)", listed, re.MULTILINE)):
            name = path.name.removesuffix(".xz")
            if name not in order:
                order.append(name)
                data = path.read_bytes()
                files[f"modules/{name}"] = lzma.decompress(data) if path.suffix == ".xz" else data
    busybox = shutil.which("busybox")
    assert busybox is not None
    files["modules/order"] = "\n".join(order).encode()
    files["bin/busybox"] = Path(busybox).read_bytes()
    files["init"] = INIT.encode()
    (place / "initramfs").write_bytes(archive(files))
    shutil.copy(tree / "lib/modules" / release / "vmlinuz", place / "vmlinuz")
    (place / "release").write_text(release)
    shutil.rmtree(work)


def apt_options(work: Path, suite: str) -> list[str]:
    """Options with which apt knows the packages of one suite of Debian, and nothing of this system.

    Args:
        work: a new directory for what apt keeps.
        suite: the suite's name, as in ``sid``.

    Raises:
        NoMachineError: the lists can't be had.
    """
    for directory in ("lists/partial", "cache/archives/partial"):
        (work / directory).mkdir(parents=True)
    if not KEYRING.exists():
        raise NoMachineError(f"there is no {KEYRING} to check packages with")
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {peer_tools.mirror()} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Languages": "none",
        # Otherwise a mirror that can't be reached is only warned of.
        "APT::Update::Error-Mode": "any",
        "Acquire::http::Timeout": "30",
        "Acquire::https::Timeout": "30",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    command("apt-get", *options, "-qq", "update")
    return options


def command(*words: str | os.PathLike[str], cwd: Path | None = None) -> str:
    """What a program prints.

    Raises:
        NoMachineError: it failed; with the cause, in one line, or took too long.
    """
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600, cwd=cwd
        )
    except subprocess.TimeoutExpired as error:
        raise NoMachineError(f"{os.fspath(words[0])} took longer than ten minutes") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        # apt's first error is the cause; the last line is the end of other programs.
        cause = next((line for line in lines if line.startswith("E: ")), lines[-1])
        raise NoMachineError(f"{os.fspath(words[0])} failed: {cause}")
    return done.stdout


@functools.cache
def guest_root() -> Path:
    """An EROFS image of the tree of peers.py.

    Raises:
        NoMachineError: the tree can't be had.
    """
    try:
        peers = peer_tools.find()
    except NotHereError as error:
        raise NoMachineError(str(error)) from error
    if not (peers.root / "usr/bin/python3").exists():
        raise NoMachineError(f"there is no Python in {peers.root}")
    made = (peers.root / ".made").stat()

    def make_root(place: Path) -> None:
        # Plain: reading is cheap and decoding is dear in the guest.
        peers.mkfs(place / "root.erofs", peers.root, "--quiet")

    try:
        return kept("vm-root", f"{made.st_ino} {made.st_mtime_ns}", make_root) / "root.erofs"
    except NotHereError as error:
        raise NoMachineError(str(error)) from error
