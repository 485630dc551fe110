"""Particle images cut from one micrograph: outliers repaired, contrast inverted, Fourier-cropped, background levelled.

Convention: points are yx in micrograph pixels; the particle's centre is at index `n // 2` of its box, before and after
Fourier-cropping; protein is white; the background outside the particle circle has mean 0 and standard deviation 1.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from firn.kernels.crop import crop_boxes
from firn.kernels.fourier import plain_irfft2, plain_rfft2, resize_spectra2

REPAIR_PX = 11
"""Side of the neighbourhood whose mean replaces an outlier."""
SAMPLED = 2**18
"""Pixels whose spread tells outliers."""
AT_ONCE_PX = {"cpu": 2**18}
"""Pixels cut at once, by type of device: few enough for a processor's cache."""


def repair_outliers(micrograph: Float[Tensor, "y x"], clip_sd: float) -> Float[Tensor, "y x"]:
    """The micrograph with pixels that are not finite, or more than clip_sd robust sd from the median, replaced by their neighbours' mean."""
    sample = micrograph.flatten()[:: max(1, micrograph.numel() // SAMPLED)]
    sample = sample[torch.isfinite(sample)]
    if len(sample) == 0:
        return torch.nan_to_num(micrograph, nan=0.0, posinf=0.0, neginf=0.0)
    middle = sample.median()
    reach = clip_sd * 1.4826 * (sample - middle).abs().median()
    points = _outside(micrograph, middle - reach, middle + reach)
    return _repaired(micrograph, points, middle - reach, middle + reach, middle) if len(points) else micrograph


def _outside(micrograph: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Points yx of pixels that are not between low and high; rows without any are passed over after one look."""
    least, greatest = micrograph.amin(1), micrograph.amax(1)
    rows = (~((least >= low) & (greatest <= high))).nonzero()[:, 0]
    found = (~_within(micrograph[rows], low, high)).nonzero()
    return torch.stack((rows[found[:, 0]], found[:, 1]), dim=-1)


def _within(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (values >= low) & (values <= high)


def _repaired(micrograph: Tensor, points: Tensor, low: Tensor, high: Tensor, fallback: Tensor) -> Tensor:
    """The micrograph with the mean of the good pixels around each of the points; the fallback where there is none."""
    reach = torch.arange(REPAIR_PX, device=micrograph.device) - REPAIR_PX // 2
    limit = torch.tensor(micrograph.shape, device=micrograph.device)
    out = micrograph.clone()
    for chunk in points.split(4096):
        y, x = chunk[:, 0, None, None] + reach[:, None], chunk[:, 1, None, None] + reach
        inside = (y >= 0) & (y < limit[0]) & (x >= 0) & (x < limit[1])
        values = micrograph[y.clamp(min=0).minimum(limit[0] - 1), x.clamp(min=0).minimum(limit[1] - 1)]
        good = inside & _within(values, low, high)
        count = good.sum((1, 2))
        mean = torch.where(good, values, 0.0).sum((1, 2)) / count.clamp(min=1)
        out[chunk[:, 0], chunk[:, 1]] = torch.where(count > 0, mean, fallback)
    return out


def cut_particles(
    micrograph: Float[Tensor, "y x"],
    centres: Int[Tensor, "n 2"],
    box: int,
    crop: int,
    circle: float,
    invert: bool = True,
    plane: bool = True,
) -> Iterator[Float[Tensor, "m crop crop"]]:
    """Normalised particle images of side `crop`, some at a time, from boxes of side `box` around integer centres; all boxes must fit.

    Each part is good until the next is asked for. Both sides are even, so that the origin `n // 2` stays the origin without moving it to index 0 and back.
    circle: diameter of the particle circle in box sides. plane: level the background by a plane rather than a constant.
    """
    sign = -1.0 if invert else 1.0
    size = max(1, AT_ONCE_PX.get(micrograph.device.type, 2**25) // box**2)
    images, squares = micrograph.new_empty(2, min(size, len(centres)), crop, crop)
    for chunk in centres.split(size) if len(centres) else ():
        part = images[: len(chunk)]
        part.copy_(_fourier_crop(crop_boxes(micrograph, chunk, box), crop))
        _normalise_(part, squares[: len(chunk)], circle, plane, sign)
        yield part


def normalise_background(images: Float[Tensor, "n m m"], circle: float, plane: bool = True, sign: float = 1.0) -> Float[Tensor, "n m m"]:
    """Images less the plane (or constant) fitted outside the circle by least squares, divided by the sd left there, times the sign.

    circle: diameter in box sides. Corners alone are used when the circle is wider than the box.
    """
    level = images.clone()
    _normalise_(level, torch.empty_like(level), circle, plane, sign)
    return level


def _normalise_(images_: Tensor, squares_: Tensor, circle: float, plane: bool, sign: float) -> None:
    """Normalise images `(n, m, m)` where they lie; squares, of the same shape, is room to work in: new memory costs more than the sums."""
    solver, basis, share = (part.to(images_) for part in _background(images_.shape[-1], circle, plane))
    flat = images_.view(len(images_), -1)
    coefficients = torch.stack([torch.mv(flat, row) for row in solver], dim=-1)
    flat.addmm_(coefficients, basis, alpha=-1)
    spread = torch.mv(torch.mul(flat, flat, out=squares_.view_as(flat)), share).sqrt().clamp(min=1e-12)
    flat.mul_((sign / spread)[:, None])


@lru_cache(maxsize=4)
def _background(n: int, circle: float, plane: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(least squares solver `(k, n * n)`, plane or constant `(k, n * n)`, share of each background pixel in their mean)."""
    line = (torch.arange(n, dtype=torch.float64) - n // 2) / n
    y, x = torch.meshgrid(line, line, indexing="ij")
    outside = (y**2 + x**2 > (circle / 2) ** 2).flatten().double()
    basis = torch.stack((torch.ones_like(y), y, x), dim=-1).reshape(-1, 3)[:, : 3 if plane else 1]
    solver = outside[:, None] * basis @ torch.linalg.inv((outside[:, None] * basis).T @ basis)
    return solver.T.float().contiguous(), basis.T.float().contiguous(), (outside / outside.sum()).float()


def _fourier_crop(boxes: Tensor, crop: int) -> Tensor:
    box = boxes.shape[-1]
    return boxes if crop == box else plain_irfft2(resize_spectra2(plain_rfft2(boxes), (box, box), (crop, crop)), (crop, crop))
