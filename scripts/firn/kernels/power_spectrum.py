"""Power spectra of tiles, and averages of them over rings and sectors.

Convention: tiles are `(tile, tile)`, spectra `(tile, tile // 2 + 1)` with zero frequency first; frequencies are yx in cycles per pixel.
A window is flat with sine flanks over a tenth of the tile at either side; neighbouring tiles overlap by a flank, so that squared
windows add up to one and every pixel counts once. Source: Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967).
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.fourier import fast_size, plain_rfft2

FLANK = 0.1
SURPLUS = 0.1
"""Share of a tile that may be left over before another tile is added."""


def tile_side(side: int, wanted: float) -> int:
    """Side in pixels, of fast transform size and about as wanted, of tiles of which a whole number covers the image's side."""
    count = max(1, round((side / wanted - FLANK) / (1 - FLANK)))
    size = int(side / (count - (count - 1) * FLANK)) // 2 * 2
    while fast_size(size) > size:
        size -= 2
    return size


def tile_corners(shape: tuple[int, int], tile: int) -> Int[Tensor, "n 2"]:
    """Upper corners yx of evenly spaced tiles, as few as cover an image of the shape but for the surplus."""
    rows, columns = (_starts(side, tile) for side in shape)
    return torch.cartesian_prod(rows, columns)


def _starts(side: int, tile: int) -> Int[Tensor, "n"]:
    count = 1 + max(0, math.ceil((side - tile) / tile - SURPLUS))
    return torch.linspace(0, side - tile if count > 1 else 0, count).round().long()


def tile_window(tile: int, device: torch.device | str = "cpu", flank: float = FLANK) -> Float[Tensor, "tile"]:
    """Window of one axis: 1, with sine flanks over a share of the tile at either side, at most 1/2."""
    position = torch.arange(tile, device=device) + 0.5
    rise = (torch.minimum(position, tile - position) / (flank * tile)).clamp(max=1)
    return torch.sin(0.5 * math.pi * rise)


def spectral_redundancy(shape: tuple[int, int], tile: int) -> float:
    """Pixels of all tile spectra per independent one, for sums over many neighbouring pixels and all tiles of white noise.

    Per axis tile * sum(c^2) / (n sum(w^2)^2) with the coverage c, the sum of the squared windows w of the n tiles (Parseval).
    """
    window = tile_window(tile).double().square()
    factors = []
    for side in shape:
        starts = _starts(side, tile)
        coverage = torch.zeros(side, dtype=torch.float64)
        for start in starts.tolist():
            coverage[start : start + tile] += window
        factors.append(float(tile * coverage.square().sum() / (len(starts) * window.sum() ** 2)))
    return factors[0] * factors[1]


def without_local_mean(image: Float[Tensor, "y x"], length: float) -> Float[Tensor, "y x"]:
    """The image less its mean over blocks about `length` pixels wide, interpolated linearly: low frequencies would leak into all others."""
    blocks = (max(1, round(image.shape[0] / length)), max(1, round(image.shape[1] / length)))
    means = torch.nn.functional.adaptive_avg_pool2d(image[None, None], blocks)
    return image - torch.nn.functional.interpolate(means, size=image.shape, mode="bilinear", align_corners=False)[0, 0]


def tile_spectra(image: Float[Tensor, "y x"], corners: Int[Tensor, "n 2"], tile: int, flank: float = FLANK) -> Float[Tensor, "n tile half"]:
    """Power spectra of windowed tiles, each less its mean and clipped at five standard deviations.

    flank: share of the tile that the window rises over; the wider, the less strong frequencies leak into weak ones.
    """
    window = tile_window(tile, image.device, flank)
    spectra = image.new_empty(len(corners), tile, tile // 2 + 1)
    for number, (y, x) in enumerate(corners.tolist()):
        cut = image[y : y + tile, x : x + tile]
        spread, mean = torch.std_mean(cut)
        cut = torch.minimum(torch.maximum(cut - mean, -5 * spread), 5 * spread)
        spectrum = plain_rfft2((cut - cut.mean()) * window[:, None] * window)
        spectra[number] = spectrum.real.square() + spectrum.imag.square()
    return spectra


def band(frequencies: Float[Tensor, "y x 2"], low: float, high: float) -> Bool[Tensor, "y x"]:
    """Which pixels of an rfft grid lie between two radii, each pair of Friedel mates once, without the two axes and their neighbours.

    The axes carry the edges of the field and stripes of the detector.
    """
    radius = frequencies.norm(dim=-1)
    fy, fx = frequencies.unbind(-1)
    margin = 1.5 * frequencies[0, 1, 1]
    return (radius >= low) & (radius <= high) & (fx > margin) & (fy.abs() > margin)


def ring_means(values: Float[Tensor, "*b n"], rings: Int[Tensor, "n"], count: int) -> Float[Tensor, "*b r"]:
    """Mean of the values with each ring number in 0 ... count - 1; 0 where there is none."""
    sums = values.new_zeros(*values.shape[:-1], count).index_add(-1, rings, values)
    return sums / torch.bincount(rings, minlength=count).clamp(min=1)


def radial_means(spectra: Float[Tensor, "*b y x"], frequencies: Float[Tensor, "y x 2"], tile: int) -> Float[Tensor, "*b r"]:
    """Means over rings one frequency pixel wide, from zero to Nyquist, without the two axes."""
    rings = (frequencies.norm(dim=-1) * tile).round().long()
    inside = band(frequencies, 0.0, 0.5)
    return ring_means(spectra[..., inside], rings[inside], tile // 2 + 1)


def usable_tiles(spectra: Float[Tensor, "n s"], tolerance: float = 4.0, floor: float = 0.35) -> Bool[Tensor, "n"]:
    """Tiles whose mean power (log) is within some robust standard deviations of the median: not gold, carbon edge or empty.

    floor is the least standard deviation assumed, so that a homogeneous micrograph loses nothing; tiles without power do not count.
    """
    power = spectra.mean(dim=-1)
    filled = power > 0
    level = torch.log(power.clamp(min=torch.finfo(spectra.dtype).tiny))
    distance = (level - level[filled].median()).abs()
    spread = (1.4826 * distance[filled].median()).clamp(min=floor)
    return filled & (distance <= tolerance * spread)


def spline_basis(positions: Float[Tensor, "n"], low: float, high: float, intervals: int) -> Float[Tensor, "n k"]:
    """Uniform cubic B-splines, `intervals + 3` of them, at positions between low and high."""
    scaled = (positions - low) / (high - low) * intervals
    centres = torch.arange(-1, intervals + 2, device=positions.device)
    distance = (rearrange(scaled, "n -> n 1") - centres).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)
