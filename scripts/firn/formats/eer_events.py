"""Electrons of one raw EER frame: where each hit, to a quarter of a pixel.

Convention: a code is a distance of 7 or 8 bits (empty pixels before the next electron) followed by 2 + 2 bits of sub-pixel, x in the
lower two; the largest distance alone stands for that many empty pixels and no electron. Sub-pixel quarters count 2, 3, 0, 1.
Decoding onto a fine grid at once would touch memory far apart for each electron; positions are decoded on the coarse grid, which stays
in the cache, and the sub-pixel bits are then looked up at the bit where each code must lie.
Source: Guo, Franken et al., IUCrJ 7, 860 (2020).
"""

import imagecodecs
import numpy as np

SUBPIXEL_BITS = 2
BAND_PIXELS = 2**20


def read_events(data: bytes, skip_bits: int, scratch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions `(n,)` int32 as flat index of the physical pixel, ascending; sub-pixel codes `(n,)` of 4 bits) of one raw frame.

    scratch: zeros `(y, x)` uint8, zero again afterwards. Raises ValueError or RuntimeError for codes that lead out of the frame.
    """
    imagecodecs.eer_decode(data, scratch.shape, skip_bits, SUBPIXEL_BITS, SUBPIXEL_BITS, superres=0, out=scratch)
    positions = _take_hits(scratch.reshape(-1))
    return positions, _subpixels(data, positions, skip_bits)


def place_events(total_: np.ndarray, events: list[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int], upsampling: int) -> None:
    """Add the electrons of raw frames to counts `(y * upsampling, x * upsampling)`, band by band so that each band stays in the cache."""
    rows = max(1, BAND_PIXELS // (shape[1] * upsampling**2))
    starts = np.arange(0, shape[0] + rows, rows) * shape[1]
    placed = [
        (_fine_index(positions, codes, shape[1], upsampling), np.searchsorted(positions, starts.astype(positions.dtype)))
        for positions, codes in events
    ]
    flat = total_.reshape(-1)
    for band, start in enumerate(starts[:-1] * upsampling**2):
        pixels = flat[start : start + rows * shape[1] * upsampling**2]
        for index, edges in placed:
            pixels[index[edges[band] : edges[band + 1]] - start] += 1


def _take_hits(pixels_: np.ndarray) -> np.ndarray:
    """Indices of the pixels that are 1, which become 0; eight pixels are looked at together where their number allows."""
    if pixels_.size % 8:
        hits = np.flatnonzero(pixels_)
        pixels_[:] = 0
        return hits.astype(np.int32)
    words = pixels_.view(np.uint64)
    hit = np.flatnonzero(words != 0)
    values = words[hit]
    words[hit] = 0
    inner = np.flatnonzero(values.view(bool)).astype(np.int32)
    return (hit.astype(np.int32)[inner >> 3] << 3) + (inner & 7)


def _subpixels(data: bytes, positions: np.ndarray, skip_bits: int) -> np.ndarray:
    """The 4 bits after the distance of each electron: full skips before it moved it by skip_bits each."""
    code_bits = skip_bits + 2 * SUBPIXEL_BITS
    skips = np.diff(positions, prepend=np.int32(-1)) - 1
    skips //= 2**skip_bits - 1
    bits = np.cumsum(skips, dtype=np.int32) * skip_bits
    bits += np.arange(skip_bits, skip_bits + code_bits * len(positions), code_bits, dtype=np.int32)
    stored = np.frombuffer(data + b"\0\0", dtype=np.uint8)
    words = stored[:-1].astype(np.uint16) | (stored[1:].astype(np.uint16) << 8)
    return (words[np.minimum(bits >> 3, len(words) - 1)] >> (bits & 7).astype(np.uint16)).astype(np.uint8) & 15


def _fine_index(positions: np.ndarray, codes: np.ndarray, width: int, upsampling: int) -> np.ndarray:
    """Flat index on the fine grid: that of the pixel's first fine pixel, and the step that the sub-pixel code adds."""
    finest = np.arange(16) ^ 10
    coarser = 2 if upsampling == 2 else 1
    steps = (finest >> 2) // coarser * (width * upsampling) + (finest & 3) // coarser
    rows = positions // width
    return rows * np.int64(width * upsampling * (upsampling - 1)) + np.multiply(positions, upsampling, dtype=np.int64) + steps[codes]
