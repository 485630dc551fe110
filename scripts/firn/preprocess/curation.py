"""Rules that accept or reject exposures: limits the user gives, and robust limits drawn from the set itself.

Convention: an attribute is a column of numbers, one per exposure; NaN is never rejected. An adaptive limit is the median and four
robust standard deviations (1.4826 times the median absolute deviation), but never nearer to the median than a sensible distance,
so that a homogeneous set loses nothing, and never beyond a value that is bad whatever the others are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

SIGMAS = 4.0
FEWEST = 3


@dataclass(frozen=True)
class Attribute:
    """A statistic that is judged. factor: least distance of an adaptive limit, as a multiple of the median; least: the strictest
    adaptive limit; worst: where an adaptive limit ends in any case. adaptive False: judged only by limits that are given."""

    column: str
    name: str
    unit: str
    upper: bool = True
    factor: float = 1.5
    least: float = 0.0
    worst: float = np.inf
    adaptive: bool = True


ATTRIBUTES = (
    Attribute("ctf_fit_resolution", "CTF fit resolution", "Å", factor=1.5, least=6.0, worst=20.0),
    Attribute("ctf_score", "CTF score", "", upper=False, factor=0.4),
    Attribute("motion_total", "total motion", "Å", factor=2.5, least=40.0),
    Attribute("astigmatism", "astigmatism", "Å", factor=2.0, least=1500.0),
    Attribute("ice_ring_score", "ice ring score", "", factor=1.3, least=1.3),
    Attribute("tilt_angle", "tilt of the defocus surface", "degrees", adaptive=False),
    Attribute("defocus", "defocus", "Å", adaptive=False),
    Attribute("defocus", "defocus", "Å", upper=False, adaptive=False),
)


@dataclass(frozen=True)
class Limit:
    """A value not to be passed, and whether the user gave it."""

    attribute: Attribute
    value: float
    given: bool

    def breaks(self, values: np.ndarray) -> np.ndarray:
        """Which values lie beyond the limit; NaN never does."""
        with np.errstate(invalid="ignore"):
            return values > self.value if self.attribute.upper else values < self.value

    def sentence(self, value: float) -> str:
        """Why a value is rejected."""
        side = "above" if self.attribute.upper else "below"
        unit = f" {self.attribute.unit}" if self.attribute.unit else ""
        return f"{self.attribute.name} {_spoken(value)}{unit} is {side} the {'given' if self.given else 'adaptive'} limit {_spoken(self.value)}{unit}"


def _spoken(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """The table with mean defocus (Å) and the tilt angle of the defocus surface (degrees), where their columns are there."""
    derived = table.copy()
    if {"defocus_u", "defocus_v"} <= set(table.columns):
        derived["defocus"] = (table["defocus_u"] + table["defocus_v"]) / 2
    if {"defocus_slope_x", "defocus_slope_y", "width_px", "height_px", "micrograph_pixel_size"} <= set(table.columns):
        half = [table[side] * table["micrograph_pixel_size"] / 2 for side in ("width_px", "height_px")]
        steepness = np.hypot(table["defocus_slope_x"] / half[0], table["defocus_slope_y"] / half[1])
        derived["tilt_angle"] = np.rad2deg(np.arctan(steepness.astype(float)))
    return derived


def find_limits(table: pd.DataFrame, given: Mapping[tuple[str, bool], float], adaptive: bool) -> list[Limit]:
    """Limits for the attributes the table has; given: (column, upper) to a value, which replaces the adaptive limit."""
    limits = []
    for attribute in ATTRIBUTES:
        if attribute.column not in table.columns:
            continue
        value = given.get((attribute.column, attribute.upper))
        if value is not None:
            limits.append(Limit(attribute, value, given=True))
        elif adaptive and attribute.adaptive:
            limits.append(Limit(attribute, adaptive_limit(table[attribute.column].to_numpy(dtype=float), attribute), given=False))
    return [limit for limit in limits if np.isfinite(limit.value)]


def adaptive_limit(values: np.ndarray, attribute: Attribute) -> float:
    """Limit drawn from the values; without enough of them, only the value that is always bad."""
    finite = values[np.isfinite(values)]
    if len(finite) < FEWEST:
        return attribute.worst if attribute.upper else -np.inf
    median = float(np.median(finite))
    reach = SIGMAS * 1.4826 * float(np.median(np.abs(finite - median)))
    if attribute.upper:
        return min(max(median + reach, attribute.factor * median, attribute.least), attribute.worst)
    return min(median - reach, attribute.factor * median)


def judge(table: pd.DataFrame, limits: list[Limit]) -> pd.DataFrame:
    """Columns rule_verdict (accept or reject) and reason (every limit passed, or empty), one row per exposure."""
    reasons: list[list[str]] = [[] for _ in range(len(table))]
    for limit in limits:
        values = table[limit.attribute.column].to_numpy(dtype=float)
        for row in np.flatnonzero(limit.breaks(values)):
            reasons[row].append(limit.sentence(float(values[row])))
    return pd.DataFrame(
        {"rule_verdict": ["reject" if reason else "accept" for reason in reasons], "reason": ["; ".join(reason) for reason in reasons]},
        index=table.index,
    )
