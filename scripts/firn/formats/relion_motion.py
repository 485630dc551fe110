"""RELION's motion correction: the list of movies that it is given, and the STAR file that it writes of each.

Convention: as firn.formats.motion_star, whose files hold the same blocks; frames from 1, those that were not used have no shifts that are so small.
"""

import os
from dataclasses import dataclass

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.compressed import no_damage
from firn.formats.star import read_star, write_star

NOT_USED = -9999.0
"""Shift of a frame that was left out."""
KEPT = ("hot_pixels", "local_shift")
"""Blocks besides the motion that RELION's polishing and people read."""


@dataclass(frozen=True)
class RelionMotion:
    """Motion of a movie: frames that the file had, first frame used (from 1), shifts `(f, 2)` yx in pixels, polynomial or None, other blocks."""

    frames: int
    first: int
    shifts: np.ndarray
    model: np.ndarray | None
    more: dict[str, pd.DataFrame]


def write_movie_list(path: str | os.PathLike, movie: str, pixel_size: float, voltage_kv: float, cs_mm: float, contrast: float) -> None:
    """Write a list of one movie as RELION reads it; pixel_size in Å."""
    optics = {
        "rlnOpticsGroupName": "movies",
        "rlnOpticsGroup": 1,
        "rlnMicrographOriginalPixelSize": pixel_size,
        "rlnVoltage": voltage_kv,
        "rlnSphericalAberration": cs_mm,
        "rlnAmplitudeContrast": contrast,
    }
    movies = pd.DataFrame([{"rlnMicrographMovieName": movie, "rlnOpticsGroup": 1}])
    write_star(path, {"optics": pd.DataFrame([optics]), "movies": movies})


def read_relion_motion(path: str | os.PathLike) -> RelionMotion:
    """What RELION found in a movie; raises InputError when the file is none of its kind or has no shifts."""
    blocks = read_star(path)
    with no_damage(path, "motion of a movie"):
        told = blocks["global_shift"]
        shifts = told[["rlnMicrographShiftY", "rlnMicrographShiftX"]].to_numpy(dtype=np.float64)
        used = (shifts != NOT_USED).all(axis=1)
        local = blocks.get("local_motion_model")
        found = RelionMotion(
            frames=int(blocks["general"]["rlnImageSizeZ"].iloc[0]),
            first=int(told["rlnMicrographFrameNumber"][used].min()) if used.any() else 0,
            shifts=shifts[used],
            model=None if local is None else local["rlnMotionModelCoeff"].to_numpy(dtype=np.float64),
            more={name: blocks[name] for name in KEPT if name in blocks},
        )
    if not len(found.shifts) or not np.isfinite(found.shifts).all():
        raise InputError(f"{path}: tells of no shifts that are numbers")
    return found
