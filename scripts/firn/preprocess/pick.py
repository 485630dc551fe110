"""Picking in one micrograph: reduce it to the templates' resolution, correlate, refuse dirt and edges, take the maxima.

Convention: the micrograph is given as stored (protein dark) and inverted here; points are yx in pixels of the micrograph as
stored; lengths in Å. Templates are white protein, filtered by the micrograph's CTF and by the filters the micrograph got.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.correlate import best_templates, local_correlation, local_mean, local_variance
from firn.kernels.ctf import ctf_2d
from firn.kernels.fourier import frequencies2, plain_irfft2, plain_rfft2, resize_spectra2
from firn.kernels.peaks import local_maxima, refine_maxima, separate
from firn.kernels.templates import band_filter, disc_mask, filter_images, high_pass_filter

SAMPLING = 2.4
"""Pixels per low-pass period: a little finer than Nyquist, so that the soft edge of the filter fits."""
MARGIN = 1.5
"""Diameter of the mask that a template is normalised in, in diameters of the template: particle and surround have like areas."""
BACKGROUND = 2.0
"""What varies over more than this many diameters is background."""
SHADING = 6.0
"""What varies over more than this many diameters is ice, carbon or contamination, not particles."""
FITTED_PIXELS = 40_000
"""Pixels that the plane of the ice is fitted to."""
PADDING = 0.1
"""Share of the usual energy of the change between rows below which a row at the edge holds nothing of its own."""
STILL = 8
"""Rows in a row that make padding."""
DIRT_SD = 6.0
"""Dirt is at least this many robust standard deviations from the median, in shading or in the logarithm of local variance."""
DIRT_SHADING, CERTAIN_SHADING = 1.0, 4.0
"""Dirt changes the shading by at least the first, and whatever does by the second is dirt, in robust sd of the picked image."""
DIRT_VARIANCE = 10.0
"""Dirt has at least this many times the median local variance, more than a lone, strong particle in thin ice."""


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


@dataclass(frozen=True)
class Shape:
    """Templates `(t, n, n)` that are turns of one shape at the picking pixel size, their angles in degrees, its diameter in Å."""

    templates: Tensor
    angles: Tensor
    diameter: float


@dataclass(frozen=True)
class Picks:
    """Picks of one micrograph, best first: points `(n, 2)` yx, score, power, index of the shape, angle of the template."""

    points: Tensor
    score: Tensor
    power: Tensor
    shape: Tensor
    angle: Tensor


def picking_pixel_size(pixel_size: float, low_pass: float) -> float:
    """Å per pixel to pick at, never finer than the micrograph."""
    return max(pixel_size, low_pass / SAMPLING)


def template_box(diameter: float, pixel_size: float) -> int:
    """Side of the box that templates of a diameter are drawn in: even, room for fringes while they are filtered."""
    return 2 * round(diameter * BACKGROUND / pixel_size / 2 + 4)


def reduce_micrograph(micrograph: Float[Tensor, "y x"], pixel_size: float, low_pass: float, diameter: float) -> Reduced:
    """Fourier-crop to the picking resolution, split off the background, invert, and scale to the noise.

    The noise is the mean power between 0.6 and 0.9 of Nyquist of the micrograph as given, where protein adds next to nothing.
    """
    filled, known = _fill_unknown(micrograph)
    full = (micrograph.shape[0], micrograph.shape[1])
    factor = picking_pixel_size(pixel_size, low_pass) / pixel_size
    shape = (max(2, 2 * round(full[0] / factor / 2)), max(2, 2 * round(full[1] / factor / 2))) if factor > 1 else full
    stride = (full[0] / shape[0], full[1] / shape[1])
    spectrum = plain_rfft2(_without_plane(filled))
    noise = _white_noise(spectrum, full) / (stride[0] * stride[1]) ** 0.5
    small = -plain_irfft2(resize_spectra2(spectrum, full, shape), shape) / noise
    pixel = pixel_size * (stride[0] * stride[1]) ** 0.5
    image, shading = _split_background(small, pixel, low_pass, diameter)
    return Reduced(image, shading, _reduce_mask(known, shape), pixel, stride)


def clean_pixels(reduced: Reduced, diameter: float) -> Bool[Tensor, "y x"]:
    """Pixels that are known and free of carbon, ice crystals and dirt; refused areas are grown by half a diameter."""
    mask = disc_mask(diameter, _odd(diameter / reduced.pixel_size), reduced.pixel_size, device=reduced.image.device)
    shading = (reduced.shading - reduced.shading.median()).abs()
    contrast = shading / _robust_sd(reduced.image).clamp(min=1e-12)
    level = torch.log(local_variance(reduced.image, reduced.valid, mask).clamp(min=1e-12))
    level = level - level.median()
    outlying = shading > DIRT_SD * _robust_sd(reduced.shading)
    uneven = (outlying & (contrast > DIRT_SHADING)) | (contrast > CERTAIN_SHADING)
    rough = (level > DIRT_SD * _robust_sd(level)) & (level.exp() > DIRT_VARIANCE)
    bad = uneven | rough | ~reduced.valid
    grown = local_mean(bad.float(), torch.ones_like(bad), mask) * mask.sum() > 0.5
    return reduced.valid & ~grown


def template_factors(
    box: int, pixel_size: float, low_pass: float, diameter: float, ctf: tuple[float, ...] | None, device: torch.device | str = "cpu"
) -> Float[Tensor, "n f"]:
    """Factors on a template's spectrum: the micrograph's filters, and its CTF when the arguments of ctf_2d are given."""
    filters = band_filter((box, box), pixel_size, low_pass, BACKGROUND * diameter, device)
    return filters if ctf is None else filters * ctf_2d(frequencies2((box, box), device) / pixel_size, *ctf)[0]


def pick(
    reduced: Reduced,
    shapes: list[Shape],
    clean: Bool[Tensor, "y x"],
    factors: Float[Tensor, "n f"],
    separation: float,
    edge: float,
    limit: int,
) -> Picks:
    """Maxima of the best match over all shapes, at least `separation` Å apart and `edge` Å inside the micrograph.

    Shapes compete by correlation (NCC), places by the matched filter's output: correlation times the root of the local power.
    factors: filters and CTF, on the spectra of the shapes' boxes, which have one size.
    """
    groups = _alike(shapes)
    maps = [_Match.make(reduced, clean, [shapes[number] for number in numbers], factors) for numbers in groups]
    score, which = torch.stack([match.score for match in maps]).max(0)
    inside = _inside(score.shape, edge / reduced.pixel_size, score.device)
    power = torch.stack([match.power for match in maps]).gather(0, which[None])[0]
    strength = score.clamp(min=0) * power.sqrt()
    peaks = local_maxima(strength, clean & inside, 0.0)
    peaks = peaks[separate(peaks.to(score.dtype), separation / reduced.pixel_size, limit)]
    at = peaks[:, 0], peaks[:, 1]
    shape, angle = torch.zeros_like(which[at]), torch.zeros_like(score[at])
    for number, match in enumerate(maps):
        mine = which[at] == number
        shape[mine], angle[mine] = match.identify(peaks[mine], torch.tensor(groups[number], device=score.device))
    places = refine_maxima(strength, peaks) * torch.tensor(reduced.stride, dtype=score.dtype, device=score.device)
    return Picks(places, score[at], power[at], shape, angle)


def _alike(shapes: list[Shape]) -> list[list[int]]:
    """Numbers of the shapes of each diameter: these share a mask."""
    groups: dict[float, list[int]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(shape.diameter, []).append(number)
    return list(groups.values())


@dataclass(frozen=True)
class _Match:
    """Shapes of one diameter laid on a micrograph: best score and local variance at every pixel, and who scored."""

    score: Tensor
    power: Tensor
    image: Tensor
    clean: Tensor
    templates: Tensor
    mask: Tensor
    shapes: list[Shape]

    @classmethod
    def make(cls, reduced: Reduced, clean: Tensor, shapes: list[Shape], factors: Tensor) -> "_Match":
        diameter, box = shapes[0].diameter * MARGIN, shapes[0].templates.shape[-1]
        side = min(_odd(diameter / reduced.pixel_size), box - 1)
        mask = disc_mask(diameter, side, reduced.pixel_size, device=reduced.image.device)
        first = box // 2 - side // 2
        filtered = filter_images(torch.cat([shape.templates for shape in shapes]), factors)
        templates = filtered[..., first : first + side, first : first + side]
        return cls(*local_correlation(reduced.image, clean, templates, mask), reduced.image, clean, templates, mask, shapes)

    def identify(self, peaks: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(number of the shape, angle) that scored at each pixel; numbers are those of this match's shapes."""
        best = best_templates(self.image, self.clean, self.templates, self.mask, peaks)
        turns = torch.tensor([len(shape.angles) for shape in self.shapes], device=peaks.device)
        return numbers.repeat_interleave(turns)[best], torch.cat([shape.angles for shape in self.shapes])[best]


