"""EER movies: electron positions with run-length coded distances, 7 bit, and 2 + 2 bit of sub-pixel.

Convention: little-endian BigTIFF, one strip per raw frame, compression 65001; bits fill each byte from the lowest, whole 16-bit
words in all. A distance of 127 stands for 127 empty pixels with no electron after them; the last distance leads to the end of the
frame. Electrons of one fraction fall into its raw frames by chance; a raw frame holds one electron per pixel at most. Rows keep
their order.
Source: Guo, Franken et al., IUCrJ 7, 860 (2020).
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SKIP_BITS, SUBPIXEL_BITS = 7, 4
FULL = 2**SKIP_BITS - 1
OCCUPANCY = 0.15
"""Mean electrons per pixel of a raw frame, at most."""


def write_eer_movie(
    path: str | os.PathLike, frames: Iterable[np.ndarray], generator: np.random.Generator, pixel_size: float | None = None
) -> int:
    """Write counted frames `(y, x)`, each as several raw frames; returns how many raw frames a fraction has.

    With a pixel size in Å, the first raw frame carries metadata as the microscope writes them.
    """
    fractions = [np.asarray(frame) for frame in frames]
    group = max(int(np.ceil(max(float(frame.mean()) for frame in fractions) / OCCUPANCY)), int(max(frame.max() for frame in fractions)))
    raw = [mask for frame in fractions for mask in _deal(frame, group, generator)]
    strips = [encode_events(mask, generator) for mask in raw]
    Path(path).write_bytes(_big_tiff(strips, fractions[0].shape, b"" if pixel_size is None else _metadata(len(strips), pixel_size)))
    return group


def encode_events(mask: np.ndarray, generator: np.random.Generator) -> bytes:
    """One raw frame: a boolean mask `(y, x)` of pixels hit, each at a random place within its pixel."""
    places = np.append(np.flatnonzero(mask), mask.size)
    full, rest = np.divmod(np.diff(places, prepend=-1) - 1, FULL)
    symbols = np.full(int(full.sum()) + len(places), -1, dtype=np.int64)
    symbols[np.cumsum(full + 1) - 1] = rest
    return _pack(symbols, generator)


def _pack(symbols: np.ndarray, generator: np.random.Generator) -> bytes:
    """Symbols >= 0 take 7 + 4 bits, -1 the 7 bits of a full skip."""
    is_event = symbols >= 0
    values = np.where(is_event, symbols, FULL) | (np.where(is_event, generator.integers(0, 16, len(symbols)), 0) << SKIP_BITS)
    bits = (values[:, None] >> np.arange(SKIP_BITS + SUBPIXEL_BITS)) & 1
    kept = np.arange(SKIP_BITS + SUBPIXEL_BITS) < np.where(is_event, SKIP_BITS + SUBPIXEL_BITS, SKIP_BITS)[:, None]
    packed = np.packbits(bits[kept].astype(np.uint8), bitorder="little").tobytes()
    return packed + bytes(len(packed) % 2)


def _deal(frame: np.ndarray, group: int, generator: np.random.Generator) -> np.ndarray:
    """Boolean masks `(group, y, x)`: the counts of each pixel fall on different raw frames."""
    order = generator.random((group, *frame.shape)).argsort(axis=0)
    return order < frame


def _metadata(raw_frames: int, pixel_size: float) -> bytes:
    items = ("numberOfFrames", "", raw_frames), ("sensorPixelSize.width", ' unit="m"', f"{pixel_size * 1e-10:g}")
    return ("<metadata>" + "".join(f'<item name="{name}"{unit}>{value}</item>' for name, unit, value in items) + "</metadata>").encode()


def _big_tiff(strips: list[bytes], shape: tuple[int, int], metadata: bytes) -> bytes:
    """A little-endian BigTIFF with one strip per page, and metadata in tag 65001 of the first."""
    body = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)) + metadata + bytes(-len(metadata) % 8)
    link = 8
    for number, strip in enumerate(strips):
        start = len(body)
        body += strip + bytes(-len(strip) % 8)
        struct.pack_into("<Q", body, link, len(body))
        directory = _directory(start, len(strip), shape, len(metadata) if number == 0 else 0)
        link = len(body) + len(directory) - 8
        body += directory
    return bytes(body)


def _directory(offset: int, count: int, shape: tuple[int, int], metadata_bytes: int) -> bytes:
    """Tags: width, height, bits, compression, strip offset, rows per strip, strip bytes, metadata; then the empty link to the next page."""
    tags = [(256, 4, 1, shape[1]), (257, 4, 1, shape[0]), (258, 3, 1, 8), (259, 3, 1, 65001)]
    tags += [(273, 16, 1, offset), (278, 4, 1, shape[0]), (279, 16, 1, count)]
    tags += [(65001, 7, metadata_bytes, 16)] if metadata_bytes else []
    entries = b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
    return struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0)
