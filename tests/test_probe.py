"""``probe``, and how each kind of missing thing is told apart."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyerofs
from mount_tools import user_image
from pyerofs.mounting import diagnosis

if TYPE_CHECKING:
    from ordinary_user import OrdinaryUser


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """A machine whose sysctls and seccomp filter are what the test says; nothing is restricted at first."""
    values: dict[str, int | None] = {}
    monkeypatch.setattr(diagnosis, "read_sysctl", lambda name: values.get(name))
    monkeypatch.setattr(diagnosis, "_seccomp_filters", lambda: values.get("seccomp") == 2)
    monkeypatch.setattr(diagnosis, "_in_chroot", lambda: values.get("chroot") == 1)
    return values


def test_each_reason_for_no_namespace_has_its_own_remedy(machine: dict[str, int | None]) -> None:
    denied = OSError(errno.EPERM, "Operation not permitted")
    cases: list[tuple[dict[str, int | None], OSError, str, str]] = [
        ({"user.max_user_namespaces": 0}, OSError(errno.ENOSPC, "x"), "sysctl", "user.max_user_namespaces"),
        ({"kernel.unprivileged_userns_clone": 0}, denied, "sysctl", "unprivileged_userns_clone=1"),
        ({"kernel.apparmor_restrict_unprivileged_userns": 1}, denied, "apparmor", "AppArmor profile"),
        ({"seccomp": 2}, denied, "seccomp", "seccomp=unconfined"),
        ({"chroot": 1}, denied, "kernel", "outside the chroot"),
        ({}, OSError(errno.EINVAL, "x"), "other", "process of its own"),
    ]
    for values, error, kind, remedy in cases:
        machine.clear()
        machine.update(values)
        cause = diagnosis.explain_namespace(error)
        assert cause.kind == kind
        assert cause.remedy is not None
        assert remedy in cause.remedy
        raised = cause.error()
        assert isinstance(raised, pyerofs.ErofsError)
        assert raised.errno == errno.EOPNOTSUPP


def test_a_missing_and_a_closed_device_are_told_apart() -> None:
    missing = diagnosis.explain_device(FileNotFoundError(errno.ENOENT, "x", "/dev/fuse"))
    closed = diagnosis.explain_device(PermissionError(errno.EACCES, "x", "/dev/fuse"))
    assert missing.remedy is not None
    assert "modprobe fuse" in missing.remedy
    assert closed.remedy is not None
    assert "chmod 0666" in closed.remedy


def test_a_kernel_without_a_filesystem_is_told_from_one_that_forbids_it(
    machine: dict[str, int | None],
) -> None:
    assert diagnosis.explain_filesystem("fuse", OSError(errno.ENODEV, "x")).kind == "kernel"
    assert diagnosis.explain_filesystem("fuse", OSError(errno.EPERM, "x")).kind == "privilege"
    machine["seccomp"] = 2
    assert diagnosis.explain_filesystem("fuse", OSError(errno.EPERM, "x")).kind == "seccomp"


@pytest.mark.root
@pytest.mark.usefixtures("fuse_device")
def test_root_can_do_what_the_probe_says(tmp_path: Path) -> None:
    found = pyerofs.probe()
    assert found.privileged
    assert "pyerofs-probe" not in Path("/proc/self/mountinfo").read_text()
    source = tmp_path / "tree"
    source.mkdir()
    image = tmp_path / "image.erofs"
    pyerofs.build(source, image)
    if found.abilities["kernel"].available:
        with pyerofs.mount(image, backend="kernel"):
            pass
    assert set(found.mount) >= {"fuse"}


@pytest.mark.root
def test_an_ordinary_user_learns_what_is_missing(user: OrdinaryUser, home: Path) -> None:
    done = user.run(["pyerofs", "probe", "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["privileged"] is False
    assert found["abilities"]["device"]["available"]
    assert found["abilities"]["kernel"]["cause"] == "privilege"
    assert found["abilities"]["passthrough"]["cause"] == "privilege"
    image = user_image(user, home, "image", {"file": b"x"})
    for backend in found["run"]:
        words = ["pyerofs", "run", image, "--backend", backend, "--domain", "shared", "--", "cat", "file"]
        assert user.run(words, capture_output=True, text=True, check=True).stdout == "x"
    words = user.run(["pyerofs", "probe"], capture_output=True, text=True, check=True).stdout
    assert "/dev/fuse" in words
    assert "run:" in words


@pytest.mark.root
def test_without_the_device_the_commands_name_it_and_the_remedy(user: OrdinaryUser, home: Path) -> None:
    image = user_image(user, home, "image", {"file": b"x"})
    device = Path("/dev/fuse")
    mode = device.stat().st_mode
    device.chmod(0o600)
    try:
        done = user.run(["pyerofs", "run", image, "--", "true"], capture_output=True, text=True)
        assert done.returncode == 125
        assert "/dev/fuse" in done.stderr
        assert "chmod 0666" in done.stderr
        done = user.run(["pyerofs", "probe", "--json"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["run"] == []
        assert json.loads(done.stdout)["abilities"]["fuse"]["cause"] == "device"
    finally:
        device.chmod(mode)
