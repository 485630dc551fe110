"""Movies as the microscope writes them: header checks and frames, whatever the format (TIFF, EER, MRC, compressed MRC).

Convention: frames `(y, x)` of counts in the stored type; row 0 is the last row of a TIFF page and the first row of MRC and EER.
Every fault is an ExposureError with a stable code and one sentence, so that one bad movie never stops a batch.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firn.errors import ExposureError
from firn.formats.compressed import ENDINGS
from firn.formats.eer import eer_shape, iterate_eer
from firn.formats.mrc import iterate_sections
from firn.formats.mrc_header import read_mrc_header
from firn.formats.tiff import MAX_FRAMES, file_size, iterate_tiff, tiff_shape

FORMATS = {".tif": "tiff", ".tiff": "tiff", ".eer": "eer", ".mrc": "mrc", ".mrcs": "mrc"}
FORMATS |= dict.fromkeys(ENDINGS, "packed")
SATURATED_SHARE = 0.05
WEAK_FRAME, STRONG_FRAME = 0.4, 2.5
BYTE_ROWS = 256


@dataclass(frozen=True)
class MovieHeader:
    """What a movie's header says; pixel_size in Å of the physical pixel, None where the file does not tell.

    used: share of the exposure that is in the frames; less than 1 where raw frames of an EER movie are left over.
    """

    format: str
    frames: int
    height: int
    width: int
    pixel_size: float | None = None
    used: float = 1.0

    @property
    def size(self) -> str:
        """`width x height x frames`, for messages."""
        return f"{self.width} x {self.height} pixels x {self.frames} frames"


def movie_format(path: str | os.PathLike) -> str:
    """tiff, eer, mrc or packed, by the ending of the name; raises ExposureError NAME for any other."""
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise ExposureError("NAME", f"{path}: ends in none of {', '.join(FORMATS)}, so its format is unknown")
    return kind


def read_header(path: str | os.PathLike, eer_fractions: int = 40, eer_upsampling: int = 2) -> MovieHeader:
    """Header of a movie whose structure is sound; frames are not decoded.

    Raises ExposureError: UNREADABLE, EMPTY, NAME, HEADER, TRUNCATED, SHAPE, FRAMES, TOO_BIG.
    """
    kind = movie_format(path)
    file_size(path)
    if kind == "tiff":
        return MovieHeader(kind, *tiff_shape(path))
    if kind == "eer":
        return MovieHeader(kind, *eer_shape(path, eer_fractions, eer_upsampling))
    header = _mrc_header(path)
    if header.frames > MAX_FRAMES:
        raise ExposureError("TOO_BIG", f"{path}: claims {header.frames} frames, more than the {MAX_FRAMES} allowed")
    return header


def iterate_frames(path: str | os.PathLike, eer_fractions: int = 40, eer_upsampling: int = 2, threads: int = 1) -> Iterator[np.ndarray]:
    """Frames `(y, x)` in the stored type, each checked for NaN, zeros and saturation as it is read.

    threads decode TIFF, EER and bzip2 together; threads + 1 frames are in memory at most.

    Raises ExposureError: NONFINITE, ZERO, SATURATED, CODEC, and as read_header.
    """
    kind = movie_format(path)
    if kind == "eer":
        frames = iterate_eer(path, eer_fractions, eer_upsampling, threads)
    else:
        frames = iterate_tiff(path, threads) if kind == "tiff" else _iterate_mrc(path, threads)
    sums: list[float] = []
    for number, frame in enumerate(frames, start=1):
        sums.append(_check_frame(path, number, frame))
        yield frame
    _check_sums(path, np.array(sums))


def _check_frame(path: str | os.PathLike, number: int, frame: np.ndarray) -> float:
    total, high = _measure_frame(frame)
    if not np.isfinite(total):
        raise ExposureError("NONFINITE", f"{path}: frame {number} holds NaN or infinite values")
    if math.isclose(total, float(high) * frame.size, rel_tol=1e-6) and frame.min() == high:
        what = "is all zero" if high == 0 else f"has the same value {high} in every pixel"
        raise ExposureError("ZERO", f"{path}: frame {number} {what}, so it holds no image")
    if np.issubdtype(frame.dtype, np.integer) and high == np.iinfo(frame.dtype).max:
        share = float(np.mean(frame == high))
        if share > SATURATED_SHARE:
            raise ExposureError("SATURATED", f"{path}: {100 * share:.0f} % of frame {number} is saturated at {high}")
    return total


def _measure_frame(frame: np.ndarray) -> tuple[float, Any]:
    """(sum of all pixels, largest); so many rows of bytes are added up as 16 bits hold, which takes half the time."""
    if frame.dtype != np.uint8:
        narrow = frame.dtype == np.uint16
        return float(frame.sum(axis=1, dtype=np.uint32).sum(dtype=np.int64) if narrow else frame.sum(dtype=np.float64)), frame.max()
    strips = [frame[start : start + BYTE_ROWS] for start in range(0, len(frame), BYTE_ROWS)]
    found = [(strip.max(), int(strip.sum(axis=0, dtype=np.uint16).sum(dtype=np.int64))) for strip in strips]
    return float(sum(total for _, total in found)), max(high for high, _ in found)


def _check_sums(path: str | os.PathLike, sums: np.ndarray) -> None:
    """A frame with far fewer or more counts than the others was damaged, although it could be decoded."""
    middle = float(np.median(sums))
    if len(sums) < 3 or middle <= 0:
        return
    ratios = sums / middle
    bad = np.flatnonzero((ratios < WEAK_FRAME) | (ratios > STRONG_FRAME))
    if len(bad):
        raise ExposureError("CODEC", f"{path}: frame {bad[0] + 1} holds {100 * ratios[bad[0]]:.0f} % of the counts of the other frames")


def _mrc_header(path: str | os.PathLike) -> MovieHeader:
    header = read_mrc_header(path)
    if header.mode == 4:
        raise ExposureError("HEADER", f"{path}: has MRC mode 4, a transform; images of mode 0, 1, 2, 6, 12 and 101 are read")
    spare = 0 if header.packed else (os.path.getsize(path) - header.offset) // header.section_bytes - header.nz
    if spare > 0:
        raise ExposureError("FRAMES", f"{path}: its header tells of {header.nz} frames, but the file holds {header.nz + spare}")
    pixel_size = header.pixel_size[0]
    return MovieHeader("packed" if header.packed else "mrc", header.nz, header.ny, header.nx, pixel_size if pixel_size > 0 else None)


def _iterate_mrc(path: str | os.PathLike, threads: int) -> Iterator[np.ndarray]:
    _mrc_header(path)
    yield from iterate_sections(path, threads)
