"""Which exposures are accepted: thresholds on any of their numbers; a human's word wins."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from firn.live.control import Control, Limits

CURATION = {
    "max_ctf_fit": ("ctf_fit_resolution", "max"), "min_ctf_score": ("ctf_score", "min"), "max_motion": ("motion_total", "max"),
    "min_defocus": ("defocus", "min"), "max_defocus": ("defocus", "max"), "max_astigmatism": ("astigmatism", "max"),
    "max_ice_ring": ("ice_ring_score", "max"),
}  # fmt: skip
"""Parameters of curate_exposures as limits of columns."""


def limits_of(settings: Iterable[Mapping[str, Any]]) -> dict[str, Limits]:
    """Limits that the config's curation jobs give."""
    found: dict[str, dict[str, float]] = {}
    for job in settings:
        for name, (column, side) in CURATION.items():
            if job.get(name) is not None:
                found.setdefault(column, {})[side] = float(job[name])
    return {column: Limits(**sides) for column, sides in found.items()}


def judge(names: Iterable[str], numbers: Mapping[str, float], control: Control, given: Mapping[str, Limits]) -> tuple[str, str]:
    """(accepted or rejected, reason) of an exposure; names: all it may be called by; given: limits where control has none."""
    called = set(names)
    if called & set(control.reject):
        return "rejected", "rejected by hand"
    if called & set(control.accept):
        return "accepted", "accepted by hand"
    for column, limits in {**given, **control.thresholds}.items():
        value = numbers.get(column)
        if value is None:
            continue
        if limits.max is not None and value > limits.max:
            return "rejected", f"{column} {value:.4g} is above {limits.max:g}"
        if limits.min is not None and value < limits.min:
            return "rejected", f"{column} {value:.4g} is below {limits.min:g}"
    return "accepted", ""


def names_of(exposure: str, movie: str) -> set[str]:
    """All that an exposure may be called by in a control file."""
    return {exposure, movie, Path(movie).name, Path(movie).stem}
