"""Results of 3DFSC (Tan et al. 2017): FSC by direction and by shell, the global curve, the sphericity that it says.

Convention: directions are zyx unit vectors, in the order of the axes of the files. Sources: the files of 3DFSC 3.0.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firn.errors import InputError, brief

STEP = np.arange(1, 360, 36)
"""Both angles of the directions; 3DFSC takes these numbers as radians."""
SAID = re.compile(r"Sphericity is (\d+\.\d+) out of 1 at threshold (\d+\.\d+)")


def directions() -> np.ndarray:
    """The 100 directions `(100, 3)` along which 3DFSC samples its volume."""
    theta, phi = (grid.reshape(-1).astype(float) for grid in np.meshgrid(STEP, STEP, indexing="ij"))
    return np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=-1)


def read_directional(path: str | os.PathLike) -> np.ndarray:
    """FSC `(100, shells)` by direction, from shell 0 on, of histogram_raw.csv; raises InputError when it is no such table."""
    curves = _numbers(path, 0)
    if curves.shape[1] != len(STEP) ** 2:
        raise InputError(f"{path}: has {curves.shape[1]} columns, but 3DFSC writes one for each of {len(STEP) ** 2} directions")
    return curves.T


def read_global(path: str | os.PathLike, pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """(frequency in 1/Å, FSC) of the global curve; raises InputError when the table is not one of 3DFSC."""
    table = _numbers(path, 1)
    if table.shape[1] < 3:
        raise InputError(f"{path}: has {table.shape[1]} columns, but needs normalised frequency, frequency and FSC")
    return table[:, 0] / pixel_size, table[:, 2]


def sphericity_said(lines: Sequence[str]) -> float:
    """The sphericity among the lines that 3DFSC said; raises InputError when it said none."""
    found = next((match for line in lines if (match := SAID.search(line))), None)
    if found is None:
        raise InputError("3DFSC ended without telling the sphericity; what it said is in the job's log")
    return float(found.group(1))


def _numbers(path: str | os.PathLike, skipped: int) -> np.ndarray:
    """Numbers `(rows, columns)` between commas, below the first lines."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()[skipped:]
        table = np.array([[float(word) for word in line.split(",")] for line in lines if line.strip()])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table of 3DFSC ({brief(error)})") from error
    if table.ndim != 2 or not len(table):
        raise InputError(f"{path}: holds no table of numbers")
    return table
