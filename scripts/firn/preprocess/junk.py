"""What in a micrograph is no place for particles: unknown pixels, rims of carbon and crystals, thick or uneven ice, contamination.

Convention: kinds of pixel are small integers, GOOD is 0; all features come from the picking image and its shading, in units of
their own robust spread, so that nothing depends on detector, dose or pixel size. Lengths in Å.
Source: local mean, variance and edges as in Norousi et al., J. Struct. Biol. 182, 59 (2013); limits chosen here.
"""

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from firn.kernels.correlate import local_mean, local_variance, responses
from firn.kernels.templates import disc_mask, draw_lines
from firn.preprocess.reduced import Reduced

GOOD, UNKNOWN, RIM, UNEVEN, ROUGH, CUT_OFF = range(6)
NAMES = ("good", "unknown", "rim", "uneven", "rough", "cut_off")
DIRT_SD = 6.0
"""Dirt is at least this many robust standard deviations from the median, in shading or in the logarithm of local variance."""
DIRT_SHADING, CERTAIN_SHADING = 1.0, 4.0
"""Dirt changes the shading by at least the first, and whatever does by the second is dirt, in robust sd of the picked image."""
DIRT_VARIANCE = 10.0
"""Dirt has at least this many times the median local variance, more than a lone, strong particle in thin ice."""
RIM_LENGTH, RIM_WIDTH, RIM_STEP = 4.0, 0.15, 7.5
"""Length and width (sd) of the lines that rims are looked for with, in diameters, and degrees between them."""
RIM_RESPONSE = 5.0
"""A rim answers to a line with this many times the median response; particles in a row with two to four times."""
CLIPPED = 2.0
"""Robust sd that the image is clipped at before: a rim is long rather than strong."""
RIM_SAMPLING = 8.0
"""Pixels per diameter that rims are looked for at."""
SMALLEST_AREA = 0.1
"""Ice that rims and dirt cut off from the rest is refused when it is less than this share of the micrograph."""


def classify_pixels(reduced: Reduced, diameter: float, rims: bool = True) -> UInt8[Tensor, "y x"]:
    """Kind of each pixel; the first that applies of UNKNOWN, UNEVEN, ROUGH, RIM, and CUT_OFF for ice hemmed in by those.

    rims: look for rims. Filaments and lattices would be taken for such.
    """
    uneven, rough = _uneven(reduced), _rough(reduced, diameter)
    rim = find_rims(reduced, diameter) if rims else torch.zeros_like(rough)
    kinds = torch.zeros(reduced.image.shape, dtype=torch.uint8, device=reduced.image.device)
    for kind, where in ((RIM, rim), (ROUGH, rough), (UNEVEN, uneven), (UNKNOWN, ~reduced.valid)):
        kinds[where] = kind
    kinds[_small_areas(grow(kinds != GOOD, reduced, diameter)) & (kinds == GOOD)] = CUT_OFF
    return kinds


def clean_pixels(reduced: Reduced, diameter: float, rims: bool = True) -> Bool[Tensor, "y x"]:
    """Pixels at least half a diameter from all junk: where the centre of a particle may lie."""
    return ~grow(classify_pixels(reduced, diameter, rims) != GOOD, reduced, diameter)


def grow(bad: Bool[Tensor, "y x"], reduced: Reduced, diameter: float) -> Bool[Tensor, "y x"]:
    """Bad pixels and those within half a diameter of one."""
    mask = _disc(reduced, diameter)
    return local_mean(bad.float(), torch.ones_like(bad), mask) * mask.sum() > 0.5


def find_rims(reduced: Reduced, diameter: float) -> Bool[Tensor, "y x"]:
    """Pixels on long lines or steps, dark or bright, that stand out by far of what rows of particles and noise make."""
    factor = max(1, round(diameter / RIM_SAMPLING / reduced.pixel_size))
    height, width = reduced.image.shape
    if min(height, width) < 2 * factor * RIM_SAMPLING:
        return torch.zeros_like(reduced.valid)
    small = torch.nn.functional.avg_pool2d(torch.where(reduced.valid, reduced.image, 0.0)[None], factor, ceil_mode=True)[0]
    pixel = reduced.pixel_size * factor
    limit = CLIPPED * _robust_sd(small)
    response = _along_lines(small.clamp(-limit, limit), RIM_LENGTH * diameter / pixel, RIM_WIDTH * diameter / pixel)
    strong = (response > RIM_RESPONSE * response.median()).float()
    return torch.nn.functional.interpolate(strong[None, None], scale_factor=factor)[0, 0, :height, :width] * reduced.valid > 0


def _along_lines(image: Tensor, length: float, width: float) -> Tensor:
    """Strongest response to a line or step through each pixel, taken as the weakest of the responses to its three thirds.

    So a single bright spot makes no line. Length and width (sd) in pixels.
    """
    angles = torch.arange(0, 180, RIM_STEP, device=image.device)
    third = length / 3
    found = responses(image, draw_lines(third, width, angles, _odd(1.5 * third), 1.0))
    turns = torch.deg2rad(angles.repeat(2))
    shifts = torch.stack((torch.sin(turns), torch.cos(turns)), dim=-1).mul(third).round().int().tolist()
    best = torch.zeros_like(image)
    for one, (down, across) in zip(found, shifts, strict=True):
        thirds = torch.stack([one] + [_shifted(one, sign * down, sign * across) for sign in (-1, 1)])
        best = torch.maximum(best, torch.maximum(thirds.amin(0), (-thirds).amin(0)))
    return best


def _shifted(image: Tensor, down: int, across: int) -> Tensor:
    """The image moved by whole pixels, its border repeated."""
    rows = (torch.arange(image.shape[0], device=image.device) - down).clamp(0, image.shape[0] - 1)
    columns = (torch.arange(image.shape[1], device=image.device) - across).clamp(0, image.shape[1] - 1)
    return image[rows][:, columns]


def _uneven(reduced: Reduced) -> Tensor:
    shading = (reduced.shading - reduced.shading.median()).abs()
    contrast = shading / _robust_sd(reduced.image).clamp(min=1e-12)
    outlying = shading > DIRT_SD * _robust_sd(reduced.shading)
    return (outlying & (contrast > DIRT_SHADING)) | (contrast > CERTAIN_SHADING)


def _rough(reduced: Reduced, diameter: float) -> Tensor:
    level = torch.log(local_variance(reduced.image, reduced.valid, _disc(reduced, diameter)).clamp(min=1e-12))
    level = level - level.median()
    return (level > DIRT_SD * _robust_sd(level)) & (level.exp() > DIRT_VARIANCE)


def _small_areas(bad: Tensor) -> Tensor:
    """Connected areas of good pixels that are small next to the micrograph."""
    areas, count = scipy.ndimage.label(~bad.cpu().numpy())
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    small = sizes < SMALLEST_AREA * areas.size
    small[0] = False
    if count and small[1:].all():
        small[1 + int(sizes[1:].argmax())] = False
    return torch.from_numpy(small[areas]).to(bad.device)


def _disc(reduced: Reduced, diameter: float) -> Tensor:
    return disc_mask(diameter, _odd(diameter / reduced.pixel_size), reduced.pixel_size, device=reduced.image.device)


def _robust_sd(values: Float[Tensor, "*n"]) -> Tensor:
    """1.4826 times the median absolute deviation."""
    return 1.4826 * (values - values.median()).abs().median()


def _odd(length: float) -> int:
    return 2 * int(length / 2) + 1
