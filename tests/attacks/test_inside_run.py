"""A program that was started by ``run`` and looks for what ``run`` hides: store, server, metadata layer.

It is as capable as an ordinary user can be: with ``--root-user`` and in user namespaces of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mount_tools import give, random_bytes, user_image

if TYPE_CHECKING:
    from pathlib import Path

    from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("fuse_device")]

SECRET = random_bytes(31, 60_000)

#: What the program does; it prints a JSON object of everything that it got hold of.
PROBE = r"""
import ctypes, json, os, socket, stat, subprocess, sys
from pathlib import Path

state, runtime = map(Path, sys.argv[1:3])
got = {}

def note(name, what):
    got.setdefault(name, []).append(str(what))

def look(name, root):
    try:
        for directory, names, files in os.walk(root):
            for entry in files + names:
                note(name, os.path.join(directory, entry))
    except OSError:
        pass

def attempt(name, step, *arguments):
    try:
        note(name, step(*arguments))
    except OSError:
        pass

look("state", state)
for path in runtime.rglob("*"):
    if path.is_socket() or path.suffix in (".sock", ".json", ".log"):
        note("runtime", path)

# Every other process: its root, its directory, its descriptors, its memory.
namespace = os.stat("/proc/self/ns/mnt").st_ino
for entry in Path("/proc").iterdir():
    if not entry.name.isdigit() or int(entry.name) == os.getpid():
        continue
    try:
        if os.stat(entry / "ns/mnt").st_ino == namespace:
            continue
    except OSError:
        pass
    attempt("root", os.listdir, entry / "root" / str(state).lstrip("/"))
    attempt("cwd", os.listdir, entry / "cwd/domains")
    attempt("fd", os.listdir, entry / "fd")
    attempt("memory", lambda path: os.close(os.open(path, os.O_RDWR)), entry / "mem")
    attempt("map", os.listdir, entry / "map_files")
    for kind in ("mnt", "user"):
        try:
            fd = os.open(entry / "ns" / kind, os.O_RDONLY)
        except OSError:
            continue
        if os.fstat(fd).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, 0) == 0:
                note("setns", entry)
        os.close(fd)

# The covers, from here and from a namespace below.
for cover in (state, runtime):
    for words in (["umount", cover], ["umount", "-l", cover], ["mount", "--move", cover, "/mnt"],
                  ["unshare", "-Urm", "umount", cover], ["unshare", "-Urm", "umount", "-l", cover],
                  ["unshare", "-Urm", "sh", "-c", f"mount --bind {cover.parent} /mnt"],
                  ["unshare", "-Urm", "sh", "-c", f"mount --bind / /mnt && ls -A /mnt/{state}/domains"]):
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        if done.returncode == 0:
            note("cover", words)
look("uncovered", state)

# The metadata layer: nothing that is mounted here may be a FUSE mount that one can write xattrs to.
for line in Path("/proc/self/mountinfo").read_text().splitlines():
    fields = line.split(" ")
    target = fields[4]
    if "fuse.pyerofs" in line or " overlay pyerofs" in line:
        note("mounts", target)
        for name in os.listdir(target):
            attempt("setxattr", os.setxattr, os.path.join(target, name), "user.overlay.redirect", b"/ab/cd")
        if subprocess.run(["mount", "-o", "remount,bind,rw", target], capture_output=True).returncode == 0:
            note("remount", target)
    for word in (".v", "objects", "fresh"):
        if word in target.split("/"):
            note("layer", line)

for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
    name = line.split()[-1] if len(line.split()) > 7 else ""
    if "pyerofs" in name or "image-" in name or "domain-" in name:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        attempt("connect", connection.connect, name.replace("@", "\0"))
json.dump(got, sys.stdout)
"""


def explore(user: OrdinaryUser, home: Path, options: list[str]) -> dict[str, Any]:
    image = user_image(user, home, "image", {"file": SECRET})
    program = home / "probe.py"
    program.write_text(PROBE)
    give(program, user)
    state, runtime = user.home / ".cache/pyerofs", user.directory / "run/pyerofs"
    # First let the domain have an object, as the prize.
    words = ["pyerofs", "run", str(image), "--domain", "prize", "--", "cksum", "file"]
    user.run(words, check=True, capture_output=True)
    files = [path for path in (state / "domains/prize").rglob("*") if path.is_file()]
    assert len(SECRET) in {path.stat().st_size for path in files}
    done = user.run(
        ["pyerofs", "run", image, *options, "--", "python3", program, state, runtime],
        capture_output=True,
        text=True,
        cwd=state / "domains/prize",
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("root_user", [[], ["--root-user"]], ids=["user", "root-user"])
@pytest.mark.parametrize(
    "backend", [["--backend", "overlay"], ["--backend", "fuse"]], ids=["overlay", "fuse"]
)
def test_nothing_that_run_hides_can_be_had(
    user: OrdinaryUser, home: Path, backend: list[str], root_user: list[str]
) -> None:
    found = explore(user, home, ["--domain", "prize", *backend, *root_user])
    assert len(found.pop("mounts")) == 1
    assert found == {}


def test_a_directory_that_the_caller_stands_in_is_no_way_around_the_cover(
    user: OrdinaryUser, home: Path
) -> None:
    image = user_image(user, home, "image", {"file": SECRET})
    target = home / "at"
    target.mkdir()
    give(target, user)
    user.run(["pyerofs", "run", image, "--domain", "prize", "--", "cksum", "file"], check=True)
    inside = user.home / ".cache/pyerofs/domains/prize/objects"
    done = user.run(
        ["pyerofs", "run", f"{image}:{target}", "--", "sh", "-c", "ls -A; ls -A ..; pwd -P"],
        capture_output=True,
        text=True,
        cwd=inside,
    )
    assert done.returncode == 0, done.stderr
    assert "objects" not in done.stdout
    assert done.stdout.rstrip().endswith("/")


def test_a_place_inside_the_hidden_directories_is_refused(user: OrdinaryUser, home: Path) -> None:
    image = user_image(user, home, "image", {"file": SECRET})
    user.run(["pyerofs", "run", image, "--domain", "prize", "--", "true"], check=True)
    place = user.home / ".cache/pyerofs/place"
    place.mkdir(exist_ok=True)
    give(place, user)
    done = user.run(["pyerofs", "run", f"{image}:{place}", "--", "true"], capture_output=True, text=True)
    assert done.returncode == 125
    assert "hidden" in done.stderr
