"""The size of particles that nothing is known of, from blobs of many diameters.

Particles are told from noise by blobs of about their size: then correlation and power of all maxima fall into two parts, and the
distance between those (Ashman's D) is large. That finds particles, but in clear images it is largest for too large a blob. Their
size is that of the ball that correlates best with them where they lie, in white noise and in a band that scales with the ball:
so coarse that only its envelope counts (scale selection as in Lindeberg, Int. J. Comput. Vis. 30, 79, 1998).
Convention: diameters in Å, on a geometric series; a merit of 0 says that a diameter divides nothing.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from firn.kernels.crop import boxes_fit, crop_boxes

RATIO = 2**0.25
"""Ratio of neighbouring diameters tried; a ball's response is about twice as wide."""
FINE_RATIO, REACH = 2**0.2, 2.0
"""Ratio of neighbouring diameters, and how far from the first estimate they go either way, when the size is refined."""
RIVAL, FAR = 0.9, 2.0
"""A diameter that differs by more than the second factor from the best must not come nearer to it in merit than the first."""


@dataclass(frozen=True)
class Scale:
    """The best diameter, or None with the reason why there is none."""

    diameter: float | None
    reason: str


def trial_diameters(smallest: float, largest: float, ratio: float = RATIO) -> list[float]:
    """Diameters from the smallest to the largest, a ratio or a little less apart."""
    steps = max(1, math.ceil(math.log(largest / smallest) / math.log(ratio) - 1e-9))
    return [smallest * (largest / smallest) ** (step / steps) for step in range(steps + 1)]


def values_around(scores: Float[Tensor, "y x"], points: Float[Tensor, "n 2"]) -> Float[Tensor, "n"]:
    """Largest of the pixel nearest to each point yx and its eight neighbours."""
    best = torch.nn.functional.max_pool2d(scores[None], kernel_size=3, stride=1, padding=1)[0]
    y, x = points.round().long().unbind(-1)
    return best[y.clamp(0, scores.shape[0] - 1), x.clamp(0, scores.shape[1] - 1)]


def best_scale(diameters: list[float], merits: list[float]) -> Scale:
    """The peak of the merit over the logarithm of the diameter, by a parabola through the best and its neighbours."""
    best = max(range(len(merits)), key=merits.__getitem__)
    span = f"{diameters[0]:.0f} and {diameters[-1]:.0f} Å"
    if merits[best] <= 0:
        return Scale(None, f"no diameter between {span} divides the maxima into particles and noise")
    rivals = [d for d, merit in zip(diameters, merits, strict=True) if merit > RIVAL * merits[best] and _ratio(d, diameters[best]) > FAR]
    if rivals:
        return Scale(None, f"blobs of {diameters[best]:.0f} Å and of {rivals[0]:.0f} Å match alike")
    if best in (0, len(merits) - 1):
        end = "smallest" if best == 0 else "largest"
        return Scale(None, f"blobs match best at the {end} diameter tried, {diameters[best]:.0f} Å")
    before, middle, after = merits[best - 1 : best + 2]
    offset = 0.5 * (before - after) / (before - 2 * middle + after) if before + after < 2 * middle else 0.0
    step = math.log(diameters[best + 1] / diameters[best])
    return Scale(diameters[best] * math.exp(offset * step), f"of the diameters between {span} blobs match best at this")


def mean_profile(image: Float[Tensor, "y x"], centres: Int[Tensor, "n 2"], side: int) -> Float[Tensor, "r"]:
    """Mean over the centres (yx) and over directions of the image at each whole distance in pixels, up to half the odd side."""
    fitting = centres[boxes_fit(centres, side, (image.shape[0], image.shape[1]))]
    if len(fitting) == 0:
        return image.new_zeros(side // 2 + 1)
    return radial_profile(crop_boxes(image, fitting, side).mean(0))


def radial_profile(image: Float[Tensor, "n n"]) -> Float[Tensor, "r"]:
    """Mean of an image of odd side at each whole distance from its centre, up to half its side."""
    half = image.shape[0] // 2
    line = torch.arange(image.shape[0], device=image.device) - half
    radius = torch.hypot(*torch.meshgrid(line.float(), line.float(), indexing="ij")).round().long().flatten()
    sums = torch.zeros(int(radius.max()) + 1, device=image.device).index_add(0, radius, image.flatten())
    return (sums / torch.bincount(radius).clamp(min=1))[: half + 1]


def likeness(profile: Float[Tensor, "r"], other: Float[Tensor, "r"]) -> float:
    """Correlation of two profiles, each ring weighted by its circumference."""
    weights = torch.arange(len(profile), device=profile.device).clamp(min=0.5)
    both = torch.stack((profile, other))
    both = both - (both * weights).sum(-1, keepdim=True) / weights.sum()
    unit = both / (both.square() * weights).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    return float((unit[0] * unit[1] * weights).sum())


def _ratio(one: float, other: float) -> float:
    return max(one / other, other / one)
