"""The kernel back end: Linux' own EROFS reads the image file. Only when it is named, and only as root.

A parser in the kernel meets the image's bytes, so nobody gets this without asking for it; that the image
was read through by ours first keeps accidents out, not attacks.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import Unavailable
from .diagnosis import explain_filesystem
from .fscontext import READ_ONLY, FsContext

if TYPE_CHECKING:
    from .request import MountRequest

__all__ = ["make_kernel"]


def make_kernel(request: MountRequest) -> int:
    """Mount the image with the kernel's EROFS, attached nowhere.

    Raises:
        Unavailable: the kernel has no EROFS, can't mount it from a file, or can't share by it.
        OSError: the kernel refuses the image.
    """
    name = request.image.name
    if request.domain is not None:
        # inode_share takes a fingerprint at its word, so every one must have been verified and the bytes must
        # be unable to change afterwards; there is no such evidence yet.
        raise Unavailable(
            errno.EOPNOTSUPP,
            "the kernel back end shares nothing in a domain yet: it would believe fingerprints unverified",
            remedy="use --backend overlay, or leave --domain out",
        )
    if request.owners is not None:
        raise Unavailable(
            errno.EOPNOTSUPP, "the kernel back end shows owners as they are", remedy="use --owners map"
        )
    try:
        with FsContext("erofs") as context:
            context.string("source", name.path)
            for device in name.devices:
                context.string("device", device)
            if name.offset:
                context.string("fsoffset", str(name.offset))
            context.flag("ro")
            return context.mount(READ_ONLY)
    except OSError as error:
        if error.errno == errno.ENOTBLK:
            raise Unavailable(
                errno.EOPNOTSUPP,
                "this kernel can't mount EROFS from a file there",
                name.path,
                remedy="Linux 6.12 or newer and an image on a plain disk filesystem; or --backend fuse",
            ) from error
        if error.errno in (errno.ENODEV, errno.ENOSYS, errno.EPERM):
            raise explain_filesystem("erofs", error).error() from error
        raise
