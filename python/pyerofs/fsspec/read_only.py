"""What would modify, refused."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.spec import AbstractFileSystem

if TYPE_CHECKING:
    from pyerofs.image import Image

__all__ = ["ReadOnlyFileSystem"]


class ReadOnlyFileSystem(AbstractFileSystem):
    """A filesystem whose every modifying method is ``EROFS``, whatever fsspec would have tried first."""

    #: The open image.
    image: Image

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: an image is never written to.

        Raises:
            OSError: (``EROFS``) always.
        """
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.image.name)

    mkdir = makedir = makedirs = mkdirs = rmdir = rm = rm_file = _rm = delete = _refuse
    mv = move = rename = cp = copy = cp_file = put = put_file = upload = _refuse
    pipe = pipe_file = write_bytes = write_text = touch = chmod = link = symlink = _refuse
    start_transaction = end_transaction = _refuse

    @property
    def transaction(self) -> NoReturn:
        """Refused, as all that would modify.

        Raises:
            OSError: (``EROFS``) always.
        """
        self._refuse()
