"""Files packed with bzip2, gzip or xz, read as a stream; the first bytes decide, not the name."""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from firn.errors import ExposureError, InputError, brief
from firn.formats.bzip2_blocks import Bzip2Reader

MAGIC: dict[bytes, Callable[..., Any]] = {b"BZh": bz2.open, b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}
ENDINGS = (".bz2", ".gz", ".xz")
PIECE = 64 * 2**20


class Readable(Protocol):
    """What gives the next bytes."""

    def read(self, count: int, /) -> bytes:
        """At most count bytes, none at the end."""


DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@contextmanager
def open_unpacked(path: str | os.PathLike, threads: int = 1) -> Iterator[tuple[Readable, bool]]:
    """(stream of the file's unpacked bytes, whether it was packed); several threads unpack bzip2 together.

    Raises ExposureError UNREADABLE when the file cannot be opened.
    """
    try:
        with Path(path).open("rb") as plain:
            start = plain.read(8)
    except OSError as error:
        raise ExposureError("UNREADABLE", f"{path}: cannot be read ({error.strerror})") from error
    opener = next((opener for magic, opener in MAGIC.items() if start.startswith(magic)), None)
    if opener is None or (opener is bz2.open and threads > 1):
        with Path(path).open("rb") as plain, closing(plain if opener is None else Bzip2Reader(plain, threads)) as stream:
            yield stream, opener is not None
    else:
        with opener(path, "rb") as stream:
            yield stream, True


@contextmanager
def no_damage(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turns what the content of a damaged file makes a library raise into an InputError; what: what the file should hold."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as {what} ({brief(error) or type(error).__name__})") from error


def read_exactly(stream: Readable, count: int, path: str | os.PathLike) -> bytearray:
    """The next count bytes; memory grows with what is there, not with what is asked for.

    Raises ExposureError TRUNCATED when the stream ends before, CODEC when it cannot be unpacked.
    """
    data = bytearray()
    while len(data) < count:
        try:
            piece = stream.read(min(PIECE, count - len(data)))
        except EOFError as error:
            raise ExposureError("TRUNCATED", f"{path}: is truncated: its packed data end too early") from error
        except DAMAGE as error:
            raise ExposureError("CODEC", f"{path}: cannot be unpacked ({brief(error)})") from error
        if not piece:
            raise ExposureError("TRUNCATED", f"{path}: is truncated: {len(data)} bytes where {count} are due")
        data += piece
    return data
