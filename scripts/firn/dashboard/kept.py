"""What was read from a file is kept until the file changes."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from firn.dashboard.server import Answer

T = TypeVar("T")
Stamp = tuple[int, int, int]


class Kept(Generic[T]):
    """The value that `read` made of some files, made again when one of them has another time, size or place on the disk."""

    def __init__(self, read: Callable[[], T], *files: Path):
        self._read, self._files = read, files
        self._lock = threading.Lock()
        self._found: tuple[list[Stamp | None], T] | None = None

    def value(self) -> T:
        """The value for the files as they are now."""
        with self._lock:
            stamps = [stamp(path) for path in self._files]
            if self._found is None or self._found[0] != stamps:
                self._found = (stamps, self._read())
            return self._found[1]


def stamp(path: Path) -> Stamp | None:
    """Time, size and place of a file; None where there is none."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino


def tagged(body: bytes, kind: str = "application/json") -> Answer:
    """An answer whose tag is a digest of its content."""
    return Answer(body, kind, tag=hashlib.blake2b(body, digest_size=12).hexdigest())
