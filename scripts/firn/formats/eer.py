"""EER movies (electron event representation): raw frames of electron positions, summed into fractions.

Convention: rows as decoded (not mirrored, unlike TIFF images), sub-pixel positions kept up to the upsampling asked for.
Raw frames left over when they are shared out equally are dropped, so that every fraction carries the same dose.
Source: Guo et al., IUCrJ 7, 860 (2020); row order as RELION renders them. Compression 65000 has distances of 8 bits, 65001 of 7,
65002 names its sizes in tags.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import imagecodecs
import numpy as np

from firn.errors import ExposureError, InputError, brief
from firn.formats.eer_events import place_events, read_events
from firn.formats.streaming import in_order
from firn.formats.tiff import DAMAGE, no_surprise, open_pages, read_strips
from firn.formats.xml_text import parse_xml

SUPERRES_BITS = {1: 0, 2: 1, 4: 2}
SKIP_BITS = {65000: 8, 65001: 7}
TAIL_SHARE = 0.25
TAIL_COUNT = 400
CERTAIN_COUNT = 20
CODE_BITS = 11
PLACED_TOGETHER = 48
METADATA_TAG = 65001
MOST_PIXELS_PER_BYTE = 5000


def eer_shape(path: str | os.PathLike, fractions: int, upsampling: int) -> tuple[int, int, int, float | None, float]:
    """(fractions, height, width after upsampling, physical pixel size in Å or None, share of the raw frames that fractions hold).

    Raises ExposureError FRAMES when there are fewer raw frames than fractions or than the metadata tell, and as open_pages.
    """
    with open_pages(path) as pages:
        _check_count(path, pages, fractions)
        with no_surprise(path):
            told = _read_metadata(pages[0])
        recorded = told.get("numberOfFrames")
        if recorded is not None and recorded != len(pages):
            raise ExposureError("FRAMES", f"{path}: has {len(pages)} raw frames, but its metadata tell of {recorded:.0f}")
        height, width = int(pages[0].imagelength) * upsampling, int(pages[0].imagewidth) * upsampling
        used = len(pages) // fractions * fractions / len(pages)
        metres = told.get("sensorPixelSize.width", 0.0)
        return fractions, height, width, metres * 1e10 if 1e-12 < metres < 1e-8 else None, used


def iterate_eer(path: str | os.PathLike, fractions: int, upsampling: int, threads: int = 1) -> Iterator[np.ndarray]:
    """Fractions `(y, x)` of electron counts, uint8, or uint16 when a fraction has more than 255 raw frames.

    Raises ExposureError CODEC when a raw frame cannot be decoded to its last rows, and as eer_shape.
    """
    if upsampling not in SUPERRES_BITS:
        raise InputError(f"eer_upsampling is {upsampling}; it can be 1, 2 or 4")
    tails: list[int] = []
    with open_pages(path) as pages:
        _check_count(path, pages, fractions)
        group = len(pages) // fractions
        starts = range(0, group * fractions, group)
        for image, counts in in_order((partial(_sum_frames, path, pages, start, group, upsampling) for start in starts), threads):
            tails += counts
            yield image
    _check_tails(path, np.array(tails))


def _check_count(path: str | os.PathLike, pages: list[Any], fractions: int) -> None:
    if len(pages) < fractions:
        raise ExposureError("FRAMES", f"{path}: has {len(pages)} raw frames, too few for {fractions} fractions")
    pixels, stored = pages[0].imagelength * pages[0].imagewidth, sum(pages[0].databytecounts)
    if pixels > MOST_PIXELS_PER_BYTE * stored:
        raise ExposureError("HEADER", f"{path}: raw frame 1 has {stored} bytes, which cannot be its {pixels} pixels")


def _read_metadata(page: Any) -> dict[str, float]:
    """Numbers by name from the XML of the first raw frame; empty when there is none or it cannot be read."""
    text = page.tags.valueof(METADATA_TAG, b"")
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    try:
        items = parse_xml(text).iter("item")
    except ValueError:
        return {}
    found = {}
    for item in items:
        try:
            found[str(item.get("name"))] = float(item.text or "")
        except ValueError:
            continue
    return found


def _sum_frames(path: str | os.PathLike, pages: list[Any], start: int, group: int, upsampling: int) -> tuple[np.ndarray, list[int]]:
    """(sum of a group of raw frames, electrons that each has in the last rows)."""
    shape = int(pages[0].imagelength), int(pages[0].imagewidth)
    fine = upsampling > 1 and _subpixels(pages[start]) == (2, 2)
    add = (_FineSum if fine else _PlainSum)(shape, upsampling, group)
    tails = []
    for number in range(start, start + group):
        try:
            data = b"".join(read_strips(path, pages[number]))
            tails.append(add(data, _bits(pages[number]), _tail_start(pages[start], shape)))
        except DAMAGE as error:
            raise ExposureError("CODEC", f"{path}: raw frame {number + 1} of {len(pages)} cannot be decoded ({brief(error)})") from error
    return add.result(), tails


class _PlainSum:
    """Sum of raw frames decoded one over the other; for the physical grid, and for sub-pixel sizes other than 2 + 2 bits."""

    def __init__(self, shape: tuple[int, int], upsampling: int, group: int):
        self.upsampling = upsampling
        self.total = np.zeros((shape[0] * upsampling, shape[1] * upsampling), dtype=np.uint8 if group < 256 else np.uint16)
        self.seen = (0, 0)

    def __call__(self, data: bytes, bits: tuple[int, int, int], tail_start: int) -> int:
        imagecodecs.eer_decode(data, self.total.shape, *bits, superres=SUPERRES_BITS[self.upsampling], out=self.total)
        now = int(self.total[tail_start * self.upsampling :].sum(dtype=np.int64))
        before, self.seen = self.seen, (tail_start, now)
        return now - before[1]

    def result(self) -> np.ndarray:
        return self.total


class _FineSum:
    """Sum of raw frames on a finer grid: the electrons of some tens of raw frames first, then placed together."""

    def __init__(self, shape: tuple[int, int], upsampling: int, group: int):
        self.shape, self.upsampling = shape, upsampling
        self.total = np.zeros((shape[0] * upsampling, shape[1] * upsampling), dtype=np.uint8 if group < 256 else np.uint16)
        self.events: list[tuple[np.ndarray, np.ndarray]] = []
        self.scratch = np.zeros(shape, dtype=np.uint8)

    def __call__(self, data: bytes, bits: tuple[int, int, int], tail_start: int) -> int:
        events = read_events(data, bits[0], self.scratch)
        self.events.append(events)
        if len(self.events) == PLACED_TOGETHER:
            self.result()
        return len(events[0]) - int(np.searchsorted(events[0], tail_start * self.shape[1]))

    def result(self) -> np.ndarray:
        place_events(self.total, self.events, self.shape, self.upsampling)
        self.events.clear()
        return self.total


def _bits(page: Any) -> tuple[int, int, int]:
    """Bits of a distance, of the horizontal and of the vertical sub-pixel; raises ValueError for a compression that is not EER's."""
    if page.compression not in (*SKIP_BITS, 65002):
        raise ValueError(f"compression {page.compression} is not one of EER")
    return SKIP_BITS.get(page.compression) or int(page.tags.valueof(65007, 7)), *_subpixels(page)


def _subpixels(page: Any) -> tuple[int, int]:
    if page.compression != 65002:
        return 2, 2
    return int(page.tags.valueof(65008, 2)), int(page.tags.valueof(65009, 2))


def _tail_start(page: Any, shape: tuple[int, int]) -> int:
    """First of the last rows, which are so many that some hundred electrons are due there, a quarter of the frame at most."""
    due = sum(page.databytecounts) * 8 / CODE_BITS
    rows = int(np.clip(np.ceil(shape[0] * TAIL_COUNT / due), 1, np.ceil(shape[0] * TAIL_SHARE)))
    return shape[0] - rows


def _check_tails(path: str | os.PathLike, tails: np.ndarray) -> None:
    """A raw frame without an electron in its last rows, where the others have some, was cut short although it could be decoded."""
    cut = np.flatnonzero(tails == 0)
    if len(cut) and np.median(tails) > CERTAIN_COUNT:
        raise ExposureError("CODEC", f"{path}: raw frame {cut[0] + 1} holds no electron in its last rows: it is cut short")
