"""Counted frames to movie files as microscopes write them.

Convention: row 0 of an image is the last row of its TIFF page; MRC and EER keep the order. TIFF with LZW, uint8; MRC in mode 6
(uint16) since mode 0 is signed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import mrcfile
import numpy as np
import tifffile

from firn.simulate.write_eer import write_eer_movie


def write_movie(path: Path, frames: Iterable[np.ndarray], pixel_size: float, generator: np.random.Generator) -> None:
    """Write counted frames in the format that the name's ending asks for: .tif, .mrc or .eer; pixel_size in Å."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".eer":
        write_eer_movie(path, frames, generator, pixel_size)
    elif path.suffix == ".mrc":
        write_mrc_movie(path, frames, pixel_size)
    else:
        write_tiff_movie(path, frames)


def truncate_file(path: Path) -> None:
    """Cut the last third off, as when a copy was interrupted."""
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 2 // 3)


def write_tiff_movie(path: str | os.PathLike, frames: Iterable[np.ndarray]) -> None:
    """Write frames `(y, x)` as LZW pages."""
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(np.ascontiguousarray(frame[::-1]), compression="lzw", photometric="minisblack", contiguous=False, metadata=None)


def write_mrc_movie(path: str | os.PathLike, frames: Iterable[np.ndarray], pixel_size: float, dtype: type = np.uint16) -> None:
    """Write frames `(y, x)` as an MRC stack; dtype int8, int16, uint16 or float32 gives mode 0, 1, 6 or 2; pixel_size in Å."""
    stack: np.ndarray = np.stack([frame.astype(dtype) for frame in frames])
    with mrcfile.new(Path(path), overwrite=True) as mrc:
        mrc.set_data(stack)
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size
