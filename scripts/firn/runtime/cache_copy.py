"""The copy of one stack in the cache: a sparse file laid out like the stack, in which image k lies where it lies there.

Behind the images follow one bit per image that room is taken for it, one bit per image that it is held, and the owner while one copies.
An image counts as held once its bytes are on the disk, so that whatever is killed leaves no wrong image. The owner's lock is the kernel's
(flock) and goes with the process. The file's name tells path, size and time of the stack: a stack that changed has another copy.
"""

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.mrc import is_plain, take_sections
from firn.formats.mrc_header import MrcHeader, read_mrc_header

SUFFIX = ".stack"
POLL_S = 0.05
REMIND_S = 60.0
PIECE = 8 * 2**20
"""Bytes read and written at once."""
BLOCK = 4096
"""Bytes in which a disk gives room."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A stack as it is now: true path with links followed, bytes, time of change in ns, header."""

    path: str
    size: int
    changed_ns: int
    header: MrcHeader

    @property
    def name(self) -> str:
        """Name of its copy."""
        return f"{path_key(self.path)}.{self.size}.{self.changed_ns}{SUFFIX}"

    def is_unchanged(self) -> bool:
        """Whether the stack is still there with the same size and time."""
        try:
            state = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (state.st_size, state.st_mtime_ns) == (self.size, self.changed_ns)


def path_key(path: str) -> str:
    """First part of the names of all copies of a stack."""
    return hashlib.blake2b(path.encode(), digest_size=12).hexdigest()


def find_source(path: str) -> Source | None:
    """The stack behind a path; None for a packed one, which is never copied. Raises InputError when it is missing or no stack."""
    true = os.path.realpath(path)
    try:
        state = os.stat(true)
    except FileNotFoundError as error:
        raise InputError(f"{path}: is not there") from error
    header = read_mrc_header(true)
    return Source(true, state.st_size, state.st_mtime_ns, header) if is_plain(header) and header.mode != 4 else None


