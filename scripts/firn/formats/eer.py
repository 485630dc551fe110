"""EER movies (electron event representation): raw frames of electron positions, summed into fractions.

Convention: rows as decoded (not mirrored, unlike TIFF images), sub-pixel positions kept up to the upsampling asked for.
Raw frames left over when they are shared out equally are dropped, so that every fraction carries the same dose.
Source: Guo et al., IUCrJ 7, 860 (2020); row order as RELION renders them.
"""

import os
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np

from firn.errors import ExposureError, InputError
from firn.formats.tiff import DAMAGE, open_pages

SUPERRES_BITS = {1: 0, 2: 1, 4: 2}
TAIL_SHARE = 0.25
CERTAIN_COUNT = 20
SKIP_BITS = {65000: 8, 65001: 7}


def eer_shape(path: str | os.PathLike, fractions: int, upsampling: int) -> tuple[int, int, int]:
    """(fractions, height, width) after upsampling.

    Raises ExposureError FRAMES when there are fewer raw frames than fractions, and as open_pages.
    """
    with open_pages(path) as pages:
        _check_count(path, len(pages), fractions)
        return fractions, int(pages[0].imagelength) * upsampling, int(pages[0].imagewidth) * upsampling


def iterate_eer(path: str | os.PathLike, fractions: int, upsampling: int) -> Iterator[np.ndarray]:
    """Fractions `(y, x)` of uint16 electron counts.

    Raises ExposureError CODEC when a raw frame cannot be decoded to its last rows, and as eer_shape.
    """
    if upsampling not in SUPERRES_BITS:
        raise InputError(f"eer_upsampling is {upsampling}; it can be 1, 2 or 4")
    with open_pages(path) as pages:
        _check_count(path, len(pages), fractions)
        group = len(pages) // fractions
        for start in range(0, group * fractions, group):
            yield _sum_frames(path, pages, start, start + group, upsampling)


def _check_count(path: str | os.PathLike, raw: int, fractions: int) -> None:
    if raw < fractions:
        raise ExposureError("FRAMES", f"{path}: has {raw} raw frames, too few for {fractions} fractions")


def _sum_frames(path: str | os.PathLike, pages: list[Any], start: int, stop: int, upsampling: int) -> np.ndarray:
    total = np.zeros((pages[0].imagelength * upsampling, pages[0].imagewidth * upsampling), dtype=np.uint16)
    tail = total[-max(1, round(total.shape[0] * TAIL_SHARE)) :]
    seen = 0
    for number in range(start, stop):
        try:
            _add_frame(total, pages[number], upsampling)
            now = int(tail.sum(dtype=np.int64))
            cut = now == seen and _ends_early(pages[number], upsampling)
        except DAMAGE as error:
            raise ExposureError("CODEC", f"{path}: raw frame {number + 1} of {len(pages)} cannot be decoded ({error})") from error
        if cut:
            raise ExposureError(
                "CODEC", f"{path}: raw frame {number + 1} of {len(pages)} holds no electron in its last rows: it is cut short"
            )
        seen = now
    return total


def _ends_early(page: Any, upsampling: int) -> bool:
    """Whether a raw frame without an electron in its tail has so many elsewhere that chance cannot be the reason."""
    alone = np.zeros((page.imagelength * upsampling, page.imagewidth * upsampling), dtype=np.uint16)
    _add_frame(alone, page, upsampling)
    return float(alone.sum(dtype=np.int64)) * TAIL_SHARE > CERTAIN_COUNT


def _add_frame(total_: np.ndarray, page: Any, upsampling: int) -> None:
    if page.compression not in (*SKIP_BITS, 65002):
        raise ValueError(f"compression {page.compression} is not one of EER")
    skip = SKIP_BITS.get(page.compression) or int(page.tags.valueof(65007, 7))
    horizontal, vertical = (int(page.tags.valueof(65008, 2)), int(page.tags.valueof(65009, 2))) if page.compression == 65002 else (2, 2)
    data = b"".join(_read_strips(page))
    shape = (page.imagelength, page.imagewidth)
    upsampled = (shape[0] * upsampling, shape[1] * upsampling)
    imagecodecs.eer_decode(data, upsampled, skip, horizontal, vertical, superres=SUPERRES_BITS[upsampling], out=total_)


def _read_strips(page: Any) -> Iterator[bytes]:
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        yield handle.read(count)
