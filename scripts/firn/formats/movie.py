"""Movies as the microscope writes them: header checks and frames, whatever the format (TIFF, EER, MRC, compressed MRC).

Convention: frames `(y, x)` of counts in the stored type; row 0 is the last row of a TIFF page and the first row of MRC and EER.
Every fault is an ExposureError with a stable code and one sentence, so that one bad movie never stops a batch.
"""

import bz2
import gzip
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from firn.errors import ExposureError, InputError
from firn.formats.eer import eer_shape, iterate_eer
from firn.formats.mrc import HEADER_BYTES, MAX_AXIS, check_header
from firn.formats.tiff import DAMAGE, MAX_FRAMES, file_size, iterate_tiff, tiff_shape

FORMATS = {".tif": "tiff", ".tiff": "tiff", ".eer": "eer", ".mrc": "mrc", ".mrcs": "mrc", ".bz2": "packed", ".gz": "packed"}
SATURATED_SHARE = 0.05
WEAK_FRAME, STRONG_FRAME = 0.4, 2.5


@dataclass(frozen=True)
class MovieHeader:
    """What a movie's header says; pixel_size in Å, None where the format does not tell."""

    format: str
    frames: int
    height: int
    width: int
    pixel_size: float | None = None

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
    header = _mrc_header(path) if kind == "mrc" else _packed_header(path)
    if header.frames > MAX_FRAMES:
        raise ExposureError("TOO_BIG", f"{path}: claims {header.frames} frames, more than the {MAX_FRAMES} allowed")
    return header


def iterate_frames(path: str | os.PathLike, eer_fractions: int = 40, eer_upsampling: int = 2) -> Iterator[np.ndarray]:
    """Frames `(y, x)` in the stored type, each checked for NaN, zeros and saturation as it is read.

    Raises ExposureError: NONFINITE, ZERO, SATURATED, CODEC, and as read_header.
    """
    kind = movie_format(path)
    readers = {"tiff": iterate_tiff, "mrc": _iterate_mrc, "packed": _iterate_packed}
    frames = iterate_eer(path, eer_fractions, eer_upsampling) if kind == "eer" else readers[kind](path)
    sums: list[float] = []
    for number, frame in enumerate(frames, start=1):
        sums.append(_check_frame(path, number, frame))
        yield frame
    _check_sums(path, np.array(sums))


def _check_frame(path: str | os.PathLike, number: int, frame: np.ndarray) -> float:
    total = float(frame.sum(dtype=np.float64))
    if not np.isfinite(total):
        raise ExposureError("NONFINITE", f"{path}: frame {number} holds NaN or infinite values")
    low, high = frame.min(), frame.max()
    if low == high:
        what = "is all zero" if low == 0 else f"has the same value {low} in every pixel"
        raise ExposureError("ZERO", f"{path}: frame {number} {what}, so it holds no image")
    if np.issubdtype(frame.dtype, np.integer) and high == np.iinfo(frame.dtype).max:
        share = float(np.mean(frame == high))
        if share > SATURATED_SHARE:
            raise ExposureError("SATURATED", f"{path}: {100 * share:.0f} % of frame {number} is saturated at {high}")
    return total


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
    try:
        mode, frames, height, width = check_header(path)
        with mrcfile.open(path, header_only=True, permissive=True) as mrc:
            pixel_size = float(mrc.voxel_size.x)
    except InputError as error:
        raise ExposureError("TRUNCATED" if "truncated" in str(error) else "HEADER", str(error)) from error
    if mode in (4, 101):
        raise ExposureError("HEADER", f"{path}: has MRC mode {mode}; images of mode 0, 1, 2, 6 and 12 are read")
    return MovieHeader("mrc", frames, height, width, pixel_size if pixel_size > 0 else None)


def _packed_header(path: str | os.PathLike) -> MovieHeader:
    opener = bz2.open if Path(path).suffix.lower() == ".bz2" else gzip.open
    try:
        with opener(path, "rb") as stream:
            header = stream.read(HEADER_BYTES)
    except (OSError, EOFError) as error:
        raise ExposureError("CODEC", f"{path}: cannot be unpacked ({error})") from error
    if len(header) < HEADER_BYTES:
        raise ExposureError("TRUNCATED", f"{path}: unpacks to {len(header)} bytes, shorter than an MRC header")
    order = ">" if header[212:213] == b"\x11" else "<"
    width, height, frames = struct.unpack(f"{order}3i", header[:12])
    (cell,) = struct.unpack(f"{order}f", header[40:44])
    if not (1 <= width <= MAX_AXIS and 1 <= height <= MAX_AXIS and frames >= 1):
        raise ExposureError("HEADER", f"{path}: has an impossible MRC header ({width} x {height} x {frames})")
    return MovieHeader("packed", frames, height, width, cell / width if cell > 0 else None)


def _iterate_mrc(path: str | os.PathLike) -> Iterator[np.ndarray]:
    _mrc_header(path)
    try:
        stack = mrcfile.mmap(path, mode="r", permissive=True)
    except DAMAGE as error:
        raise ExposureError("HEADER", f"{path}: cannot be opened as an MRC file ({error})") from error
    with stack as mrc:
        data = mrc.data if mrc.data.ndim == 3 else mrc.data[None]
        for frame in data:
            yield np.array(frame)


def _iterate_packed(path: str | os.PathLike) -> Iterator[np.ndarray]:
    _packed_header(path)
    try:
        with mrcfile.open(path) as mrc:
            data = mrc.data if mrc.data.ndim == 3 else mrc.data[None]
    except DAMAGE as error:
        raise ExposureError("CODEC", f"{path}: cannot be unpacked ({error})") from error
    yield from data