def _fill_unknown(micrograph: Tensor) -> tuple[Tensor, Tensor]:
    """(micrograph with padding mirrored and other unknown pixels at the mean, which pixels are known)."""
    known = torch.isfinite(micrograph)
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

    A run of STILL rows that differ from the next by less than PADDING of the usual energy is padding, and so is what is outside it.
    """
    change = image.diff(dim=axis).square().mean(1 - axis)
    quiet = change < PADDING * change.median()
    most = len(quiet) // 8
    ends = []
    for end in (quiet[:most], quiet.flip(0)[:most]):
        runs = end.unfold(0, STILL, 1).all(-1).nonzero() if most >= STILL else end.nonzero()[:0]
        ends.append(int(runs.max()) + STILL if len(runs) else 0)
    return ends[0], ends[1]


def _split_background(small: Tensor, pixel_size: float, low_pass: float, diameter: float) -> tuple[Tensor, Tensor]:
    """(band-passed image, slow shading), filtered with mirrored borders so that opposite edges do not meet."""
    height, width = small.shape
    border = min(round(BACKGROUND * diameter / pixel_size), height - 1, width - 1)
    padded = torch.nn.functional.pad(small[None], (border, border, border, border), mode="reflect")[0]
    shape = (padded.shape[0], padded.shape[1])
    spectrum = plain_rfft2(padded)
    frequencies = frequencies2(shape, device=small.device).norm(dim=-1) / pixel_size
    slow = 1 - high_pass_filter(frequencies, SHADING * diameter)
    fast = band_filter(shape, pixel_size, low_pass, BACKGROUND * diameter, device=small.device)
    both = plain_irfft2(torch.stack((spectrum * fast, spectrum * slow)), shape)[:, border : border + height, border : border + width]
    return both[0], both[1]


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


def _white_noise(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    """Standard deviation per pixel of the noise, were it white; at least a thousandth of the image's own."""
    radius = frequencies2(shape, device=spectrum.device).norm(dim=-1)
    power = spectrum.abs().square()
    floor = power[(radius > 0.3) & (radius < 0.45)].mean()
    return (torch.maximum(floor, 1e-6 * power.mean()) / (shape[0] * shape[1])).sqrt().clamp(min=1e-12)


def _reduce_mask(known: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pixels of the smaller grid all of whose source pixels are known."""
    return torch.nn.functional.adaptive_avg_pool2d(known.float()[None], shape)[0] > 1 - 1e-6


def _inside(shape: torch.Size, margin: float, device: torch.device) -> Tensor:
    y, x = (torch.arange(n, device=device) for n in shape)
    near_y, near_x = torch.minimum(y, shape[0] - 1 - y), torch.minimum(x, shape[1] - 1 - x)
    return torch.minimum(near_y[:, None], near_x[None, :]) >= margin


def _robust_sd(values: Tensor) -> Tensor:
    """1.4826 times the median absolute deviation."""
    return 1.4826 * (values - values.median()).abs().median()


def _odd(length: float) -> int:
    return 2 * int(length / 2) + 1
