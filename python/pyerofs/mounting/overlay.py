"""The overlay back end: ``META::objects::lazy::fresh``, mounted by overlayfs itself.

META and lazy are FUSE mounts of ours, objects and fresh are copies of the domain's directories. None of
the four is ever attached where a path could reach it: overlayfs is given descriptors and keeps private
copies, so whoever sees the result can change neither the redirects nor the objects.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import _core
from .diagnosis import explain_filesystem
from .fscontext import ATTR_RDONLY, READ_ONLY, Descriptors, FsContext
from .fuse import detached_fuse, open_device

if TYPE_CHECKING:
    from .protocol import Connection
    from .request import DomainPlace, MountRequest

__all__ = ["make_overlay", "mount_layers"]


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _domain_layers(domain: DomainPlace, mine: Descriptors) -> tuple[int, int]:
    """Copies of the mount that the domain lies on, rooted at its objects and at this boot's fresh ones."""
    layers = []
    for part in ("objects", f"fresh/{_boot_id()}"):
        layer = mine.add(_core.clone_mount(os.path.join(domain.path, part)))
        _core.mount_setattr(layer, ATTR_RDONLY, 0)
        layers.append(layer)
    return layers[0], layers[1]


def mount_layers(meta: int, data: list[int]) -> int:
    """Mount an overlay of one metadata layer and data-only layers, attached nowhere.

    Args:
        meta: a descriptor of the metadata layer's root.
        data: descriptors of the data-only layers' roots, in the order in which they are searched.

    Raises:
        OSError: the kernel does not take it; has the kernel's words.
    """
    with FsContext("overlay") as context:
        context.string("source", "pyerofs")
        context.flag("userxattr")
        context.descriptor("lowerdir+", meta)
        for layer in data:
            context.descriptor("datadir+", layer)
        context.flag("ro")
        return context.mount(READ_ONLY)


def make_overlay(request: MountRequest, server: Connection) -> int:
    """Mount the image as an overlay over its metadata and the domain's objects, attached nowhere.

    Raises:
        Unavailable: the machine does not allow it.
        ErofsError: the image is at fault.
        OSError: a layer can't be had.
    """
    if request.domain is None:
        raise ValueError("the overlay back end needs a domain: its files are the domain's objects")
    with Descriptors() as mine:
        devices = [mine.add(open_device()) for _ in range(2)]
        meta, lazy = (
            mine.add(detached_fuse(device, request.source, allow_other=request.allow_other))
            for device in devices
        )
        server.mount(
            request.image, mount_id=request.id, kind="overlay", devices=devices, owners=request.owners
        )
        # Overlayfs copies mode and owner of the root as they are in memory, and FUSE knows them only once it
        # has asked: without this the root would be nobody's and closed to all but the privileged.
        os.stat(meta)
        objects, fresh = _domain_layers(request.domain, mine)
        try:
            return mount_layers(meta, [objects, lazy, fresh])
        except OSError as error:
            raise explain_filesystem("overlay", error).error() from error
