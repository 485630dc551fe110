"""Deciding which picks are particles: what inspect_picks and the fused worker share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.preprocess.thresholds import PickLine, calibrate_power, divide_picks, largest_power
from firn.runtime.params import JobParams

LIMITS = ("min_ncc", "min_power", "max_power")
AT_THE_END, FEWEST = 0.9, 30
"""Share of the particles, and their number, that match best at the smallest diameter when all blobs are too large. In ten simulated sets it
was 0.91 to 1.0 with all diameters a third too large; with fitting ones 0.0 to 0.91, where smaller ones found the more."""


class LimitParams(JobParams):
    """Limits on picks; what is not given is found from the picks."""

    min_ncc: float | None = Field(None, ge=-1, le=1)
    """Smallest correlation; when not given, a line in correlation and power is found from the data."""
    min_power: float | None = Field(None, ge=0)
    """Smallest local power, in units of the noise."""
    max_power: float | None = Field(None, gt=0)
    """Largest local power, in units of the noise; found from the data when not given."""


AS_JUDGED = "none: picks without local powers are another program's, which has judged them"


@dataclass(frozen=True)
class Decision:
    """Limits (None: no limit), the line in score and log power (None: limits only), and where each came from."""

    limits: dict[str, float | None]
    line: PickLine | None
    reasons: dict[str, str]


def decide(picks: pd.DataFrame, exposures: pd.DataFrame, params: LimitParams, human: dict[str, Any]) -> tuple[pd.DataFrame, Decision]:
    """Picks with their calibrated power and `kept`, and what decided; human: limits and exposures to reject, which win.

    Picks without powers get no calibrated ones, and are kept but for a smallest score that is given and exposures to reject.
    """
    limits = {name: getattr(params, name) for name in LIMITS} | {name: human[name] for name in LIMITS if name in human}
    reasons = {
        name: "given in the decisions file" if name in human else "given in the config" for name in LIMITS if limits[name] is not None
    }
    score = torch.tensor(picks["pick_score"].to_numpy(dtype=np.float64))
    refused = picks["exposure_id"].isin([str(name) for name in human.get("reject", [])]).to_numpy()
    if not has_power(picks):
        reasons |= {"min_ncc": AS_JUDGED} if limits["min_ncc"] is None else {}
        return picks.assign(kept=_within(score, limits["min_ncc"], None).numpy() & ~refused), Decision(limits, None, reasons)
    power = _calibrated(score, torch.tensor(picks["pick_power"].to_numpy(dtype=np.float64)), picks, exposures)
    line = divide_picks(score, power, _has_templates(picks)) if limits["min_ncc"] is None else None
    passed = line.passes(score, power) if line else torch.ones_like(score, dtype=torch.bool)
    largest = largest_power(power, passed & _within(score, limits["min_ncc"], None))
    if limits["max_power"] is None and largest is not None:
        limits["max_power"], reasons["max_power"] = (
            largest,
            "five robust standard deviations above the particles' median (of the logarithm)",
        )
    passed = passed & _within(score, limits["min_ncc"], None) & _within(power, limits["min_power"], limits["max_power"])
    return picks.assign(pick_power_calibrated=power.numpy(), kept=passed.numpy() & ~refused), Decision(limits, line, reasons)


def has_power(picks: pd.DataFrame) -> bool:
    """Whether picks come with local powers, as those of firn's pickers do; scores of others need not be correlations."""
    return "pick_power" in picks.columns


def _has_templates(picks: pd.DataFrame) -> bool:
    """Whether picks are matches of templates, which know what a whole particle looks like; blobs do not."""
    return "class_number" in picks.columns


def too_large(picks: pd.DataFrame) -> str | None:
    """What to tell the user when nearly all particles match best at the smallest of several diameters tried; picks as `decide` gives them."""
    if "diameter" not in picks.columns or picks["diameter"].nunique() < 2 or int(picks["kept"].sum()) < FEWEST:
        return None
    smallest, share = share_at_smallest(picks, picks["kept"].to_numpy())
    if share < AT_THE_END:
        return None
    return (
        f"{share:.0%} of the picks match best at the smallest diameter tried, {smallest:.0f} Å: the particles are probably smaller, and such "
        "picks are off their centres and can give a wrong map; try smaller diameters, or blob_picker_tuner"
    )


def share_at_smallest(picks: pd.DataFrame, particles: np.ndarray) -> tuple[float, float]:
    """(smallest diameter in Å of all picks, share of the particles `(n,)` among them that match best at it)."""
    smallest = float(picks["diameter"].min())
    return smallest, float((picks.loc[particles, "diameter"] <= smallest * 1.001).mean())


def _calibrated(score: Tensor, power: Tensor, picks: pd.DataFrame, exposures: pd.DataFrame) -> Tensor:
    """Powers corrected for defocus, by the picks that a first division takes for particles."""
    if "defocus_u" not in exposures.columns or "defocus_v" not in exposures.columns:
        return power
    particles = divide_picks(score, power, _has_templates(picks)).passes(score, power)
    number = pd.Index(exposures["exposure_id"]).get_indexer(picks["exposure_id"])
    defocus = (exposures["defocus_u"] + exposures["defocus_v"]).to_numpy(dtype=np.float64) / 2
    return calibrate_power(power, particles, torch.from_numpy(number.astype(np.int64)), torch.tensor(defocus))


def _within(values: Tensor, low: float | None, high: float | None) -> Tensor:
    inside = torch.ones(len(values), dtype=torch.bool)
    if low is not None:
        inside = inside & (values >= low)
    if high is not None:
        inside = inside & (values <= high)
    return inside
