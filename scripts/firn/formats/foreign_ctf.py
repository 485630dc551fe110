"""Fits of the CTF as CTFFIND 4.1 and 5 and Gctf write them.

Convention of both programs, which is RELION's too: defocus in Å, positive for underfocus; the angle runs from +x towards +y, the direction of
increasing row, to the axis of the first defocus; the defocus in a direction a is (u + v)/2 + (u - v)/2 cos 2(a - angle); an additional phase
shift adds to chi with the sign of the amplitude contrast. CTFFIND tells it in radians, Gctf in degrees.
Source: cisTEM (ctf.cpp: DefocusGivenAzimuth, PhaseShiftGivenSquaredSpatialFrequencyAndDefocus); Zhang, J. Struct. Biol. 193, 1, 2016.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firn.errors import InputError
from firn.formats.compressed import no_damage
from firn.formats.number_rows import read_number_rows

ESCAPES = re.compile(r"\x1b\[[\d;]*m")
EPA_LIMIT = "Resolution limit estimated by EPA"


@dataclass(frozen=True)
class ForeignFit:
    """One fit: defocus_u >= defocus_v in Å, angle in [0, 180) and phase shift in degrees, score, Å to which rings are seen (NaN: not told)."""

    defocus_u: float
    defocus_v: float
    defocus_angle: float
    phase_shift: float
    score: float
    resolution: float


@dataclass(frozen=True)
class RingProfile:
    """Curves over spatial frequency (1/Å), all `(n,)`: mean of the spectrum along rings, the fitted CTF, and their local correlation."""

    frequency: np.ndarray
    profile: np.ndarray
    fit: np.ndarray
    correlation: np.ndarray


def read_ctffind(path: str | os.PathLike, worst: float) -> ForeignFit:
    """The fit of a micrograph from CTFFIND's table; worst: Å told where no ring was seen.

    Raises InputError when the file is missing or holds no fit.
    """
    rows = read_number_rows(path, "a fit of CTFFIND", 7)
    if not len(rows):
        raise InputError(f"{path}: holds no fit")
    _, first, second, angle, phase, score, reach = (float(value) for value in rows[0, :7])
    return _ordered(path, first, second, angle, math.degrees(phase), score, worst if reach == math.inf else reach)


def read_gctf(path: str | os.PathLike) -> ForeignFit:
    """The fit of a micrograph from Gctf's log; the resolution is that of the equiphase average, NaN where none was made.

    Raises InputError when the file is missing or holds no fit.
    """
    with no_damage(path, "a log of Gctf"):
        lines = ESCAPES.sub("", Path(path).read_text(encoding="utf-8", errors="replace")).splitlines()
        final = [line.split() for line in lines if line.split()[-2:] == ["Final", "Values"]]
        if not final or len(final[-1]) not in (6, 7):
            raise ValueError("it tells of no final values")
        first, second, angle, *phase, score = (float(word) for word in final[-1][:-2])
        limits = [line.split()[-1] for line in lines if line.strip().startswith(EPA_LIMIT)]
        reach = float(limits[-1]) if limits else math.nan
    return _ordered(path, first, second, angle, phase[0] if phase else 0.0, score, reach)


def read_ring_profile(path: str | os.PathLike) -> RingProfile:
    """The curves of CTFFIND's `_avrot.txt`, whose six rows are: frequency, plain mean, mean along rings, fit, correlation, its noise.

    Raises InputError when the file is missing or has other rows.
    """
    rows = read_number_rows(path, "averages of CTFFIND", 1)
    if len(rows) < 5:
        raise InputError(f"{path}: has {len(rows)} rows, not 6")
    good = np.isfinite(rows[:5]).all(axis=0) & (rows[0] > 0)
    return RingProfile(*rows[[0, 2, 3, 4]][:, good])


def _ordered(path: str | os.PathLike, first: float, second: float, angle: float, phase: float, score: float, reach: float) -> ForeignFit:
    """The same CTF with the greater defocus first: the axis of the other one is at right angles."""
    if not all(math.isfinite(value) for value in (first, second, angle, phase, score)):
        raise InputError(f"{path}: its fit holds values that are no numbers")
    if second > first:
        first, second, angle = second, first, angle + 90
    return ForeignFit(first, second, angle % 180.0, phase, score, reach if reach > 0 else math.nan)
