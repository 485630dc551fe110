"""Gain references and lists of detector defects.

Convention: the gain multiplies the counts; 0 marks a defect pixel. Turned first, then mirrored, as seen with row 0 at the
bottom: rotate = quarter turns counter-clockwise, flip_x = left against right, flip_y = top against bottom.
Source: multiplicative for MRC and TIFF; a gain for EER movies is multiplicative when its name ends in .gain and is inverted
otherwise, as RELION does.
"""

import os
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.mrc import read_mrc
from firn.formats.tiff import iterate_tiff


def read_gain(path: str | os.PathLike, flip_x: bool = False, flip_y: bool = False, rotate: int = 0, invert: bool = False) -> np.ndarray:
    """Multiplicative gain `(y, x)`, float32, 0 at defects, in the orientation asked for; invert for a gain that divides.

    Raises InputError when the file is missing, damaged or holds no usable values.
    """
    gain = _read_image(path)
    gain = np.rot90(gain, -rotate)
    gain = gain[:, ::-1] if flip_x else gain
    gain = gain[::-1] if flip_y else gain
    if invert:
        gain = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    gain = np.where(np.isfinite(gain) & (gain > 0), gain, 0)
    if not gain.any():
        raise InputError(f"{path}: the gain reference has no positive value")
    return np.ascontiguousarray(gain, dtype=np.float32)


def is_divisor(gain_path: str | os.PathLike, movie_format: str) -> bool:
    """Whether a gain file divides instead of multiplying: for EER movies, any gain whose name does not end in .gain."""
    return movie_format == "eer" and Path(gain_path).suffix.lower() != ".gain"


def fit_gain(gain: np.ndarray, shape: tuple[int, int], where: str | os.PathLike) -> np.ndarray:
    """The gain for frames of the shape (height, width); a physical-pixel gain is repeated for upsampled EER frames.

    Raises InputError naming both shapes when they do not fit.
    """
    factor = shape[0] // gain.shape[0] if gain.shape[0] else 0
    if factor in (2, 4) and (gain.shape[0] * factor, gain.shape[1] * factor) == shape:
        return gain.repeat(factor, axis=0).repeat(factor, axis=1)
    if gain.shape != shape:
        raise InputError(
            f"{where}: the gain reference is {gain.shape[1]} x {gain.shape[0]} pixels (after turning), but the movies are {shape[1]} x {shape[0]}"
        )
    return gain


def read_defects(path: str | os.PathLike, shape: tuple[int, int]) -> np.ndarray:
    """Boolean map `(y, x)`, true where the detector is defect, from a text file of `x y w h` rows or an image with 1 = defect.

    Raises InputError when the file has another form, another size, or names pixels outside the frame.
    """
    if Path(path).suffix.lower() in (".mrc", ".tif", ".tiff"):
        image = _read_image(path)
        if image.shape != shape:
            raise InputError(
                f"{path}: the defect map is {image.shape[1]} x {image.shape[0]} pixels, but the movies are {shape[1]} x {shape[0]}"
            )
        return image > 0.5
    return _draw_boxes(path, shape)


def _draw_boxes(path: str | os.PathLike, shape: tuple[int, int]) -> np.ndarray:
    try:
        rows = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
        boxes = [[int(value) for value in row] for row in rows]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a list of defects with rows 'x y width height' ({error})") from error
    defects = np.zeros(shape, dtype=bool)
    for number, box in enumerate(boxes, start=1):
        if len(box) != 4 or min(box) < 0 or box[0] + box[2] > shape[1] or box[1] + box[3] > shape[0]:
            raise InputError(f"{path}: row {number} is {box}, not 'x y width height' inside {shape[1]} x {shape[0]} pixels")
        defects[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    return defects


def _read_image(path: str | os.PathLike) -> np.ndarray:
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    if Path(path).suffix.lower() in (".tif", ".tiff", ".gain"):
        return np.asarray(next(iterate_tiff(path)), dtype=np.float32)
    image = read_mrc(path)[0]
    if image.ndim != 2:
        raise InputError(f"{path}: holds {image.shape[0]} images; a gain reference or defect map is one image")
    return image
