"""Power spectra of overlapping tiles, and averages of them over rings and sectors.

Convention: tiles are `(tile, tile)`, spectra `(tile, tile // 2 + 1)` with zero frequency first; frequencies are yx in cycles per pixel.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.fourier import plain_rfft2


def tile_corners(shape: tuple[int, int], tile: int) -> Int[Tensor, "n 2"]:
    """Upper corners yx of evenly spaced tiles that cover an image of the shape, neighbours overlapping by about half."""
    rows, columns = (_starts(side, tile) for side in shape)
    return torch.cartesian_prod(rows, columns)


def _starts(side: int, tile: int) -> Int[Tensor, "n"]:
    count = round(2 * (side - tile) / tile) + 1
    return torch.linspace(0, side - tile, count).round().long()


def spectral_redundancy(shape: tuple[int, int], tile: int) -> float:
    """Pixels of all tile spectra per independent one.

    Neighbouring pixels of a Hann-windowed power spectrum correlate by 4/9 and 1/36, which makes 1 + 2 (4/9 + 1/36) = 1.94 per
    axis; tiles are independent up to an overlap of half (Welch 1967), and more of them add nothing.
    """
    surplus = [max(1.0, len(_starts(side, tile)) / max(2 * side / tile - 1, 1.0)) for side in shape]
    return (1 + 2 * (4 / 9 + 1 / 36)) ** 2 * surplus[0] * surplus[1]


def tile_spectra(image: Float[Tensor, "y x"], corners: Int[Tensor, "n 2"], tile: int) -> Float[Tensor, "n tile half"]:
    """Power spectra of Hann-windowed tiles, each less its mean and clipped at five standard deviations.

    Source: Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967).
    """
    offsets = torch.arange(tile, device=image.device)
    y, x = corners.to(image.device).unbind(-1)
    tiles = image[(y[:, None] + offsets)[:, :, None], (x[:, None] + offsets)[:, None, :]]
    spread, mean = torch.std_mean(tiles, dim=(-2, -1), keepdim=True)
    tiles = torch.clamp((tiles - mean), -5 * spread, 5 * spread)
    window = torch.hann_window(tile, device=image.device)
    return plain_rfft2((tiles - tiles.mean(dim=(-2, -1), keepdim=True)) * window[:, None] * window).abs().square()


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
