"""Whose fault it is when a file cannot be read: its own, or that of the storage below it, which will be back."""

import errno
import os
from collections.abc import Iterable

from firn.errors import MachineError

SERVER = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO}
"""What a file system says whose server does not answer."""
REFUSED = SERVER | {errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT}
"""What it says when it does not hand out what a file holds, whatever that is."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What it says when nothing can be written."""


def away(paths: Iterable[str]) -> str | None:
    """The first file that is missing together with its folder, or from an empty one, as when a disk is not mounted; None if there is none."""
    return next((path for path in paths if not os.path.exists(path) and is_bare(os.path.dirname(path) or ".")), None)


def is_bare(folder: str) -> bool:
    """Whether a folder is missing, cannot be looked into, or is empty."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def blame_storage(path: str, error: BaseException) -> None:
    """Raise MachineError when a file's error is not its own: its folder is away, its server does not answer, or it is there again."""
    if away([path]):
        raise MachineError(f"{path}: its folder {os.path.dirname(path) or '.'} is missing or empty; bring it back") from error
    number = getattr(error.__cause__, "errno", None)
    if number in SERVER or (number == errno.ENOENT and os.path.exists(path)):
        raise MachineError(f"{path}: was away while it was read ({os.strerror(number)})") from error
