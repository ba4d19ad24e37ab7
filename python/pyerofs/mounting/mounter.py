"""Mounting one image so that it stays: who mounts, where, and what is remembered of it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from ..errors import Unavailable
from . import fuse
from .blobs import ImageName, OpenImage
from .domains import OpenDomain, open_domain
from .fscontext import Descriptors, attach
from .handle import Mount
from .holder import HolderOrder, hold
from .ladder import BACKENDS, climb, rungs, unshared_note
from .namespace import is_machine_admin, is_privileged
from .processes import start_time
from .records import MountRecord, mount_namespace, new_id, save_record
from .request import MountRequest, default_owners
from .server import connect_or_start
from .targets import absolute_target, open_target, private_target, remove_private_target, uninterrupted
from .umount import unmount_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .protocol import Connection

__all__ = ["mount"]


class _Order:
    """Everything that one call of :func:`mount` found out on its way to a mount."""

    def __init__(
        self, image: OpenImage, target: str, *, private: bool, backend: str, owners: str | None, mount_id: str
    ) -> None:
        self.image = image
        self.target = target
        self.private = private
        self.backend = backend
        self.owners = owners
        self.id = mount_id
        self.notes: list[str] = []

    def connect(self, domain: OpenDomain | None) -> Connection:
        name = self.image.server_name() if domain is None else domain.server_name
        self.image.refuse_own_mount(name)
        connection = connect_or_start(name) if domain is None else domain.connect()
        try:
            connection.check(self.image, with_key=domain is not None)
        except BaseException:
            connection.close()
            raise
        return connection

    def record(
        self,
        backend: str,
        server: Connection | None,
        *,
        domain: str | None,
        holder: tuple[int, int] | None = None,
    ) -> MountRecord:
        process = None
        if server is not None:
            pid = int(server.status()["pid"])
            process = (pid, start_time(pid) or 0)
        return MountRecord(
            id=self.id,
            target=self.target,
            path=self.target if holder is None else f"/proc/{holder[0]}/root{self.target}",
            image=self.image.name.path,
            backend=backend,
            domain=domain,
            server=server.server if server is not None else None,
            log=server.log if server is not None else None,
            server_process=process,
            holder=holder,
            namespace=mount_namespace(),
            uid=os.geteuid(),
            directory=self.private,
        )


def _shared_domain(name: str | None, notes: list[str]) -> OpenDomain | None:
    if name is None:
        return None
    domain = open_domain(name)
    if domain.created:
        notes.append(f"made the domain {name} in {domain.place.path}")
    return domain


def _mount_here(order: _Order, domain_name: str | None) -> Mount:
    """Mount in this process's namespace, which it may do."""
    ladder = rungs(order.backend, domain=domain_name is not None, machine_admin=is_machine_admin())
    with Descriptors() as mine:
        target = mine.add(open_target(order.target))
        # The kernel back end wants no domain of ours and refuses one.
        domain = _shared_domain(domain_name, order.notes)
        server = None
        if ladder == ["kernel"]:
            _read_through(order.image)
        else:
            server = mine.enter_context(order.connect(domain))
        request = MountRequest(
            order.id,
            order.image,
            None if domain is None else domain.place,
            default_owners(order.owners, privileged=True),
            allow_other=True,
        )
        detached, rung, passed = climb(ladder, request, server)
        mine.add(detached)
        order.notes += unshared_note(rung, passed, domain_name)
        record = order.record(rung, server, domain=None if rung in ("fuse", "kernel") else domain_name)
        with uninterrupted():
            attach(detached, target)
            _remember(record)
            return Mount(record, order.notes)


def _remember(record: MountRecord) -> None:
    try:
        save_record(record)
    except BaseException:
        # The full disk that kept us from writing it is no reason to leave the mount.
        unmount_record(record, lazy=True)
        raise


def _read_through(image: OpenImage) -> None:
    """Read the image's superblock and root with our reader before the kernel's meets it."""
    from ..image import open as open_image

    name = image.name
    with open_image(name.path, devices=name.devices, offset=name.offset) as opened:
        for _ in opened.root.iterdir():
            break


