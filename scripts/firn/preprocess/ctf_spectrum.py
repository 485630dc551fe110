"""Background-free power spectra of a micrograph's tiles, and their averages over rings, sectors and lines of equal phase.

Convention: values are power over a smooth radial background, so noise has mean and variance 1; frequencies are yx in 1/Å.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels import ctf_fit
from firn.kernels.ctf_fit import Optics, Projector, Samples
from firn.kernels.defocus_surface import normalised_points
from firn.kernels.fourier import fast_size, frequencies2
from firn.kernels.power_spectrum import (
    band,
    radial_means,
    ring_means,
    spectral_redundancy,
    spline_basis,
    tile_corners,
    tile_spectra,
    usable_tiles,
)
from firn.kernels.ring_profile import equivalent_s2

TILE_A = 800.0
BACKGROUND_INTERVALS = 3
FEWEST_PIXELS = 200


@dataclass(frozen=True)
class CtfSettings:
    """What to search: resolutions and defocus in Å; tile_px None chooses the tile; phase_shift searches 0-180 degrees."""

    min_resolution: float = 25.0
    max_resolution: float = 4.0
    min_defocus: float = 1000.0
    max_defocus: float = 40000.0
    tile_px: int | None = None
    surface: bool = True
    phase_shift: bool = False


@dataclass(frozen=True)
class TileSpectra:
    """Spectra of the usable tiles inside the fitted band, divided by the background."""

    tile: int
    length: float
    inside: Bool[Tensor, "y x"]
    samples: Samples
    project: Projector
    values: Float[Tensor, "t n"]
    points: Float[Tensor, "t 2"]
    tiles: int
    redundancy: float
    ice_ring: float

    @property
    def noise(self) -> float:
        """Variance of the average spectrum's noise per independent pixel."""
        return self.redundancy / len(self.values)

    @property
    def mean(self) -> Float[Tensor, "n"]:
        """Average over tiles, single bright pixels clipped."""
        return self.values.mean(dim=0).clamp(max=2.5 + 6 / math.sqrt(len(self.values)))

    @property
    def lowest(self) -> int:
        """Frequency pixel of the lowest ring."""
        return int((self.samples.s2.min().sqrt() * self.length).round())

    def ring_numbers(self, s2: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Ring of squared frequencies, in frequency pixels from the lowest."""
        return (s2.clamp(min=0).sqrt() * self.length).round().long() - self.lowest


def choose_tile(shape: tuple[int, int], pixel_size: float) -> int:
    """Side of the tiles in pixels: about 800 Å, which resolves rings at 4 Å up to 30000 Å of defocus, within the image."""
    largest = int(min(shape) / 1.5) // 2 * 2
    return min(max(fast_size(round(TILE_A / pixel_size)), 128), largest)


def measure(image: Float[Tensor, "y x"], pixel_size: float, optics: Optics, settings: CtfSettings) -> TileSpectra:
    """Spectra of the usable tiles of a micrograph.

    Raises ValueError when there is nothing in the band to fit.
    """
    shape = (image.shape[0], image.shape[1])
    tile = min(settings.tile_px or choose_tile(shape, pixel_size), min(shape) // 2 * 2)
    corners = tile_corners(shape, tile).to(image.device)
    spectra = tile_spectra(image.float(), corners, tile)
    grid = frequencies2((tile, tile), image.device) / pixel_size
    inside = band(grid, 1 / settings.min_resolution, min(1 / settings.max_resolution, 0.49 / pixel_size))
    power = spectra[:, inside]
    if power.shape[-1] < FEWEST_PIXELS:
        raise ValueError(f"has {power.shape[-1]} spectrum pixels up to {2.04 * pixel_size:.3g} Å to fit, but {FEWEST_PIXELS} are needed")
    if not bool((power > 0).any()):
        raise ValueError("has no contrast in the fitted band")
    good = usable_tiles(power)
    power, spectra = power[good], spectra[good]
    level = power.mean(dim=-1)
    samples = ctf_fit.make_samples(grid[inside], torch.ones_like(grid[inside][:, 0]), optics)
    basis = background_basis(samples.s2.sqrt())
    power = power / level[:, None]
    background = _background(power.mean(dim=0), samples.s2.sqrt(), basis, tile * pixel_size)
    centres = corners[good].float() + (tile - 1) / 2
    return TileSpectra(
        tile=tile,
        length=tile * pixel_size,
        inside=inside,
        samples=samples,
        project=ctf_fit.make_projector(samples.weights, basis),
        values=_flatten_tiles(power / background, basis),
        points=normalised_points(centres[:, 1], centres[:, 0], shape[1], shape[0]),
        tiles=len(corners),
        redundancy=spectral_redundancy(shape, tile),
        ice_ring=_ice_ring((spectra / level[:, None, None]).mean(dim=0), grid * pixel_size, tile, pixel_size),
    )


def background_basis(radius: Float[Tensor, "n"]) -> Float[Tensor, "n k"]:
    """Smooth radial functions over the band, which a background is made of."""
    low, high = float(radius.min()), float(radius.max())
    return spline_basis(radius, low, high, BACKGROUND_INTERVALS)


def _background(power: Tensor, radius: Tensor, basis: Tensor, length: float) -> Tensor:
    """Smooth background at each sample: splines through the logarithm of the ring means."""
    rings = (radius * length).round().long()
    rings = rings - rings.min()
    count = int(rings.max()) + 1
    weight = torch.bincount(rings, minlength=count).float().sqrt()[:, None]
    profile = ring_means(power, rings, count).clamp(min=1e-20).log()
    ring_basis = ring_means(basis.mT.contiguous(), rings, count).mT
    coefficients = torch.linalg.lstsq(weight * ring_basis, weight * profile[:, None], driver=_driver(power)).solution
    return torch.exp(basis @ coefficients)[:, 0]


def _driver(tensor: Tensor) -> str:
    return "gelsd" if tensor.device.type == "cpu" else "gels"


def _flatten_tiles(values: Tensor, basis: Tensor) -> Tensor:
    """Each tile divided by its own smooth background; the exponential tail is clipped at 6, which one in 400 pixels reaches."""
    gram = basis.mT @ basis
    coefficients = torch.linalg.solve(gram, (values @ basis).mT)
    return (values / (basis @ coefficients).mT.clamp(min=0.05)).clamp(max=6.0)


def _ice_ring(spectrum: Tensor, frequencies: Tensor, tile: int, pixel_size: float) -> float:
    """Power between 3.6 and 3.8 Å over that of its neighbours, 1 where there is no ice ring; NaN beyond 96 % of Nyquist."""
    radial = radial_means(spectrum, frequencies, tile).double()
    resolution = tile * pixel_size / torch.arange(len(radial), device=radial.device).clamp(min=1)
    if 2 * pixel_size / 0.96 > 3.3:
        return math.nan
    ring, outer, inner = (radial[(resolution > low) & (resolution < high)] for low, high in ((3.6, 3.8), (3.3, 3.45), (4.0, 4.3)))
    if min(len(ring), len(outer), len(inner)) == 0:
        return math.nan
    return float(ring.mean() / (outer.mean() * inner.mean()).sqrt())


def cells(spectrum: TileSpectra, values: Float[Tensor, "n"], sectors: int, optics: Optics) -> tuple[Samples, Float[Tensor, "c"]]:
    """Samples and values averaged over cells one ring by one of `sectors` sectors of the half-plane."""
    fy, fx = spectrum.samples.frequencies.unbind(-1)
    sector = ((torch.atan2(fy, fx) / math.pi + 0.5) * sectors).long().clamp(0, sectors - 1)
    cell = spectrum.ring_numbers(spectrum.samples.s2) * sectors + sector
    count = int(cell.max()) + 1
    stacked = torch.stack((values, spectrum.samples.s2.sqrt(), torch.atan2(fy, fx)))
    means = ring_means(stacked, cell, count)
    weights = torch.bincount(cell, minlength=count).float()
    full = weights > 0
    mean_values, radius, azimuth = means[:, full]
    frequencies = torch.stack((radius * torch.sin(azimuth), radius * torch.cos(azimuth)), dim=-1)
    return ctf_fit.make_samples(frequencies, weights[full], optics), mean_values


def equiphase(
    spectrum: TileSpectra, parameters: Float[Tensor, "4"], offsets: Float[Tensor, "t"], optics: Optics
) -> tuple[Samples, Float[Tensor, "t r"]]:
    """(rings as samples, profiles) of the tiles along lines of equal phase; offsets are the tiles' local defocus in Å."""
    samples = spectrum.samples
    scale = samples.terms[:, 0] / samples.s2
    local = parameters[0] + (samples.terms[:, 1:3] @ parameters[1:3]) / (scale * samples.s2)
    count = int(spectrum.ring_numbers(samples.s2.max())) + 1
    numbers = spectrum.ring_numbers(equivalent_s2(samples.s2, local + offsets[:, None], float(parameters[0]), optics))
    numbers = numbers.clamp(-1, count) + 1
    profiles = torch.stack([ring_means(row, number, count + 2)[1:-1] for row, number in zip(spectrum.values, numbers, strict=True)])
    weights = torch.stack([torch.bincount(number, minlength=count + 2)[1:-1] for number in numbers]).float().mean(dim=0)
    radius = torch.arange(spectrum.lowest, spectrum.lowest + count, device=numbers.device) / spectrum.length
    frequencies = torch.stack((torch.zeros_like(radius), radius), dim=-1)
    return ctf_fit.make_samples(frequencies, weights.clamp(min=1e-3), optics), profiles
