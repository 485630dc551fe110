"""A micrograph at picking resolution: padding and background removed, protein white, scaled to the noise.

Convention: the micrograph is given as stored (protein dark); lengths in Å.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.fourier import frequencies2, plain_irfft2, plain_rfft2, resize_spectra2
from firn.kernels.templates import high_pass_filter, low_pass_filter

SAMPLING = 2.4
"""Pixels per low-pass period: a little finer than Nyquist, so that the soft edge of the filter fits."""
BACKGROUND = 2.0
"""What varies over more than this many diameters is background."""
SHADING = 6.0
"""What varies over more than this many diameters is ice, carbon or contamination, not particles."""
FITTED_PIXELS = 40_000
"""Pixels that the plane of the ice is fitted to."""
PADDING, PICTURE = 0.1, 0.5
"""Shares of the usual energy of the change between rows: what has less than the first is padding, from the second on it is picture."""
STILL, SKIPPED = 8, 4
"""Rows in a row that make padding; of each, one pixel in so many is looked at."""


@dataclass(frozen=True)
class Reduced:
    """A micrograph at picking resolution, white protein, in units of the white noise per pixel.

    `image` has the background removed, `shading` is what varies slowly, `valid` says which pixels are known,
    `stride` is pixels of the micrograph per pixel here, yx.
    """

    image: Tensor
    shading: Tensor
    valid: Tensor
    pixel_size: float
    stride: tuple[float, float]


def picking_pixel_size(pixel_size: float, low_pass: float) -> float:
    """Å per pixel to pick at, never finer than the micrograph."""
    return max(pixel_size, low_pass / SAMPLING)


def reduce_micrograph(micrograph: Float[Tensor, "y x"], pixel_size: float, low_pass: float, diameter: float) -> Reduced:
    """Fourier-crop to the picking resolution, split off the background, invert, and scale to the noise.

    The noise is the power between 0.6 and 0.9 of Nyquist of the micrograph as given, where protein adds next to nothing.
    """
    filled, known = _fill_unknown(micrograph)
    full = (micrograph.shape[0], micrograph.shape[1])
    factor = picking_pixel_size(pixel_size, low_pass) / pixel_size
    shape = (max(2, 2 * round(full[0] / factor / 2)), max(2, 2 * round(full[1] / factor / 2))) if factor > 1 else full
    stride = (full[0] / shape[0], full[1] / shape[1])
    level = _without_plane(filled)
    spectrum = plain_rfft2(level)
    noise = _white_noise(spectrum, full, level.var()) / (stride[0] * stride[1]) ** 0.5
    small = -plain_irfft2(resize_spectra2(spectrum, full, shape), shape) / noise
    pixel = pixel_size * (stride[0] * stride[1]) ** 0.5
    image, shading = _split_background(small, pixel, low_pass, diameter)
    return Reduced(image, shading, _reduce_mask(known, shape), pixel, stride)


def _fill_unknown(micrograph: Tensor) -> tuple[Tensor, Tensor]:
    """(micrograph with padding mirrored and other unknown pixels at the mean, which pixels are known)."""
    known = torch.isfinite(micrograph)
    filled = micrograph
    if not bool(known.all()):
        filled = torch.where(known, micrograph, micrograph[known].mean() if bool(known.any()) else 0.0)
    top, bottom, left, right = (*_padding(filled, 0), *_padding(filled, 1))
    if top + bottom + left + right == 0:
        return filled, known
    frame = slice(top, filled.shape[0] - bottom), slice(left, filled.shape[1] - right)
    inside = torch.zeros_like(known)
    inside[frame] = True
    return torch.nn.functional.pad(filled[None][:, *frame], (left, right, top, bottom), mode="reflect")[0], known & inside


def _padding(image: Tensor, axis: int) -> tuple[int, int]:
    """Rows (axis 0) or columns at either end that only repeat their neighbour: what alignment left blank or smeared.

    A run of STILL rows with less than PADDING of the usual change is padding, and so is all outside it; a filter may have smeared
    its border, so the picture begins where the change reaches PICTURE.
    """
    sample = image[:, ::SKIPPED] if axis == 0 else image[::SKIPPED]
    change = sample.diff(dim=axis).square().mean(1 - axis)
    change = change / change.median().clamp(min=1e-12)
    ends = [_padded_rows(end) for end in (change, change.flip(0))]
    return ends[0], ends[1]


def _padded_rows(change: Tensor) -> int:
    most = len(change) // 8
    if most < STILL:
        return 0
    runs = (change[:most] < PADDING).unfold(0, STILL, 1).all(-1).nonzero()
    if len(runs) == 0:
        return 0
    inner = int(runs.max()) + STILL
    return inner + int((change[inner : 2 * inner] >= PICTURE).float().argmax())


def _split_background(small: Tensor, pixel_size: float, low_pass: float, diameter: float) -> tuple[Tensor, Tensor]:
    """(band-passed image, slow shading)."""

    def filters(radius: Tensor) -> Tensor:
        frequencies = radius / pixel_size
        fast = low_pass_filter(frequencies, low_pass) * high_pass_filter(frequencies, BACKGROUND * diameter)
        return torch.stack((fast, 1 - high_pass_filter(frequencies, SHADING * diameter)))

    fast, slow = filter_mirrored(small, BACKGROUND * diameter / pixel_size, filters)
    return fast, slow


def filter_mirrored(image: Float[Tensor, "y x"], border: float, filters: Callable[[Tensor], Tensor]) -> Float[Tensor, "*k y x"]:
    """The image filtered with mirrored borders, so that opposite edges do not meet.

    border: pixels mirrored at each side. filters: factors `(*k, n, f)` at frequencies `(n, f)` in cycles per pixel.
    """
    height, width = image.shape
    rim = min(round(border), height - 1, width - 1)
    padded = torch.nn.functional.pad(image[None], (rim, rim, rim, rim), mode="reflect")[0]
    shape = (padded.shape[0], padded.shape[1])
    factors = filters(frequencies2(shape, device=image.device).norm(dim=-1))
    return plain_irfft2(plain_rfft2(padded) * factors, shape)[..., rim : rim + height, rim : rim + width]


def _without_plane(image: Tensor) -> Tensor:
    """Image less the plane with the least sum of absolute differences, which a wedge of ice makes and dirt does not tilt.

    By iteratively reweighted least squares (Schlossmacher, J. Am. Stat. Assoc. 68, 857, 1973) on every n-th pixel.
    """
    y, x = (torch.linspace(-1, 1, n, device=image.device, dtype=torch.float64) for n in image.shape)
    step = max(1, round((image.numel() / FITTED_PIXELS) ** 0.5))
    down, across = torch.meshgrid(y[::step], x[::step], indexing="ij")
    basis = torch.stack((torch.ones_like(down), down, across), dim=-1).flatten(0, 1)
    values = image[::step, ::step].double().flatten()
    weights = torch.ones_like(values)
    for _ in range(20):
        weighted = basis * weights[:, None]
        plane = torch.linalg.solve(weighted.T @ basis, weighted.T @ values)
        away = (values - basis @ plane).abs()
        weights = 1 / (away + 1e-3 * away.median() + 1e-12)
    return image - (plane[0] + plane[1] * y).to(image.dtype)[:, None] - (plane[2] * x).to(image.dtype)


def _white_noise(spectrum: Tensor, shape: tuple[int, int], variance: Tensor) -> Tensor:
    """Standard deviation per pixel of the noise, were it white; at least a thousandth of the image's own.

    From the part of the band between 0.3 and 0.45 cycles per pixel that lies near the x axis.
    """
    rows, first, last = max(1, shape[0] // 10), int(0.3 * shape[1]) + 1, max(int(0.44 * shape[1]), int(0.3 * shape[1]) + 2)
    part = torch.cat((spectrum[1 : rows + 1, first:last], spectrum[-rows:, first:last]))
    floor = torch.view_as_real(part).square().sum(-1).mean() / (shape[0] * shape[1])
    return torch.maximum(floor, 1e-6 * variance).sqrt().clamp(min=1e-12)


def _reduce_mask(known: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pixels of the smaller grid all of whose source pixels are known."""
    return torch.nn.functional.adaptive_avg_pool2d(known.float()[None], shape)[0] > 1 - 1e-6
