"""Particle images cut from one micrograph: outliers repaired, contrast inverted, Fourier-cropped, background levelled.

Convention: points are yx in micrograph pixels; the particle's centre is at index `n // 2` of its box, before and after
Fourier-cropping; protein is white; the background outside the particle circle has mean 0 and standard deviation 1.
"""

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
AT_ONCE_PX = {"cpu": 2**19}
"""Pixels cut at once, by type of device: few enough for a processor's cache."""


def repair_outliers(micrograph: Float[Tensor, "y x"], clip_sd: float) -> Float[Tensor, "y x"]:
    """The micrograph with pixels that are not finite, or more than clip_sd robust sd from the mean, replaced by their neighbours' mean."""
    sample = micrograph.flatten()[:: max(1, micrograph.numel() // SAMPLED)]
    sample = sample[torch.isfinite(sample)]
    if len(sample) == 0:
        return torch.nan_to_num(micrograph, nan=0.0, posinf=0.0, neginf=0.0)
    middle = sample.median()
    reach = clip_sd * 1.4826 * (sample - middle).abs().median()
    good = (micrograph >= middle - reach) & (micrograph <= middle + reach)
    if bool(good.all()):
        return micrograph
    return _mean_of_good(torch.where(good, micrograph, 0.0), good, middle)


def cut_particles(
    micrograph: Float[Tensor, "y x"],
    centres: Int[Tensor, "n 2"],
    box: int,
    crop: int,
    circle: float,
    invert: bool = True,
    plane: bool = True,
) -> Float[Tensor, "n crop crop"]:
    """Normalised particle images of side `crop`, from boxes of side `box` around integer centres; all boxes must fit.

    Both sides are even, so that the origin `n // 2` stays the origin without moving it to index 0 and back.
    circle: diameter of the particle circle in box sides. plane: level the background by a plane rather than a constant.
    """
    if len(centres) == 0:
        return micrograph.new_zeros(0, crop, crop)
    sign = -1.0 if invert else 1.0
    images = micrograph.new_empty(len(centres), crop, crop)
    size = max(1, AT_ONCE_PX.get(micrograph.device.type, 2**25) // box**2)
    for chunk, target in zip(centres.split(size), images.split(size), strict=True):
        target.copy_(normalise_background(_fourier_crop(crop_boxes(micrograph, chunk, box), crop), circle, plane, sign))
    return images


def normalise_background(images: Float[Tensor, "n m m"], circle: float, plane: bool = True, sign: float = 1.0) -> Float[Tensor, "n m m"]:
    """Images less the plane (or constant) fitted outside the circle by least squares, divided by the sd left there, times the sign.

    circle: diameter in box sides. Corners alone are used when the circle is wider than the box.
    """
    solver, basis, share = (part.to(images) for part in _background(images.shape[-1], circle, plane))
    flat = images.reshape(len(images), -1)
    level = torch.addmm(flat, flat @ solver, basis, alpha=-1)
    spread = torch.mv(level.square(), share).sqrt().clamp(min=1e-12)
    return level.mul_((sign / spread)[:, None]).reshape(images.shape)


@lru_cache(maxsize=4)
def _background(n: int, circle: float, plane: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(least squares solver `(n * n, k)`, plane or constant `(k, n * n)`, share of each background pixel in their mean)."""
    line = (torch.arange(n, dtype=torch.float64) - n // 2) / n
    y, x = torch.meshgrid(line, line, indexing="ij")
    outside = (y**2 + x**2 > (circle / 2) ** 2).flatten().double()
    basis = torch.stack((torch.ones_like(y), y, x), dim=-1).reshape(-1, 3)[:, : 3 if plane else 1]
    solver = outside[:, None] * basis @ torch.linalg.inv((outside[:, None] * basis).T @ basis)
    return solver.float(), basis.T.float().contiguous(), (outside / outside.sum()).float()


def _fourier_crop(boxes: Tensor, crop: int) -> Tensor:
    box = boxes.shape[-1]
    return boxes if crop == box else plain_irfft2(resize_spectra2(plain_rfft2(boxes), (box, box), (crop, crop)), (crop, crop))


def _mean_of_good(image: Tensor, good: Tensor, fallback: Tensor) -> Tensor:
    """Mean of the good pixels around every pixel that is not good; the fallback where there is none."""
    points = (~good).nonzero()
    margin = REPAIR_PX // 2
    out = image.clone()
    both = torch.nn.functional.pad(torch.stack((image, good.to(image.dtype))), (margin,) * 4)
    for chunk in points.split(4096):
        total, count = (crop_boxes(plane, chunk + margin, REPAIR_PX).sum((1, 2)) for plane in both)
        out[chunk[:, 0], chunk[:, 1]] = torch.where(count > 0, total / count.clamp(min=1), fallback)
    return out
