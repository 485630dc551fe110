"""Operands of score products in half precision, whose sums are kept in single precision.

Convention: an operand is its `values` (float16) times a power of two per line, chosen so that a line's largest value lies between 2^13 and
2^14: two factors of two below overflow, and normal numbers (11 bits) down to 2^-27 of it.

Error. Rounding is off by up to half of 2^-10 of a number's power of two, evenly, so by 2^-11 / sqrt(3) of it in root mean square; the numbers
themselves have sqrt(3 / 2 ln 2) of it (logarithmic mantissa). Both factors of a product together: ERROR = 2^-11 sqrt(4 ln 2 / 9) = 2.71e-4. With
k = |c p|² / s the expected power of a coefficient in units of its noise, a cross term is off by ERROR sqrt(sum k + 1.5 k²) nats, the sum
over the whole Fourier plane: 0.005 for a sum of 340, but 0.05 where a hundred coefficients have k = 15. So the points with the largest k
get two half-precision numbers, value and remainder, of which three products are summed; as few of them as leave TOLERATED nats to the others.
Norms are sums of positive terms, larger than the spread of the scores: they stay in single precision.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

ERROR = 2**-11 * math.sqrt(4 * math.log(2) / 9)
TOLERATED = 0.01
"""Root mean square error in nats of the points that are not split; the largest of 10,000 such errors is four times as large."""
TOP = 13
MULTIPLE = 32
"""Depth of a step of the product: lines are padded to a multiple of it."""


@dataclass(frozen=True)
class HalfLines:
    """Lines of an operand and powers of two: one for each line, or for all lines `(t, k)` of an image."""

    values: Float16[Tensor, "n *t k"]
    scales: Float[Tensor, " n"]


def split_points(powers: Float[Tensor, "g m"], noise: Float[Tensor, " m"], weights: Float[Tensor, " m"], scaled: bool) -> Int[Tensor, " s"]:
    """Points that need two half-precision numbers, given the powers w |p|² / 2 of projections and the noise variance of images.

    scaled: whether projections are on the images' grey scale; if not, their largest expected power is taken to be that of the noise, which
    then was estimated from images as if they held nothing else.
    """
    strength = torch.linalg.vector_norm(powers, dim=0) * (2 / math.sqrt(max(len(powers), 1))) / (weights * noise)
    if not scaled:
        strength = strength / strength.max().clamp(min=torch.finfo(strength.dtype).tiny)
    harm = weights * (strength + 1.5 * strength**2)
    ordered, points = harm.sort(descending=True)
    left = ordered.flip(0).cumsum(0).flip(0)
    return points[left > (TOLERATED / ERROR) ** 2]


def half_rows(rows: Float[Tensor, "b t m2"], split: Int[Tensor, " s"]) -> HalfLines:
    """Left operand: values, the split ones again, their remainders. One power of two per image."""
    scales = _powers_of_two(rows.abs().amax(dim=(1, 2)))
    first, rest = _halves(rows / scales[:, None, None], split)
    return HalfLines(_padded((*first, rest)), scales)


def half_columns(columns: Float[Tensor, "g m2"], split: Int[Tensor, " s"]) -> HalfLines:
    """Right operand: values, the remainders of the split ones, the split ones again."""
    scales = _powers_of_two(columns.abs().amax(dim=1))
    (values, again), rest = _halves(columns / scales[:, None], split)
    return HalfLines(_padded((values, rest, again)), scales)


def _powers_of_two(largest: Tensor) -> Tensor:
    """What brings values up to the largest below 2^(TOP + 1); 1 for a line of zeros."""
    safe = torch.where(largest > 0, largest, 2.0**TOP)
    return torch.ldexp(torch.ones_like(safe), torch.frexp(safe).exponent - 1 - TOP)


def _halves(lines: Tensor, split: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """((rounded values, those of split points), remainders of split points)."""
    where = (2 * split[:, None] + torch.arange(2, device=split.device)).flatten()
    values = lines.half()
    return (values, values[..., where]), (lines[..., where] - values[..., where].float()).half()


def _padded(parts: tuple[Tensor, ...]) -> Tensor:
    lines = torch.cat(parts, dim=-1)
    return torch.nn.functional.pad(lines, (0, -lines.shape[-1] % MULTIPLE))
