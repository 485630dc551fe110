"""Gain references.

Convention: the gain multiplies the counts; 0 marks a defect pixel; how it lies to the movies is preprocess.gain_pattern's.
A gain in TIFF has its rows in the order of TIFF movies; a `.gain` (TIFF) that goes with EER movies has them in the order of EER.
Source: multiplicative for MRC and TIFF; a gain for EER movies is multiplicative when its name ends in .gain, and is inverted and
scaled to mean 1 otherwise, as RELION does.
"""

import os
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.defects import falcon_defects
from firn.formats.mrc import read_mrc
from firn.formats.tiff import iterate_tiff, read_text_tag

FALCON_DEFECTS_TAG = 65100


def read_gain(path: str | os.PathLike, invert: bool = False, rows_as_stored: bool = False) -> np.ndarray:
    """Multiplicative gain `(y, x)`, float32, 0 at defects; invert for a gain that divides.

    rows_as_stored: a TIFF keeps its first row as row 0. Raises InputError when the file is missing, damaged or holds no usable values.
    """
    gain = _read_image(path, rows_as_stored)
    good = np.isfinite(gain) & (gain > 0)
    if not good.any():
        raise InputError(f"{path}: the gain reference has no positive value")
    gain = _inverted(gain, good) if invert else np.where(good, gain, 0)
    return np.ascontiguousarray(gain, dtype=np.float32)


def _inverted(gain: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mean over gain; what is beyond single precision is a defect."""
    inverse = np.zeros(gain.shape)
    with np.errstate(over="ignore"):
        inverse[good] = gain[good].mean(dtype=np.float64) / gain[good].astype(np.float64)
    return np.where(inverse <= np.finfo(np.float32).max, inverse, 0)


def is_divisor(gain_path: str | os.PathLike, movie_format: str) -> bool:
    """Whether a gain file divides instead of multiplying: for EER movies, any gain whose name does not end in .gain."""
    return movie_format == "eer" and Path(gain_path).suffix.lower() != ".gain"


def keeps_rows(gain_path: str | os.PathLike, movie_format: str) -> bool:
    """Whether the gain's first stored row is row 0 of the movie: for EER movies, a gain whose name ends in .gain."""
    return movie_format == "eer" and Path(gain_path).suffix.lower() == ".gain"


def fit_gain(gain: np.ndarray, shape: tuple[int, int], where: str | os.PathLike) -> np.ndarray:
    """The gain for frames of the shape (height, width): repeated when it is of larger pixels, averaged when of smaller ones, by 2 or 4.

    Raises InputError naming both shapes when they do not fit.
    """
    gain = coarsen_gain(gain, shape)
    factor = max(1, shape[0] // gain.shape[0])
    if factor in (1, 2, 4) and (gain.shape[0] * factor, gain.shape[1] * factor) == shape:
        return gain if factor == 1 else gain.repeat(factor, axis=0).repeat(factor, axis=1)
    raise InputError(
        f"{where}: the gain reference is {gain.shape[1]} x {gain.shape[0]} pixels (after turning), but the movies are {shape[1]} x {shape[0]}"
    )


def coarsen_gain(gain: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The gain averaged over 2 x 2 or 4 x 4 pixels where frames of the shape, as it is or on its side, have pixels so much larger.

    An averaged pixel is a defect when one of its pixels is.
    """
    blocks = _blocks(gain, shape)
    if blocks is None:
        return gain
    return np.where((blocks > 0).all(axis=(1, 3)), blocks.mean(axis=(1, 3)), 0).astype(np.float32)


def coarsen_sum(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A sum of frames added up over 2 x 2 or 4 x 4 pixels where a gain of the shape, as it is or on its side, has pixels so much larger."""
    blocks = _blocks(image, shape)
    return image if blocks is None else np.asarray(blocks.sum(axis=(1, 3)))


def _blocks(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    for factor in (2, 4):
        height, width = image.shape[0] // factor, image.shape[1] // factor
        if (height, width) in (shape, shape[::-1]) and image.shape == (height * factor, width * factor):
            return image.reshape(height, factor, width, factor)
    return None


def _read_image(path: str | os.PathLike, rows_as_stored: bool) -> np.ndarray:
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    ending = Path(path).suffix.lower()
    if ending in (".dm3", ".dm4"):
        raise InputError(f"{path}: gains of Gatan's {ending} format are not read; convert it with IMOD's dm2mrc")
    if ending in (".tif", ".tiff", ".gain"):
        image = np.array(next(iterate_tiff(path)), dtype=np.float32)
        listed = read_text_tag(path, FALCON_DEFECTS_TAG)
        if listed is not None:
            image[falcon_defects(listed, image.shape, path)[::-1]] = 0
        return image[::-1] if rows_as_stored else image
    image = read_mrc(path)[0]
    if image.ndim != 2:
        raise InputError(f"{path}: holds {image.shape[0]} images; a gain reference is one image")
    return image
