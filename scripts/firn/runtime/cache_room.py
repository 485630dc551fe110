"""Room in the cache: who uses which copy, what may go, and how much may come.

A copy goes when nobody running uses it: first those untouched for longer than their lifetime, then the least recently used, until quota and
reserve are kept. Nothing but the cache's own files is ever deleted. A job's list of copies in use is locked by the kernel as long as it runs.
"""

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firn.runtime.cache_copy import SUFFIX, StackCopy, path_key

DAY_S = 86400.0
GB = 1e9


@dataclass(frozen=True)
class Limits:
    """Greatest size of the cache and least free space of its disk in bytes, lifetime of an untouched copy in days."""

    quota: float = float("inf")
    reserve: float = 10 * GB
    days: float = 30.0


@dataclass(frozen=True)
class Entry:
    """A copy as it lies on the disk: bytes it takes, time of the last use in s."""

    path: Path
    bytes: int
    used: float


class Room:
    """The files of a cache folder, seen by one running job; close() tells that it uses them no more."""

    def __init__(self, folder: Path, limits: Limits):
        self.images, self._jobs, self._limits = folder / "images", folder / "jobs", limits
        for part in (self.images, self._jobs):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_path = folder / "lock"
        self._list = self._jobs / f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        with self._alone():
            self._descriptor = os.open(self._list, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def close(self) -> None:
        """Give back all copies."""
        self._list.unlink(missing_ok=True)
        os.close(self._descriptor)

    def make(self, wanted: Sequence[tuple[StackCopy, np.ndarray]]) -> tuple[list[bool], str]:
        """(which of the wanted copies got room for their sections, why the others got none). Room that was made is taken at once."""
        with self._alone():
            self._use(copy.path.name for copy, _ in wanted)
            self._drop_expired(wanted)
            missing = [sections[~copy.reserved(sections)] for copy, sections in wanted]
            needs = np.array([copy.bytes_for(sections) for (copy, _), sections in zip(wanted, missing, strict=True)])
            room = self._evict_for(int(needs.sum()))
            fits = (np.cumsum(needs) <= room) | (needs == 0)
            for number in np.flatnonzero(fits & (needs > 0)).tolist():
                try:
                    wanted[number][0].reserve(missing[number])
                except OSError as error:
                    fits[number:] &= needs[number:] == 0
                    return fits.tolist(), f"cannot free enough space: {self.images} gives no more room ({error.strerror})"
            return fits.tolist(), "" if fits.all() else self._shortage(int(needs.sum()), room)

    def entries(self) -> list[Entry]:
        """All copies, the least recently used first."""
        return list_copies(self.images)

    def _drop_expired(self, wanted: Sequence[tuple[StackCopy, np.ndarray]]) -> None:
        """Drop copies past their lifetime, and those of stacks that have changed since."""
        now = {path_key(copy.source.path): copy.path.name for copy, _ in wanted}
        oldest = time.time() - self._limits.days * DAY_S
        for entry in self._idle():
            if entry.used < oldest or now.get(entry.path.name.partition(".")[0], entry.path.name) != entry.path.name:
                _drop(entry.path)

    def _evict_for(self, need: int) -> float:
        """Bytes that may come, after dropping idle copies as far as that is needed and helps."""
        used = sum(entry.bytes for entry in self.entries())
        room = self._room(used)
        for entry in self._idle():
            if room >= need:
                break
            if _drop(entry.path):
                used -= entry.bytes
                room = self._room(used)
        return room

    def _room(self, used: float) -> float:
        return min(self._limits.quota - used, free_bytes(self.images) - self._limits.reserve)

    def _idle(self) -> list[Entry]:
        in_use = set(self._in_use())
        return [entry for entry in self.entries() if entry.path.name not in in_use]

    def _in_use(self) -> Iterator[str]:
        """Names of the copies that running jobs use; the lists of jobs that are gone are removed."""
        for path in self._jobs.iterdir():
            if path == self._list or _is_locked(path):
                with suppress(FileNotFoundError):
                    yield from path.read_text().split()
            else:
                path.unlink(missing_ok=True)

    def _use(self, names: Iterable[str]) -> None:
        os.write(self._descriptor, "".join(f"{name}\n" for name in names).encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one job at a time counts, makes and takes room."""
        with self._lock_path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _shortage(self, need: float, room: float) -> str:
        entries, limits = self.entries(), self._limits
        quota = f", quota {show(limits.quota)}" if np.isfinite(limits.quota) else ""
        return (
            f"cannot free enough space: {show(need)} needed, {show(max(room, 0))} may come; the cache holds {show(sum(e.bytes for e in entries))} "
            f"in use{quota}, its disk has {show(free_bytes(self.images))} free of which {show(limits.reserve)} stay free; "
            "raise FIRN_CACHE_QUOTA_GB, lower FIRN_CACHE_RESERVE_GB, or use a larger disk"
        )


def list_copies(images: Path) -> list[Entry]:
    """The copies in a folder, the least recently used first; none where there is no folder."""
    found = []
    for path in images.glob(f"*{SUFFIX}"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append(Entry(path, state.st_blocks * 512, state.st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder, for this user."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def show(amount: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _drop(path: Path) -> bool:
    """Delete a copy unless one copies into it."""
    if _is_locked(path):
        return False
    path.unlink(missing_ok=True)
    return True
