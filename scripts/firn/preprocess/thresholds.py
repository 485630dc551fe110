"""Which picks are particles: limits on correlation and on local power, found from all picks together.

Convention: scores are normalised cross-correlations, powers are variances in units of the noise, defocus in Å.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.mixture import Normals, discriminant, divide, fit_normals, separation

USUAL_NCC = 0.3
"""Correlation below which picks are refused when the data do not show where to divide."""
CLEAR, HIGHER = 2.0, 1.0
"""Ashman's D above which two distributions are clearly two, and above which one of them has higher scores at all."""
PARTS = 4
"""Normal parts at most: noise far from and beside particles, pieces of particles, whole particles."""
PIECE = 0.5**0.5
"""Own power below which a particle is a piece, in that of whole ones: half the mass has half the power, another view has all of it, and
this is the mean of their logarithms."""
STRONG = 5.0
"""Evidence for two distributions rather than one."""
SMALLEST_SHARES = (0.03, 0.01)
"""Shares of all picks that noise and particles must have at least."""
SMALLEST_PART = 15
"""Picks that noise and particles must have at least."""
POWER_SD = 5.0
"""Powers this many robust sd (of their logarithm) above the median of the particles are dirt."""
GROSS = 3.0
"""Log powers less than this above the median of all picks are never gross dirt: particles may be that much stronger than noise."""
FEWEST = 30
"""Picks needed for a distribution, exposures times picks needed for a regression."""
DEFOCUS_RANGE = 1.1
"""Ratio of largest to smallest defocus that a regression needs."""


@dataclass(frozen=True)
class PickLine:
    """Picks with `per_score * score + per_log_power * ln(power) >= least` are particles; reason says where the line came from.

    separation: how far apart the two parts are (Ashman's D), 0 when the picks do not fall into two clear parts.
    """

    per_score: float
    per_log_power: float
    least: float
    reason: str
    separation: float = 0.0

    def height(self, score: Tensor, power: Tensor) -> Tensor:
        """What must be `least` at least for each pick to be a particle."""
        return self.per_score * score + self.per_log_power * _log(power)

    def passes(self, score: Tensor, power: Tensor) -> Tensor:
        """Whether each pick lies on the particles' side."""
        return self.height(score, power) >= self.least


def divide_picks(score: Float[Tensor, "n"], power: Float[Tensor, "n"], whole: bool = False, most: int = PARTS) -> PickLine:
    """The line that divides noise from particles in the plane of score and log power, when the picks fall into two clear groups.

    Each group is one normal part or several: maxima beside a particle hold more power than others in noise, and pieces of
    particles correlate less than whole ones. Of two parts particles are the one whose amplitude (score times the root of the
    power, the matched filter's output) is larger. whole: refuse pieces where there are whole particles, which needs shapes that
    are known in detail. most: parts at most.
    """
    level = _log(power)
    ordinary = _ordinary(level)
    if int(ordinary.sum()) < FEWEST:
        return PickLine(1.0, 0.0, USUAL_NCC, f"only {len(score)} picks: the usual {USUAL_NCC:g}")
    plane = torch.stack((score, level), dim=-1)[ordinary]
    amplitude = torch.log(score.clamp(min=0.02))[ordinary] + 0.5 * level[ordinary]
    if bool(level[ordinary].std() < 1e-9):
        plane = plane[:, :1]
    apart = 0.0
    for fit, pieces, particles in _fits(plane, torch.cat((plane, amplitude[:, None]), dim=-1), whole, most):
        apart, line = _line(fit, pieces, particles, len(plane))
        if line is not None:
            return line
    return PickLine(1.0, 0.0, USUAL_NCC, f"the picks do not fall into two clear parts (separation {apart:.1f}): the usual {USUAL_NCC:g}")


def _fits(plane: Tensor, directions: Tensor, whole: bool, most: int) -> Iterator[tuple[Normals, Tensor, Tensor]]:
    """Fits, with the parts `(k,)` that are pieces of particles and those that are particles; the last one of two parts.

    More than two are used where there are pieces, or where the second of two has no higher scores: it then is no particles but noise
    beside them.
    """
    two = fit_normals(plane, directions)
    fit = fit_normals(plane, directions, most) if most > 2 else two
    if len(fit.weights) > 2:
        noise, pieces, particles = _kinds(fit, whole)
        if not bool(noise.all()) and (bool(pieces.any()) or not bool(_scores_above(two, 0, HIGHER)[1])):
            yield fit, pieces, particles
    number = torch.arange(2, device=plane.device)
    yield two, number > 1, number == 1


