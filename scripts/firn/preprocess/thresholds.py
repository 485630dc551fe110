"""Which picks are particles: limits on correlation and on local power, found from all picks together.

Convention: scores are normalised cross-correlations, powers are variances in units of the noise, defocus in Å.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.mixture import fit_two_normals

USUAL_NCC = 0.3
"""Correlation below which picks are refused when the data do not show where to divide."""
CLEAR = 2.0
"""Ashman's D above which two distributions are clearly two."""
SMALLEST_SHARE = 0.01
"""Share of picks that either distribution must have."""
POWER_SD = 5.0
"""Powers this many robust sd (of their logarithm) from the median of the particles are dirt or empty ice."""
FEWEST = 30
"""Picks needed for a distribution, exposures times picks needed for a regression."""
DEFOCUS_RANGE = 1.1
"""Ratio of largest to smallest defocus that a regression needs."""


@dataclass(frozen=True)
class ScoreLimit:
    """A threshold on the score and why it was chosen."""

    value: float
    reason: str


def divide_scores(scores: Float[Tensor, "n"]) -> ScoreLimit:
    """Score that divides noise maxima from particles, when the distribution of all picks has two clear parts."""
    if len(scores) < FEWEST:
        return ScoreLimit(USUAL_NCC, f"only {len(scores)} picks: the usual {USUAL_NCC:g}")
    fit = fit_two_normals(scores)
    clear = fit.separation >= CLEAR and min(fit.weights) >= SMALLEST_SHARE
    if not clear:
        return ScoreLimit(USUAL_NCC, f"scores do not fall into two parts (separation {fit.separation:.1f}): the usual {USUAL_NCC:g}")
    reason = f"scores fall into two parts, around {fit.means[0]:.2f} and {fit.means[1]:.2f} (separation {fit.separation:.1f})"
    return ScoreLimit(fit.crossing, reason)


def calibrate_power(
    power: Float[Tensor, "n"], kept: Bool[Tensor, "n"], exposure: Int[Tensor, "n"], defocus: Float[Tensor, "e"]
) -> Float[Tensor, "n"]:
    """Power each pick would have at the median defocus.

    The slope of log median power of the kept picks of an exposure over its log defocus is the median of the slopes of all
    pairs (Theil 1950, Sen 1968); exposures without a defocus (NaN) keep their powers.
    """
    level = torch.log(power.clamp(min=1e-12))
    medians = torch.stack([_median_of(level[kept & (exposure == number)]) for number in range(len(defocus))])
    usable = torch.isfinite(medians) & torch.isfinite(defocus) & (defocus > 0)
    if int(usable.sum()) < 5 or bool(defocus[usable].max() < DEFOCUS_RANGE * defocus[usable].min()):
        return power
    depth = torch.log(defocus.clamp(min=1.0))
    slope = _median_slope(depth[usable], medians[usable])
    offset = torch.where(torch.isfinite(depth), depth - depth[usable].median(), 0.0)
    return torch.exp(level - slope * offset[exposure])


def power_limits(power: Float[Tensor, "n"], kept: Bool[Tensor, "n"]) -> tuple[float, float] | None:
    """(least, greatest) plausible power of a particle, from the powers of the picks that pass the score; None when they are few."""
    if int(kept.sum()) < FEWEST:
        return None
    level = torch.log(power[kept].clamp(min=1e-12)).double()
    middle = level.median()
    spread = POWER_SD * max(1.4826 * float((level - middle).abs().median()), 0.05)
    return float(torch.exp(middle - spread)), float(torch.exp(middle + spread))


def far_counts(counts: Float[Tensor, "e"]) -> Bool[Tensor, "e"]:
    """Exposures whose number of picks is far from the median: beyond 4 robust sd of the square roots (Anscombe 1948)."""
    root = torch.sqrt(counts + 0.375)
    spread = torch.clamp(1.4826 * (root - root.median()).abs().median(), min=0.5)
    return (root - root.median()).abs() > 4 * spread


def _median_of(values: Tensor) -> Tensor:
    return values.median() if len(values) >= 5 else values.new_tensor(float("nan"))


def _median_slope(x: Tensor, y: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(x), len(x), offset=1)
    run = x[second] - x[first]
    far = run.abs() > 1e-3
    return ((y[second] - y[first])[far] / run[far]).median()
