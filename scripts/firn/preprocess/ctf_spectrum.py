"""Background-free power spectra of a micrograph's tiles, and their averages over cells and lines of equal phase.

Convention: values are power over a smooth radial background, so noise has mean and variance 1; frequencies are yx in 1/Å.
Pixels reach beyond the fitted band, so that rings can be followed past it; cells (a ring by a sector) lie inside the band.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels import ctf_fit
from firn.kernels.ctf_fit import Optics, Projector, Samples
from firn.kernels.defocus_surface import normalised_points
from firn.kernels.fourier import frequencies2
from firn.kernels.power_spectrum import (
    band,
    radial_means,
    ring_means,
    spectral_redundancy,
    spline_basis,
    tile_corners,
    tile_side,
    tile_spectra,
    usable_tiles,
    without_local_mean,
)
from firn.kernels.ring_profile import equivalent_s2

TILE_A = 600.0
LEVEL_A = 100.0
SECTORS = 36
BACKGROUND_INTERVALS = 2
FEWEST_PIXELS = 200
REACH = 2.0
"""How far beyond the highest fitted frequency rings are followed."""
SAMPLING_ORDERS = (1, 2, 3, 4)
"""Powers of (frequency / Nyquist)² along each axis that tell how noise falls off near Nyquist."""
BRIGHTEST = 7.0
"""Where single pixels of a tile, of mean 1, are clipped: noise reaches it once in a thousand."""


@dataclass(frozen=True)
class CtfSettings:
    """What to search: resolutions and defocus in Å, phase shifts in degrees; tile_px None chooses the tile."""

    min_resolution: float = 25.0
    max_resolution: float = 4.0
    min_defocus: float = 1000.0
    max_defocus: float = 40000.0
    tile_px: int | None = None
    surface: bool = True
    phase_shift: bool = False
    min_phase_shift: float = 0.0
    max_phase_shift: float = 180.0


@dataclass(frozen=True)
class TileSpectra:
    """Spectra of the usable tiles divided by the background: cells `samples` inside the band, pixels up to the reach.

    inside: pixels of the rfft grid that are kept; points: tile centres yx in [-1, 1]; half_side: half the
    micrograph's longer side in Å.
    """

    tile: int
    length: float
    inside: Bool[Tensor, "y x"]
    pixels: Samples
    power: Float[Tensor, "t p"]
    samples: Samples
    project: Projector
    values: Float[Tensor, "t n"]
    points: Float[Tensor, "t 2"]
    half_side: float
    tiles: int
    redundancy: float
    ice_ring: float

    @property
    def noise(self) -> float:
        """Variance of the average spectrum's noise per independent pixel."""
        return self.redundancy / len(self.values)

    @property
    def mean(self) -> Float[Tensor, "n"]:
        """Average over tiles."""
        return self.values.mean(dim=0)

    @property
    def lowest(self) -> int:
        """Frequency pixel of the lowest ring."""
        return int((self.pixels.s2.min().sqrt() * self.length).round())

    def ring_numbers(self, s2: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Ring of squared frequencies, in frequency pixels from the lowest."""
        return (s2.clamp(min=0).sqrt() * self.length).round().long() - self.lowest


def measure(image: Float[Tensor, "y x"], pixel_size: float, optics: Optics, settings: CtfSettings) -> TileSpectra:
    """Spectra of the usable tiles of a micrograph.

    Raises ValueError when there is nothing in the band to fit.
    """
    shape = (image.shape[0], image.shape[1])
    tile = min(settings.tile_px or tile_side(min(shape), TILE_A / pixel_size), min(shape) // 2 * 2)
    corners = tile_corners(shape, tile).to(image.device)
    spectra = tile_spectra(without_local_mean(image.float(), LEVEL_A / pixel_size), corners, tile)
    grid = frequencies2((tile, tile), image.device) / pixel_size
    finest = 0.49 / pixel_size
    inside = band(grid, 1 / settings.min_resolution, min(REACH / settings.max_resolution, finest))
    power = spectra[:, inside]
    fitted = grid[inside].norm(dim=-1) <= min(1 / settings.max_resolution, finest)
    if int(fitted.sum()) < FEWEST_PIXELS:
        raise ValueError(f"has {int(fitted.sum())} spectrum pixels up to {2.04 * pixel_size:.3g} Å to fit, but {FEWEST_PIXELS} are needed")
    if not bool((power[:, fitted] > 0).any()):
        raise ValueError("has no contrast in the fitted band")
    good = usable_tiles(power[:, fitted])
    level = power[good][:, fitted].mean(dim=-1)
    pixels = ctf_fit.make_samples(grid[inside], torch.ones_like(fitted, dtype=grid.dtype), optics)
    radius = pixels.s2.sqrt()
    sampled = _sampling(power[good].mean(dim=0), grid[inside], pixel_size, tile * pixel_size)
    power, smooth = _clipped(power[good] / (level[:, None] * sampled), radius, tile * pixel_size)
    trend = _parabola(power[:, fitted], radius[fitted])
    samples, values = _cells(pixels.frequencies[fitted], power[:, fitted] / trend, tile * pixel_size, optics)
    samples, values = _levelled(samples, values)
    centres = corners[good].float() + (tile - 1) / 2
    return TileSpectra(
        tile=tile,
        length=tile * pixel_size,
        inside=inside,
        pixels=pixels,
        power=power / smooth,
        samples=samples,
        project=ctf_fit.make_projector(samples.weights, background_basis(samples.s2.sqrt())),
        values=values,
        points=normalised_points(centres[:, 1], centres[:, 0], shape[1], shape[0]),
        half_side=max(shape) * pixel_size / 2,
        tiles=len(corners),
        redundancy=spectral_redundancy(shape, tile),
        ice_ring=_ice_ring((spectra[good] / level[:, None, None]).mean(dim=0), grid * pixel_size, tile, pixel_size),
    )


def background_basis(radius: Float[Tensor, "n"]) -> Float[Tensor, "n k"]:
    """Functions of the logarithm of the frequency that backgrounds and ring heights are sums of: stiffer than the rings of low defocus."""
    scale = radius.log()
    return spline_basis(scale, float(scale.min()), float(scale.max()), BACKGROUND_INTERVALS)


def _sampling(power: Tensor, frequencies: Tensor, pixel_size: float, length: float) -> Tensor:
    """What square pixels and frames resampled along rows and columns leave of the noise: exp of even powers of fx and of fy.

    Fitted to what differs within rings, so that nothing in it follows the rings' own heights; without it the noise's corners and axes near
    Nyquist look like rings of a low defocus with astigmatism.
    """
    cell = _cell_numbers(frequencies, length)
    count = int(cell.max()) + 1
    weights = torch.bincount(cell, minlength=count).to(power.dtype)
    full = weights > 0
    terms = torch.cat([(2 * pixel_size * frequencies).square() ** order for order in SAMPLING_ORDERS], dim=-1)
    means = ring_means(torch.cat((power[None], terms.mT)), cell, count)[:, full]
    ring, weights = torch.arange(count, device=cell.device)[full] // SECTORS, weights[full]
    values = torch.cat((means[:1].clamp(min=1e-20).log(), means[1:])).double()
    sums = values.new_zeros(len(values), int(ring.max()) + 1).index_add(-1, ring, values * weights)
    within = values - (sums / torch.bincount(ring, weights).clamp(min=1))[:, ring]
    weighted = within[1:] * weights
    normal = weighted @ within[1:].mT
    normal = normal + 1e-6 * normal.diagonal().mean() * torch.eye(len(normal), device=normal.device, dtype=normal.dtype)
    return torch.exp(terms @ torch.linalg.solve(normal, weighted @ within[0]).to(terms.dtype))


def _cell_numbers(frequencies: Tensor, length: float) -> Tensor:
    """Cell, a ring by a sector of the half-plane, that each frequency lies in; SECTORS of them to a ring, from the lowest ring on."""
    ring = (frequencies.norm(dim=-1) * length).round().long()
    azimuth = torch.atan2(frequencies[:, 0], frequencies[:, 1])
    sector = ((azimuth / math.pi + 0.5) * SECTORS).long().clamp(0, SECTORS - 1)
    return (ring - ring.min()) * SECTORS + sector


def _clipped(power: Tensor, radius: Tensor, length: float) -> tuple[Tensor, Tensor]:
    """(power with single bright pixels cut, smooth mean of all tiles through the logarithm of its ring means)."""
    rings = (radius * length).round().long()
    rings = rings - rings.min()
    count = int(rings.max()) + 1
    profile = ring_means(power.mean(dim=0), rings, count).clamp(min=1e-20)
    scale = ring_means(radius, rings, count).log()
    basis = spline_basis(scale, float(scale.min()), float(scale.max()), 2 * BACKGROUND_INTERVALS)
    weight = torch.bincount(rings, minlength=count).float().sqrt()[:, None]
    coefficients = torch.linalg.lstsq(weight * basis, weight * profile.log()[:, None], driver=_driver(power)).solution
    return torch.minimum(power, BRIGHTEST * profile[rings]), torch.exp(basis @ coefficients)[rings, 0]


def _parabola(power: Tensor, radius: Tensor) -> Tensor:
    """exp of a parabola in log s through the mean of all tiles, each ring with the same weight; nothing in it follows the rings."""
    scale = radius.log()
    basis = torch.stack((torch.ones_like(scale), scale, scale**2), dim=-1)
    weighted = basis / radius[:, None]
    coefficients = torch.linalg.solve((weighted.mT @ basis).double(), (weighted.mT @ power.mean(dim=0).clamp(min=1e-20).log()).double())
    trend = torch.exp(basis @ coefficients.to(basis.dtype))
    return trend * (power.mean(dim=0) / trend).mean()


def _driver(tensor: Tensor) -> str:
    return "gelsd" if tensor.device.type == "cpu" else "gels"


def _cells(frequencies: Tensor, power: Tensor, length: float, optics: Optics) -> tuple[Samples, Tensor]:
    """Samples at, and values `(t, n)` of each tile averaged over, cells one ring by one sector of the half-plane."""
    radius, azimuth = frequencies.norm(dim=-1), torch.atan2(frequencies[:, 0], frequencies[:, 1])
    cell = _cell_numbers(frequencies, length)
    count = int(cell.max()) + 1
    means = ring_means(torch.cat((radius[None], azimuth[None], power)), cell, count)
    weights = torch.bincount(cell, minlength=count).float()
    full = weights > 0
    radius, azimuth = means[:2, full]
    places = torch.stack((radius * torch.sin(azimuth), radius * torch.cos(azimuth)), dim=-1)
    return ctf_fit.make_samples(places, weights[full], optics), means[2:, full]


def _levelled(samples: Samples, values: Tensor) -> tuple[Samples, Tensor]:
    """(samples weighted by the inverse variance of noise, each tile divided by its own parabola in log s)."""
    radius = samples.s2.sqrt()
    scale = radius.log()
    basis = torch.stack((torch.ones_like(scale), scale, scale**2), dim=-1)
    values = values / _smooth(values, samples.weights, basis).clamp(min=0.05)
    mean = _smooth(values.mean(dim=0, keepdim=True), samples.weights, background_basis(radius))[0]
    return replace(samples, weights=samples.weights / mean.clamp(min=0.05).square()), values


def _smooth(values: Tensor, weights: Tensor, basis: Tensor) -> Tensor:
    """Weighted least-squares fit of the basis to each row."""
    weighted = basis * weights[:, None]
    return (basis @ torch.linalg.solve((weighted.mT @ basis).double(), (values @ weighted).mT.double()).to(values.dtype)).mT


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


def ring_samples(spectrum: TileSpectra, optics: Optics) -> tuple[Samples, Float[Tensor, "t r"]]:
    """(rings as samples, profile of each tile), averages of the cells over all sectors."""
    samples = spectrum.samples
    numbers = spectrum.ring_numbers(samples.s2)
    count = int(numbers.max()) + 1
    stacked = torch.cat((samples.s2.sqrt()[None], spectrum.values)) * samples.weights
    weights = ring_means(samples.weights, numbers, count).clamp(min=1e-6)
    means = ring_means(stacked, numbers, count) / weights
    totals = weights * torch.bincount(numbers, minlength=count)
    frequencies = torch.stack((torch.zeros_like(means[0]), means[0]), dim=-1)
    return ctf_fit.make_samples(frequencies, totals, optics), means[1:]


def equiphase(
    spectrum: TileSpectra,
    places: Samples,
    values: Float[Tensor, "t n"],
    parameters: Float[Tensor, "4"],
    offsets: Float[Tensor, "t"],
    optics: Optics,
) -> tuple[Samples, Float[Tensor, "t r"]]:
    """(rings as samples, profiles) of values at places averaged along lines of equal phase; offsets: local defocus in Å of each row."""
    numbers = _phase_rings(spectrum, places, parameters, offsets, optics)
    count = int(spectrum.ring_numbers(places.s2.max())) + 1
    weighted = values * places.weights
    sums = weighted.new_zeros(len(values), count + 2).scatter_add(1, numbers, weighted)[:, 1:-1]
    weights = weighted.new_zeros(len(values), count + 2).scatter_add(1, numbers, places.weights.expand_as(weighted))[:, 1:-1]
    radius = torch.arange(spectrum.lowest, spectrum.lowest + count, device=numbers.device) / spectrum.length
    frequencies = torch.stack((torch.zeros_like(radius), radius), dim=-1)
    return ctf_fit.make_samples(frequencies, weights.mean(dim=0).clamp(min=1e-3), optics), sums / weights.clamp(min=1)


def _phase_rings(spectrum: TileSpectra, places: Samples, parameters: Tensor, offsets: Tensor, optics: Optics) -> Int[Tensor, "t n"]:
    """Ring of equal phase each place belongs to for each row's defocus offset, from 1; 0 and one more than the last lie outside."""
    local = parameters[0] + (places.terms[:, 1:3] @ parameters[1:3]) / places.terms[:, 0]
    count = int(spectrum.ring_numbers(places.s2.max())) + 1
    return spectrum.ring_numbers(equivalent_s2(places.s2, local + offsets[:, None], float(parameters[0]), optics)).clamp(-1, count) + 1


def arc_means(spectrum: TileSpectra, parameters: Float[Tensor, "4"], optics: Optics) -> Float[Tensor, "p"]:
    """The average of all tiles at each pixel, itself averaged over an arc of equal phase with weights 1 2 3 2 1 over 12 degrees."""
    rings = _phase_rings(spectrum, spectrum.pixels, parameters, parameters.new_zeros(1), optics)[0]
    arcs = 2 * SECTORS
    azimuth = torch.atan2(spectrum.pixels.frequencies[:, 0], spectrum.pixels.frequencies[:, 1])
    cell = rings * arcs + ((azimuth / math.pi + 0.5) * arcs).long().clamp(0, arcs - 1)
    both = torch.stack((spectrum.power.mean(dim=0), torch.ones_like(azimuth)))
    sums = both.new_zeros(2, (int(rings.max()) + 1) * arcs).index_add(1, cell, both).reshape(2, -1, arcs)
    sums = torch.stack([(3 - abs(shift)) * torch.roll(sums, shift, dims=-1) for shift in range(-2, 3)]).sum(dim=0)
    return (sums[0] / sums[1].clamp(min=1)).flatten()[cell]