def _line(fit: Normals, pieces: Tensor, particles: Tensor, count: int) -> tuple[float, PickLine | None]:
    """(separation of particles from the rest, the line between them when they are clearly two)."""
    two = fit.merged([~particles, particles])
    found = divide(fit, particles, discriminant(two).clamp(min=0))
    enough = all(float(weight) >= max(share, SMALLEST_PART / count) for weight, share in zip(two.weights, SMALLEST_SHARES, strict=True))
    if not enough or fit.evidence < STRONG or found.separation < CLEAR:
        return found.separation, None
    low, high = two.means[:, 0].tolist()
    reason = f"the picks fall into two parts, with correlations around {low:.2f} and {high:.2f} (separation {found.separation:.1f})"
    if bool(pieces.any()):
        reason += f"; of the first, pieces of particles lie around {float(fit.means[pieces, 0].mean()):.2f}"
    per_score, per_log_power = (*found.direction.tolist(), 0.0)[:2]
    return found.separation, PickLine(per_score, per_log_power, found.level, reason, found.separation)


def _kinds(fit: Normals, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Parts `(k,)` that are noise, pieces of particles and particles, of a fit in order of amplitude.

    Noise is the part of least score and those whose scores are not clearly higher; the rest are particles. A part that is clearly
    apart from the strongest of these holds pieces when its own power, what it has more than noise, is less than PIECE of theirs.
    """
    noise = ~_scores_above(fit, int(fit.means[:, 0].argmin()))
    strong = torch.nonzero(~noise & (fit.weights >= SMALLEST_SHARES[1])).flatten()
    if not whole or len(strong) == 0 or fit.means.shape[1] < 2:
        return noise, torch.zeros_like(noise), ~noise
    best = int(strong[-1])
    powers = torch.exp(fit.means[:, 1] + 0.5 * fit.covariances[:, 1, 1])
    own = powers - (fit.weights * powers)[noise].sum() / fit.weights[noise].sum()
    weak = ~noise & (own < PIECE * own[best])
    pieces = torch.stack([weak[part] & _apart(fit, part, best) for part in range(len(noise))])
    return noise, pieces, ~noise & ~pieces


def _scores_above(fit: Normals, least: int, separation: float = CLEAR) -> Tensor:
    """Parts `(k,)` whose scores are higher than those of one of them by a separation (Ashman's D)."""
    score, width = fit.means[:, 0], fit.covariances[:, 0, 0]
    return score - score[least] >= separation * (0.5 * (width + width[least])).sqrt()


def _apart(fit: Normals, low: int, high: int) -> bool:
    """Whether two parts are clearly two."""
    two = fit.chosen([low, high])
    return low != high and separation(two, discriminant(two).clamp(min=0)) >= CLEAR


def calibrate_power(
    power: Float[Tensor, "n"], kept: Bool[Tensor, "n"], exposure: Int[Tensor, "n"], defocus: Float[Tensor, "e"]
) -> Float[Tensor, "n"]:
    """Power each pick would have at the median defocus.

    The slope of log median power of the kept picks of an exposure over its log defocus is the median of the slopes of all
    pairs (Theil 1950, Sen 1968); exposures without a defocus (NaN) keep their powers.
    """
    level = _log(power)
    medians = torch.stack([_median_of(level[kept & (exposure == number)]) for number in range(len(defocus))])
    usable = torch.isfinite(medians) & torch.isfinite(defocus) & (defocus > 0)
    if int(usable.sum()) < 5 or bool(defocus[usable].max() < DEFOCUS_RANGE * defocus[usable].min()):
        return power
    depth = torch.log(defocus.clamp(min=1.0))
    slope = _median_slope(depth[usable], medians[usable])
    offset = torch.where(torch.isfinite(depth), depth - depth[usable].median(), 0.0)
    return torch.exp(level - slope * offset[exposure])


def largest_power(power: Float[Tensor, "n"], kept: Bool[Tensor, "n"]) -> float | None:
    """Largest plausible power of a particle, from the powers of the picks kept so far; None when they are few."""
    if int(kept.sum()) < FEWEST:
        return None
    level = _log(power[kept]).double()
    middle = level.median()
    spread = POWER_SD * max(1.4826 * float((level - middle).abs().median()), 0.05)
    return float(torch.exp(middle + spread))


def far_counts(counts: Float[Tensor, "e"]) -> Bool[Tensor, "e"]:
    """Exposures whose number of picks is far from the median: beyond 4 robust sd of the square roots (Anscombe 1948)."""
    root = torch.sqrt(counts + 0.375)
    spread = torch.clamp(1.4826 * (root - root.median()).abs().median(), min=0.5)
    return (root - root.median()).abs() > 4 * spread


def _log(power: Tensor) -> Tensor:
    return torch.log(power.clamp(min=1e-12))


def _ordinary(level: Tensor) -> Tensor:
    """Values not far above the median: gross dirt must not be taken for one of the two parts."""
    if len(level) == 0:
        return torch.zeros(0, dtype=torch.bool)
    above = level - level.median()
    return above <= torch.clamp(8 * 1.4826 * above.abs().median(), min=GROSS)


def _median_of(values: Tensor) -> Tensor:
    return values.median() if len(values) >= 5 else values.new_tensor(float("nan"))


def _median_slope(x: Tensor, y: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(x), len(x), offset=1)
    run = x[second] - x[first]
    far = run.abs() > 1e-3
    return ((y[second] - y[first])[far] / run[far]).median()
