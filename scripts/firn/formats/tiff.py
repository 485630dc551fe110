"""TIFF movies and images, page by page. Row 0 of an image is the last row of its TIFF page.

Source: TIFF 6.0; the row order is that of RELION, IMOD, SerialEM and MotionCor2.
A TIFF that is still being written opens as a valid, shorter movie, so offsets and sizes of all strips are checked.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile

from firn.errors import ExposureError

MAX_AXIS = 32768
MAX_FRAMES = 10_000
DAMAGE = (
    RuntimeError,
    ValueError,
    OSError,
    TypeError,
    LookupError,
    EOFError,
    MemoryError,
    AttributeError,
    struct.error,
    tifffile.TiffFileError,
)


@contextmanager
def open_pages(path: str | os.PathLike) -> Iterator[Any]:
    """The pages of a TIFF (or EER) file whose strips all lie inside the file.

    Raises ExposureError: EMPTY, UNREADABLE, HEADER, TRUNCATED, SHAPE, TOO_BIG.
    """
    size = file_size(path)
    try:
        tiff = tifffile.TiffFile(path)
    except DAMAGE as error:
        raise ExposureError("HEADER", f"{path}: cannot be opened as a TIFF file ({error})") from error
    with tiff:
        pages = _list_pages(path, tiff)
        _check_pages(path, pages, size)
        yield pages


def tiff_shape(path: str | os.PathLike) -> tuple[int, int, int]:
    """(frames, height, width) of a TIFF file whose structure is sound; raises ExposureError as open_pages."""
    with open_pages(path) as pages:
        return len(pages), int(pages[0].imagelength), int(pages[0].imagewidth)


def iterate_tiff(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Images `(y, x)` in the stored type, one page at a time.

    Raises ExposureError CODEC for a page that cannot be decoded, and as open_pages.
    """
    with open_pages(path) as pages:
        for number, page in enumerate(pages, start=1):
            try:
                image = page.asarray()
            except DAMAGE as error:
                raise ExposureError("CODEC", f"{path}: frame {number} of {len(pages)} cannot be decoded ({error})") from error
            yield image[::-1]


def file_size(path: str | os.PathLike) -> int:
    """Bytes of a file; raises ExposureError UNREADABLE or EMPTY."""
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise ExposureError("UNREADABLE", f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise ExposureError("EMPTY", f"{path}: is an empty file (0 bytes)")
    return size


def _list_pages(path: str | os.PathLike, tiff: tifffile.TiffFile) -> list[Any]:
    pages: list[Any] = []
    try:
        for page in tiff.pages:
            pages.append(page)
            if len(pages) > MAX_FRAMES:
                raise ExposureError("TOO_BIG", f"{path}: has more than {MAX_FRAMES} frames")
    except DAMAGE as error:
        if isinstance(error, ExposureError):
            raise
        raise ExposureError("TRUNCATED", f"{path}: its list of frames breaks off after frame {len(pages)} ({error})") from error
    if not pages:
        raise ExposureError("TRUNCATED", f"{path}: has a TIFF header, but no frame")
    return pages


def _check_pages(path: str | os.PathLike, pages: list[Any], size: int) -> None:
    shape = (pages[0].imagelength, pages[0].imagewidth)
    if not all(1 <= side <= MAX_AXIS for side in shape):
        raise ExposureError("TOO_BIG", f"{path}: claims frames of {shape[1]} x {shape[0]} pixels; 1 to {MAX_AXIS} are allowed")
    for number, page in enumerate(pages, start=1):
        if (page.imagelength, page.imagewidth) != shape or page.samplesperpixel != 1:
            raise ExposureError(
                "SHAPE", f"{path}: frame {number} is {page.imagewidth} x {page.imagelength} pixels, but frame 1 is {shape[1]} x {shape[0]}"
            )
        _check_strips(path, number, page, size)


def _check_strips(path: str | os.PathLike, number: int, page: Any, size: int) -> None:
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts) or min(offsets) == 0 or min(counts) == 0:
        raise ExposureError("TRUNCATED", f"{path}: frame {number} has no image data yet; the file was not written to its end")
    end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if end > size:
        raise ExposureError("TRUNCATED", f"{path}: is truncated: frame {number} ends at byte {end}, but the file has {size}")
