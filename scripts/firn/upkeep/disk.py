"""How fast a folder's disk is: written through, read from the start, and read like particles, here and there.

Convention: MB/s with 1 MB = 10⁶ bytes. What was written is synced and dropped from the page cache before it is read, as far as the kernel lets
go of it; on a file system that keeps pages (tmpfs) reads show the memory.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 4 * 2**20
PARTICLE = 256 * 1024
"""Bytes of one image of 256 x 256 px."""
MOST_PARTICLES = 400


@dataclass(frozen=True)
class DiskSpeed:
    """MB/s of writing, of reading in order, and of reading single images in random order; whether all came back as written."""

    write: float
    read: float
    random: float
    intact: bool


def measure_disk(folder: Path, megabytes: int = 256) -> DiskSpeed:
    """Write, read and delete a file of so many MB in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".firn_speed_{os.getpid()}.tmp"
    block = np.random.default_rng(1).integers(0, 256, BLOCK, dtype=np.uint8).tobytes()
    count = max(2, megabytes * 10**6 // BLOCK)
    try:
        written = _timed_write(path, block, count)
        intact, read = _timed_read(path, block, count)
        return DiskSpeed(_speed(count * BLOCK, written), _speed(count * BLOCK, read), _random_speed(path, count * BLOCK), intact)
    finally:
        path.unlink(missing_ok=True)


def _timed_write(path: Path, block: bytes, count: int) -> float:
    start = time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        for _ in range(count):
            stream.write(block)
        os.fsync(stream.fileno())
    return time.perf_counter() - start


def _timed_read(path: Path, block: bytes, count: int) -> tuple[bool, float]:
    _forget(path)
    intact, start = True, time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        for _ in range(count):
            intact &= stream.read(BLOCK) == block
    return intact, time.perf_counter() - start


def _random_speed(path: Path, size: int) -> float:
    _forget(path)
    places = np.random.default_rng(2).permutation(size // PARTICLE)[:MOST_PARTICLES]
    start = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        for place in places.tolist():
            os.pread(stream.fileno(), PARTICLE, place * PARTICLE)
    return _speed(len(places) * PARTICLE, time.perf_counter() - start)


def _forget(path: Path) -> None:
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _speed(size: int, seconds: float) -> float:
    return round(size / 1e6 / max(seconds, 1e-9), 1)