class StackCopy:
    """The copy of a stack in a folder; it need not exist yet."""

    def __init__(self, folder: Path, source: Source):
        self.source, self.path = source, folder / source.name
        self._bits = -(-source.header.nz // 8)

    def held(self, sections: np.ndarray) -> np.ndarray:
        """Which of the sections the copy holds; none when there is no copy."""
        return self._look(sections, self._bits)

    def reserved(self, sections: np.ndarray) -> np.ndarray:
        """For which of the sections the copy has room."""
        return self._look(sections, 0)

    def read(self, sections: np.ndarray) -> np.ndarray | None:
        """Float32 images `(n, y, x)` of the sections; None unless all of them are held."""
        try:
            with self.path.open("rb") as stream:
                if not self._flags(stream.fileno(), self._bits)[sections].all():
                    return None
                os.utime(stream.fileno())
                return take_sections(stream, self.source.header, sections)
        except FileNotFoundError:
            return None

    def bytes_for(self, sections: np.ndarray) -> int:
        """Bytes of disk that the sections take, in whole blocks."""
        return sum(-(-end // BLOCK) * BLOCK - start // BLOCK * BLOCK for start, end in self._ranges(sections))

    def reserve(self, sections: np.ndarray) -> None:
        """Take room on the disk for the sections; nobody else may be reserving. Raises OSError when the disk is full."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < self._end:
                os.ftruncate(descriptor, self._end)
            for start, end in self._ranges(sections):
                os.posix_fallocate(descriptor, start, end - start)
            self._set(descriptor, sections, 0)
        finally:
            os.close(descriptor)

    def fill(self, sections: np.ndarray, say: Say, wait: bool = True) -> int | None:
        """Copy those of the sections that are not held; bytes copied. None when another copies into it and wait is false.

        Raises InputError when the stack vanishes or changes meanwhile, and OSError when the copy does.
        """
        with self._owned(say, wait) as descriptor:
            if descriptor is None:
                return None
            missing = sections[~self._flags(descriptor, self._bits)[sections]]
            if len(missing) == 0:
                return 0
            self._write_owner(descriptor)
            copied = self._copy(descriptor, missing)
            os.fsync(descriptor)
            self._set(descriptor, missing, self._bits)
            os.ftruncate(descriptor, self._end)
            return copied

    @property
    def _end(self) -> int:
        return self.source.size + 2 * self._bits

    def _look(self, sections: np.ndarray, part: int) -> np.ndarray:
        try:
            with self.path.open("rb") as stream:
                return self._flags(stream.fileno(), part)[sections]
        except FileNotFoundError:
            return np.zeros(len(sections), dtype=bool)

    def _flags(self, descriptor: int, part: int) -> np.ndarray:
        stored = np.frombuffer(os.pread(descriptor, self._bits, self.source.size + part), dtype=np.uint8)
        return np.unpackbits(stored, count=self.source.header.nz).astype(bool) if len(stored) == self._bits else self._none()

    def _none(self) -> np.ndarray:
        return np.zeros(self.source.header.nz, dtype=bool)

    def _set(self, descriptor: int, sections: np.ndarray, part: int) -> None:
        flags = self._flags(descriptor, part)
        flags[sections] = True
        os.pwrite(descriptor, np.packbits(flags).tobytes(), self.source.size + part)

    def _ranges(self, sections: np.ndarray) -> Iterator[tuple[int, int]]:
        """Bytes (start, end) of each run of consecutive sections."""
        ordered, header = np.unique(sections), self.source.header
        for run in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1):
            if len(run):
                start = header.offset + int(run[0]) * header.section_bytes
                yield start, start + len(run) * header.section_bytes

    def _copy(self, descriptor: int, sections: np.ndarray) -> int:
        copied = 0
        try:
            with Path(self.source.path).open("rb", buffering=0) as stream:
                for start, end in self._ranges(sections):
                    copied += _copy_range(stream.fileno(), descriptor, start, end)
        except FileNotFoundError as error:
            raise InputError(f"{self.source.path}: vanished before it was copied to the cache") from error
        if not self.source.is_unchanged():
            raise InputError(f"{self.source.path}: vanished or changed while it was copied to the cache; the copy is not used")
        return copied

    @contextmanager
    def _owned(self, say: Say, wait: bool) -> Iterator[int | None]:
        """Descriptor of the copy, locked; None when it is busy and wait is false."""
        descriptor = self._lock(say, wait)
        try:
            if descriptor is not None and os.fstat(descriptor).st_size > self._end:
                say(f"{_owner(descriptor, self._end)} stopped while copying; taking over {self.source.path}")
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _lock(self, say: Say, wait: bool) -> int | None:
        descriptor, start, said = os.open(self.path, os.O_RDWR), time.monotonic(), 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                waited = time.monotonic() - start
            if not wait:
                os.close(descriptor)
                return None
            if waited >= said:
                say(f"waiting for files being copied by {_owner(descriptor, self._end)} ({waited:.0f} s): {self.source.path}")
                said += REMIND_S
            time.sleep(POLL_S)

    def _write_owner(self, descriptor: int) -> None:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": round(time.time())}
        os.ftruncate(descriptor, self._end)
        os.pwrite(descriptor, json.dumps(owner).encode(), self._end)


def _copy_range(source: int, target: int, start: int, end: int) -> int:
    at = start
    while at < end:
        piece = os.pread(source, min(PIECE, end - at), at)
        if not piece:
            break
        view = memoryview(piece)
        while view:
            written = os.pwrite(target, view, at)
            view, at = view[written:], at + written
    return at - start


def _owner(descriptor: int, at: int) -> str:
    """Who copies, or copied when it was killed."""
    try:
        owner = json.loads(os.pread(descriptor, BLOCK, at))
    except ValueError:
        return "another job"
    return f"{owner['host']} pid {owner['pid']}"
