"""How much each 2D class average looks like a well-averaged, centred particle: a score from 0 to 1 per class.

The score is the product of three parts, each from 0 to 1 and relative to the better classes of the same run:
  signal   how much better the average explains its particles than nothing does (nats per particle), against 0.8 of the
           upper quartile over particles, or against CERTAIN where that is less: of strong particles, a class that blurs
           several views is no junk; four times the former level and more counts against a class, for ice and dirt are
           stronger than protein;
  shape    mean square of the positive density in the outer part of the mask against that inside: false picks, neighbours and
           gradients fill the mask to its edge, a particle does not (its dark CTF fringe does not count);
  centre   distance of the positive density's centre of mass from the centre of the box.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.mask import centre_distance

TOO_STRONG = 4.0
CERTAIN = 60.0
"""Nats per particle that settle that something is there: the best of all poses of a false pick reaches the logarithm of their number, about 10."""
USUAL_EDGE = 0.8
"""Outer over inner mean square at which the shape part is one half, when the better classes stay well below."""
USUAL_OFFSET = 0.3
"""Offset of the centre of mass, in mask radii, at which the centre part is 1 / e."""


class Quality(NamedTuple):
    """Parts and whole of the score, each `(k,)` in 0 ... 1."""

    score: Float[Tensor, " k"]
    signal: Float[Tensor, " k"]
    shape: Float[Tensor, " k"]
    centre: Float[Tensor, " k"]


def class_quality(
    averages: Float[Tensor, "k n n"], count: Float[Tensor, " k"], gain: Float[Tensor, " k"] | None, radius_px: float
) -> Quality:
    """Scores of the averages of one run; gain in nats per particle (None when unknown), radius_px of the circular mask."""
    signal = torch.ones_like(count) if gain is None else _signal(gain, count)
    edges = edge_ratio(averages, radius_px)
    usual = weighted_quantile(edges, count * (signal >= 0.7), 0.5)
    shape = 1 / (1 + (edges / max(USUAL_EDGE, 1.5 * usual)) ** 2)
    centre = torch.exp(-((offset(averages, radius_px) / USUAL_OFFSET) ** 2))
    return Quality(signal * shape * centre, signal, shape, centre)


def edge_ratio(averages: Float[Tensor, "k n n"], radius_px: float) -> Float[Tensor, " k"]:
    """Mean square of the positive density between 0.75 and 1 of the mask's radius over that within 0.7."""
    radius = centre_distance((averages.shape[-2], averages.shape[-1]), averages.device) / radius_px
    square = averages.clamp(min=0).square()
    outer, inner = square[:, (radius >= 0.75) & (radius <= 1)].mean(-1), square[:, radius < 0.7].mean(-1)
    return outer / inner.clamp(min=1e-20)


def offset(averages: Float[Tensor, "k n n"], radius_px: float) -> Float[Tensor, " k"]:
    """Distance, in mask radii, of the positive density's centre of mass from index n // 2."""
    n = averages.shape[-1]
    inside = centre_distance((n, n), averages.device) <= radius_px
    weight = averages.clamp(min=0) * inside
    axis = torch.arange(n, device=averages.device) - n // 2
    total = weight.sum((-2, -1)).clamp(min=1e-20)
    return torch.hypot((weight.sum(-1) * axis).sum(-1), (weight.sum(-2) * axis).sum(-1)) / total / radius_px


def weighted_quantile(values: Float[Tensor, " k"], weights: Float[Tensor, " k"], share: float) -> float:
    """Smallest value at or below which at least `share` of the weight lies."""
    order = torch.argsort(values)
    cumulative = weights[order].cumsum(0)
    place = int((cumulative < share * float(cumulative[-1])).sum())
    return float(values[order[min(place, len(values) - 1)]])


def _signal(gain: Float[Tensor, " k"], count: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    level = max(0.8 * weighted_quantile(gain, count, 0.75), 1e-6)
    return torch.where(gain > TOO_STRONG * level, TOO_STRONG * level / gain, (gain / min(level, CERTAIN)).clamp(0, 1))
