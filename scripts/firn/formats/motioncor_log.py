"""What MotionCor2 and MotionCor3 tell of the motion they found.

Convention: shifts are yx in pixels of the frames that were read, before any binning; moved by them, a frame lies on the reference. That is
RELION's convention, which copies them. Shifts of patches are what is left after the shift of the whole frame.
Source: MotionCor3 (BSD), CFullAlign, CPatchShifts and CStackShift, which write these lines; Readme.txt for the names of former versions.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.number_rows import read_number_rows

SAID = re.compile(r"Frame\s*\(\s*\d+\)\s*shift:\s*(\S+)\s+(\S+)")
HEADING = "Full-frame alignment shift"
TABLE = re.compile(r"Frame\s+x Shift\s+y Shift", re.IGNORECASE)


@dataclass(frozen=True)
class PatchShifts:
    """Shifts of patches: frame from 0 `(n,)`, centre `(n, 2)` yx in pixels, shift `(n, 2)` yx in pixels."""

    frames: np.ndarray
    centres: np.ndarray
    shifts: np.ndarray


def find_log(folder: Path, name: str, ending: str) -> Path | None:
    """Log of a movie in a folder: versions up to 1.4.5 put a 0 behind the name, later ones do not."""
    return next((path for path in (folder / f"{name}-{ending}.log", folder / f"{name}0-{ending}.log") if path.is_file()), None)


def read_full_shifts(path: str | os.PathLike) -> np.ndarray:
    """Shifts of whole frames `(f, 2)` yx, from rows `frame x y`; raises InputError when there are none or they are no numbers."""
    return _finite_rows(path, 3)[:, [2, 1]]


def said_full_shifts(lines: Iterable[str]) -> np.ndarray | None:
    """Shifts of whole frames `(f, 2)` yx, from what a program of the family said; None when it said none."""
    found: list[tuple[float, float]] = []
    listed = tabled = False
    for line in lines:
        match, words = SAID.search(line), line.split()
        if HEADING in line or TABLE.search(line):
            found, listed, tabled = [], HEADING in line, HEADING not in line
        elif listed and match:
            found.append((float(match[2]), float(match[1])))
        elif tabled and len(words) == 3 and _numbers(words):
            found.append((float(words[2]), float(words[1])))
        else:
            listed = tabled = False
    return np.array(found) if found else None


def read_patch_shifts(path: str | os.PathLike) -> PatchShifts:
    """Shifts of patches, from rows `frame, centre x and y, shift x and y`; those that a sixth column marks as bad are left out.

    Raises InputError when they cannot be read.
    """
    rows = _finite_rows(path, 6)
    if rows.shape[1] == 6:
        rows = rows[rows[:, 5] == 0]
    return PatchShifts(rows[:, 0] - 1, rows[:, [2, 1]], rows[:, [4, 3]])


def _finite_rows(path: str | os.PathLike, least: int) -> np.ndarray:
    rows = read_number_rows(path, "shifts of MotionCor", least)
    if not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"{path}: has no shifts that are numbers")
    return rows


def _numbers(words: Iterable[str]) -> bool:
    try:
        return all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False
