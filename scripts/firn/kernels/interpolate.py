"""Resampling of images at displaced positions with little loss: cubic splines in strips of rows that stay in a processor's cache.

Convention: moving by a shift takes `out(r) = in(r - shift(r))`; shifts are yx in pixels, towards larger indices; images are periodic.
The spline's prefilter is a convolution, so that it may as well follow the resampling: many frames are summed first and the factor
is applied once, in the Fourier space of the sum. For shifts that vary slowly the order makes no difference that can be measured.
Source: Unser, IEEE Signal Process. Mag. 16(6), 22 (1999); two passes: Catmull & Smith, SIGGRAPH 1980.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from firn.kernels.fourier import frequencies2


def spline_prefilter(shape: tuple[int, int], device: torch.device | str = "cpu") -> tuple[Float[Tensor, "h 1"], Float[Tensor, "w"]]:
    """Factors (over rows, over rfft columns) that turn the spectrum of an image into that of its cubic B-spline coefficients."""
    grid = frequencies2(shape, device)
    rows, columns = grid[:, :1, 0], grid[0, :, 1]
    return 3 / (2 + torch.cos(2 * torch.pi * rows)), 3 / (2 + torch.cos(2 * torch.pi * columns))


def spline_taps(shifts: Float[Tensor, "f n"], repeat: int, size: int) -> tuple[Tensor, list[int], Float[Tensor, "f t size"]]:
    """(first tap `(f,)`, number of taps of each row, their weights): `out(i) = sum_t weight[t, i] in(i + first + t)`.

    Each shift holds for so many pixels on end; size: pixels of the line.
    """
    first = (-shifts.amax(dim=1)).floor().long() - 1
    counts = (-shifts.amin(dim=1)).floor().long() + 3 - first
    taps = first[:, None] + torch.arange(int(counts.max()), device=shifts.device)
    distance = (taps[:, :, None] + shifts[:, None]).abs()
    weights = ((2 - distance).clamp(min=0) ** 3 - 4 * (1 - distance).clamp(min=0) ** 3) / 6
    return first, counts.tolist(), weights.repeat_interleave(repeat, dim=2)[:, :, :size]


def periodic_rows(image: Shaped[Tensor, "y x"], start: int, count: int) -> Shaped[Tensor, "count x"]:
    """Rows start, start + 1, ... of an image that repeats itself."""
    height = image.shape[0]
    start %= height
    end = start + count
    if end <= height:
        return image[start:end]
    return torch.cat((image[start:], *[image] * (end // height - 1), image[: end % height]))


def resample_rows_(
    strip_: Float[Tensor, "h w"],
    source: Float[Tensor, "k w"],
    rows: Float[Tensor, "ty w"],
    columns: Float[Tensor, "tx w"],
    first_column: int,
) -> None:
    """Fill a strip with source rows (`k = h + ty - 1`) weighted along y, then along x, both weights given per column."""
    height, width = strip_.shape
    first_column = (first_column + width // 2) % width - width // 2
    left, right = max(0, -first_column), max(0, first_column + len(columns) - 1)
    wide = strip_.new_empty(height, left + width + right)
    middle = wide[:, left : left + width]
    lower = source.as_strided((len(rows), height, width), (source.stride(0), *source.stride()), source.storage_offset())
    _add_taps_(middle, lower.unbind(), rows.unbind())
    _repeat_edges(wide, left, right)
    _add_taps_(strip_, wide.unfold(1, width, 1)[:, left + first_column :].unbind(1), columns.unbind())


def _add_taps_(out_: Tensor, moved: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Fill an image with the weighted sum of moved ones; as many of them as there are weights."""
    torch.mul(moved[0], weights[0], out=out_)
    for image, weight in zip(moved[1:], weights[1:], strict=False):
        out_.addcmul_(image, weight)


def _repeat_edges(wide: Tensor, left: int, right: int) -> None:
    """Fill the margins of rows with what lies a period away."""
    width = wide.shape[1] - left - right
    if left:
        wide[:, :left] = wide[:, width : width + left].clone()
    if right:
        wide[:, left + width :] = wide[:, left : left + right].clone()
