"""Resampling of images at displaced positions with little loss.

Convention: moving by a shift takes `out(r) = in(r - shift(r))`; shifts are yx in pixels, towards larger indices.
Two passes of one-dimensional windowed-sinc interpolation (x, then y): for displacements that vary slowly the order of the
passes changes positions by less than (shift) x (its gradient), some thousandths of a pixel for a specimen.
Source: Lanczos kernel of 8 taps, weights normalised to sum 1; two passes: Catmull & Smith, SIGGRAPH 1980.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

HALF_TAPS = 4
SMALLEST = 1e-6


def warp_image(image: Float[Tensor, "h w"], shifts: Float[Tensor, "2 h w"]) -> Float[Tensor, "h w"]:
    """The image moved by a slowly varying shift (y and x components first); beyond the edge its nearest pixel counts."""
    along_x = _resample_rows(image, shifts[1])
    return _resample_rows(along_x.T.contiguous(), shifts[0].T.contiguous()).T.contiguous()


def _resample_rows(image: Float[Tensor, "h w"], shift: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Each row moved along itself by the shift of each of its pixels."""
    width = image.shape[1]
    position = torch.arange(width, device=image.device, dtype=image.dtype) - shift
    base = position.floor()
    fraction = (position - base).clamp(SMALLEST, 1 - SMALLEST)
    base = base.long()
    total, weights_sum = torch.zeros_like(image), torch.zeros_like(image)
    for tap, weight in _lanczos_weights(fraction):
        total.addcmul_(weight, torch.gather(image, 1, (base + tap).clamp_(0, width - 1)))
        weights_sum.add_(weight)
    return total / weights_sum


def _lanczos_weights(fraction: Tensor) -> list[tuple[int, Tensor]]:
    """(tap, weight) of the 2 x HALF_TAPS taps; the sines of all taps follow from those of the fraction by angle sums."""
    sine = torch.sin(math.pi * fraction)
    slow_sine, slow_cosine = torch.sin(math.pi / HALF_TAPS * fraction), torch.cos(math.pi / HALF_TAPS * fraction)
    weights = []
    for tap in range(1 - HALF_TAPS, HALF_TAPS + 1):
        angle = math.pi * tap / HALF_TAPS
        window = slow_sine * math.cos(angle) - slow_cosine * math.sin(angle)
        weights.append((tap, (-1) ** tap * HALF_TAPS / math.pi**2 * sine * window / (fraction - tap).square()))
    return weights