def _mount_by_helper(order: _Order, domain_name: str | None) -> Mount:
    """Mount plain FUSE with fusermount3, as an ordinary user."""
    if domain_name is not None:
        order.notes.append(
            f"nothing is shared in domain {domain_name} by this mount: what an ordinary user mounts for all "
            "programs is plain FUSE; 'pyerofs run' and '--backend overlay' share"
        )
    fuse.fusermount()
    with Descriptors() as mine:
        mine.add(open_target(order.target))
        server = mine.enter_context(order.connect(None))
        request = MountRequest(
            order.id, order.image, None, default_owners(order.owners, privileged=False), allow_other=False
        )
        record = order.record("fuse", server, domain=None)
        with uninterrupted():
            fuse.mount_with_fusermount(request, server, order.target)
            _remember(record)
            return Mount(record, order.notes)


def _mount_by_holder(order: _Order, ladder: list[str], domain_name: str | None) -> Mount:
    """Mount in a namespace that a process of its own keeps."""
    with Descriptors() as mine:
        os.close(open_target(order.target))
        domain = _shared_domain(domain_name, order.notes)
        server = mine.enter_context(order.connect(domain))
        held = hold(
            HolderOrder(
                id=order.id,
                image=order.image.name,
                domain=None if domain is None else domain.place,
                ladder=ladder,
                target=order.target,
                owners=order.owners,
            ),
            server,
        )
        with held:
            order.notes += unshared_note(held.backend, held.passed, domain_name)
            shared = None if held.backend == "fuse" else domain_name
            record = order.record(held.backend, server, domain=shared, holder=held.process)
            with uninterrupted():
                _remember(record)
                return Mount(record, order.notes, held.settle())


def _mount_unprivileged(order: _Order, domain_name: str | None, *, given: bool) -> Mount:
    backend = order.backend
    if backend == "kernel":
        raise Unavailable(
            errno.EOPNOTSUPP,
            "the kernel back end needs CAP_SYS_ADMIN",
            remedy="be root, or use another back end",
        )
    ladder = rungs(backend, domain=domain_name is not None, machine_admin=False)
    if backend == "overlay" or (backend == "auto" and domain_name is not None and not given):
        # Only programs ask for no directory, and they can live with a path below /proc.
        try:
            return _mount_by_holder(order, ladder[:1], domain_name)
        except Unavailable as error:
            if backend == "overlay":
                raise
            order.notes.append(f"overlay: {error.strerror}")
    try:
        return _mount_by_helper(order, domain_name)
    except Unavailable:
        if given:
            raise
        return _mount_by_holder(order, ["fuse"], None)


def mount(
    image: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    domain: str | None = None,
    backend: str = "auto",
    devices: Sequence[str | os.PathLike[str]] = (),
    offset: int = 0,
    owners: str | None = None,
    keep: bool = False,
) -> Mount:
    """Mount an image. The caller's own namespaces are left as they are.

    Args:
        image: the image file.
        target: an empty directory to mount on; without one a private directory is used, see
            :attr:`Mount.path`.
        domain: share the files' page cache with every other mount in the domain of this name; made if new.
        backend: ``auto``, ``kernel``, ``overlay`` or ``fuse``.
        devices: the further blobs, in the order of the image's device table.
        offset: where the image starts in its file, in bytes.
        owners: ``map`` shows the image's owners, ``squash`` makes all files the caller's; the default is
            ``map`` for root and ``squash`` for others.
        keep: leave it mounted when the returned object or the program goes.

    Returns:
        The mount, which unmounts itself as a context manager, by ``close()``, or when the program ends.

    Raises:
        CorruptImage, UnsupportedFeature, LimitExceeded: the image is at fault.
        Unavailable: the machine can't do it; says why and what helps.
        RefusedByPolicy: the image lies on a mount that would be waiting for itself.
        FileNotFoundError, NotADirectoryError: the image or the target.
        OSError: ENOTEMPTY or EBUSY of the target, or trouble of the operating system.
        ValueError: the arguments don't go together.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no back end {backend!r}: it is one of {', '.join(BACKENDS)}")
    default_owners(owners, privileged=True)
    with OpenImage(ImageName.of(image, tuple(devices), offset)) as opened, contextlib.ExitStack() as undo:
        mount_id = new_id()
        private = target is None
        if target is None:
            place = private_target(mount_id)
            undo.callback(remove_private_target, place)
        else:
            place = absolute_target(target)
        order = _Order(opened, place, private=private, backend=backend, owners=owners, mount_id=mount_id)
        if is_privileged():
            made = _mount_here(order, domain)
        else:
            made = _mount_unprivileged(order, domain, given=not private)
        undo.pop_all()
        if keep:
            made.keep()
        return made
