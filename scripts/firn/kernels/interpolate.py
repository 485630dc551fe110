"""Resampling of images at displaced positions with little loss: cubic splines whose prefilter is exact.

Convention: moving by a shift takes `out(r) = in(r - shift(r))`; shifts are yx in pixels, towards larger indices.
The prefilter is a factor in Fourier space, where the global shift is applied anyway. Two passes in one dimension (x, then y):
for shifts that vary slowly their order changes positions by (shift) x (its gradient), some thousandths of a pixel.
Source: Unser, IEEE Signal Process. Mag. 16(6), 22 (1999); two passes: Catmull & Smith, SIGGRAPH 1980.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.fourier import frequencies2


def spline_prefilter(shape: tuple[int, int], device: torch.device | str = "cpu") -> tuple[Float[Tensor, "h 1"], Float[Tensor, "w"]]:
    """Factors (over rows, over rfft columns) that turn the spectrum of an image into that of its cubic B-spline coefficients."""
    grid = frequencies2(shape, device)
    rows, columns = grid[:, :1, 0], grid[0, :, 1]
    return 3 / (2 + torch.cos(2 * torch.pi * rows)), 3 / (2 + torch.cos(2 * torch.pi * columns))


def warp_coefficients(coefficients: Float[Tensor, "h w"], shifts: Float[Tensor, "2 h w"]) -> Float[Tensor, "h w"]:
    """The image of cubic B-spline coefficients moved by a slowly varying shift (y, then x component); the edge pixel is repeated."""
    along_x = _resample(coefficients, shifts[1], 1)
    return _resample(along_x, shifts[0], 0)


def _resample(values: Float[Tensor, "h w"], shift: Float[Tensor, "h w"], axis: int) -> Float[Tensor, "h w"]:
    """Values of the spline along one axis at each pixel's position less its shift."""
    size = values.shape[axis]
    index = torch.arange(size, device=values.device, dtype=values.dtype)
    position = (index[:, None] if axis == 0 else index) - shift
    base = position.floor()
    f = position - base
    base = base.long()
    g = 1 - f
    weights = (g**3, 4 - 3 * f.square() * (1 + g), 4 - 3 * g.square() * (1 + f), f**3)
    total = torch.zeros_like(values)
    for tap, weight in zip((-1, 0, 1, 2), weights, strict=True):
        total.addcmul_(weight, torch.gather(values, axis, (base + tap).clamp_(0, size - 1)), value=1 / 6)
    return total
