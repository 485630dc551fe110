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

BAND_ROWS = 64


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
    """Values of the spline along one axis at each pixel's position less its shift; on a CPU in bands that stay in its cache."""
    height = values.shape[0]
    band = BAND_ROWS if values.device.type == "cpu" else height
    return torch.cat([_resample_band(values, shift[start : start + band], axis, start) for start in range(0, height, band)])


def _resample_band(values: Float[Tensor, "h w"], shift: Float[Tensor, "b w"], axis: int, start: int) -> Float[Tensor, "b w"]:
    size = values.shape[axis]
    first, count = (start, len(shift)) if axis == 0 else (0, size)
    index = torch.arange(first, first + count, device=values.device, dtype=values.dtype)
    position = (index[:, None] if axis == 0 else index) - shift
    base = position.floor()
    f = position - base
    base = base.long()
    g = 1 - f
    weights = (g**3, 4 - 3 * f.square() * (1 + g), 4 - 3 * g.square() * (1 + f), f**3)
    source = values if axis == 0 else values[start : start + len(shift)]
    total = torch.zeros_like(shift)
    for tap, weight in zip((-1, 0, 1, 2), weights, strict=True):
        total.addcmul_(weight, torch.gather(source, axis, (base + tap).clamp_(0, size - 1)), value=1 / 6)
    return total
