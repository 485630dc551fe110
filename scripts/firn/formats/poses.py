"""Poses and CTF parameters of a particle table as arrays, in firn's units: degrees, pixels, and yx order."""

import numpy as np
import pandas as pd

from firn.formats.ids import half_set
from firn.formats.tables import require_columns, require_finite

ANGLES = ("rot", "tilt", "psi")


def read_angles(table: pd.DataFrame, where: str) -> np.ndarray:
    """(rot, tilt, psi) in degrees `(n, 3)`; raises InputError naming `where` when the particles have no poses."""
    require_columns(table, ANGLES, where)
    require_finite(table, ANGLES, where, "particles need poses here, such as a refinement finds")
    return table[list(ANGLES)].to_numpy(np.float64)


def read_shifts(table: pd.DataFrame, pixel_size: float) -> np.ndarray:
    """Shifts yx `(n, 2)` in pixels; zero where the table has no such column, or a row no number in it."""
    return table.reindex(columns=["origin_y", "origin_x"]).astype(np.float64).fillna(0.0).to_numpy() / pixel_size


def with_poses(table: pd.DataFrame, angles: np.ndarray, shifts: np.ndarray | None = None, pixel_size: float = 1.0) -> pd.DataFrame:
    """The table with other angles (degrees) and, if given, other shifts yx (pixels)."""
    posed = table.assign(**{name: angles[:, column] for column, name in enumerate(ANGLES)})
    return posed if shifts is None else posed.assign(origin_y=shifts[:, 0] * pixel_size, origin_x=shifts[:, 1] * pixel_size)


def with_halves(table: pd.DataFrame) -> pd.DataFrame:
    """The table with half-sets: the ones it has, or else those that follow from the particles' names."""
    if "half" in table.columns:
        return table
    names = table["particle_id"] if "particle_id" in table.columns else table["image"]
    return table.assign(half=[half_set(str(name)) for name in names])
