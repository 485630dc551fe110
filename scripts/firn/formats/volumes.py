"""Cubic maps on disk: `(z, y, x)` whatever the axis order of the file, and the fixed names they have in a job's folder."""

import os
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.mrc import read_mrc
from firn.formats.mrc_header import read_mrc_header

ANISOTROPY = 0.01
MASK_TOLERANCE = 0.01


def read_volume(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """(map `(n, n, n)` float32, pixel size in Å) of a plain or packed file; axes are put into the order z, y, x that the header names.

    Raises InputError when the map is not a cube, its pixels are not, or a value is not finite.
    """
    header = read_mrc_header(path)
    volume, pixel_size = read_mrc(path)
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise InputError(f"{path}: is {' x '.join(str(side) for side in volume.shape[::-1])}, but a map must be a cube")
    sizes = header.pixel_size
    if max(sizes) - min(sizes) > ANISOTROPY * max(sizes):
        raise InputError(f"{path}: has pixels of {sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} Å, but they must be cubes")
    if not np.isfinite(volume).all():
        raise InputError(f"{path}: holds values that are not finite")
    return _as_zyx(volume, header.axes, path), pixel_size


def read_like(path: str | os.PathLike, n: int, pixel_size: float) -> np.ndarray:
    """A map that must have side n and, to 1 %, the pixel size of another; raises InputError when it has not."""
    volume, own = read_volume(path)
    if volume.shape[0] != n:
        raise InputError(f"{path}: has a side of {volume.shape[0]} pixels, but the map it goes with has {n}")
    if own > 0 and abs(own - pixel_size) > 0.01 * pixel_size:
        raise InputError(f"{path}: has pixels of {own:g} Å, but the map it goes with has {pixel_size:g} Å")
    return volume


def read_mask(path: str | os.PathLike, n: int, pixel_size: float) -> np.ndarray:
    """A mask of side n and a map's pixel size, as read_like; raises InputError too when it leaves 0 to 1 or is nowhere above one half."""
    mask = read_like(path, n, pixel_size)
    require_mask(mask, path)
    if not (mask > 0.5).any():
        raise InputError(f"{path}: the mask is empty")
    return mask


def require_mask(mask: np.ndarray, path: str | os.PathLike) -> None:
    """Raise InputError when a map leaves the range of a mask, from 0 to 1."""
    low, high = mask.min(), mask.max()
    if low < -MASK_TOLERANCE or high > 1 + MASK_TOLERANCE:
        raise InputError(f"{path}: has values from {low:.3g} to {high:.3g}, but a mask has values from 0 to 1")


def read_halves(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """(half map 1, half map 2, pixel size in Å) of a job's folder; raises InputError when one is missing."""
    missing = [name for name in ("half1.mrc", "half2.mrc") if not (folder / name).exists()]
    if missing:
        raise InputError(f"{folder}: has no {' and no '.join(missing)}, so there is nothing to correlate")
    first, pixel_size = read_volume(folder / "half1.mrc")
    if pixel_size <= 0:
        raise InputError(f"{folder / 'half1.mrc'}: names no pixel size; import it again with pixel_size")
    return first, read_like(folder / "half2.mrc", first.shape[0], pixel_size), pixel_size


def read_independent_halves(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """As read_halves; raises InputError too when their correlation would mean nothing, since they are the same, or one is empty."""
    first, second, pixel_size = read_halves(folder)
    if not (first.any() and second.any()):
        raise InputError(f"{folder}: a half map is empty")
    if np.array_equal(first, second):
        raise InputError(f"{folder}: half1.mrc and half2.mrc are the same map, so their FSC means nothing")
    return first, second, pixel_size


def _as_zyx(volume: np.ndarray, axes: tuple[int, ...], path: str | os.PathLike) -> np.ndarray:
    if axes in ((1, 2, 3), (0, 0, 0)):
        return volume
    if sorted(axes) != [1, 2, 3]:
        raise InputError(f"{path}: names the axes {axes}, which are not 1, 2, 3 in some order")
    stored = axes[::-1]
    return np.ascontiguousarray(np.transpose(volume, [stored.index(axis) for axis in (3, 2, 1)]))
