"""The contrast transfer function of one micrograph: spectra, one defocus, astigmatism, a surface, and how far the rings go.

Convention: as in kernels.ctf and kernels.defocus_surface. The steps follow Rohou & Grigorieff (2015) and Zhang (2016).
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels import ctf_fit, surface_fit
from firn.kernels.ctf import wavelength
from firn.kernels.ctf_fit import Optics, Projector, Samples
from firn.kernels.defocus_surface import normalised_points, surface_basis
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

TILE_A = 800.0
SECTORS = 36
B_FACTORS = (0.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
BACKGROUND_INTERVALS = 3
RINGS_GAIN, PLANE_GAIN, BEND_GAIN = 15.0, 8.0, 8.0


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
class CtfEstimate:
    """Defocus in Å, angles in degrees, resolution in Å; curves over spatial frequency (1/Å) and the spectrum for pictures."""

    defocus_u: float
    defocus_v: float
    defocus_angle: float
    phase_shift: float
    surface: tuple[float, ...]
    score: float
    fit_resolution: float
    ice_ring: float
    frequency: Float[Tensor, "r"]
    profile: Float[Tensor, "r"]
    fit: Float[Tensor, "r"]
    correlation: Float[Tensor, "r"]
    picture: Float[Tensor, "y x"]
    tiles: int
    tiles_used: int


@dataclass(frozen=True)
class _Spectrum:
    """Spectra of the usable tiles inside the fitted band, divided by the background."""

    tile: int
    length: float
    inside: Tensor
    samples: Samples
    project: Projector
    values: Tensor
    background: Tensor
    points: Tensor
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
    def ring_numbers(self) -> Tensor:
        """Ring of each sample, in frequency pixels from the lowest."""
        numbers = (self.samples.s2.sqrt() * self.length).round().long()
        return numbers - numbers.min()


def estimate_ctf(image: Float[Tensor, "y x"], pixel_size: float, optics: Optics, settings: CtfSettings) -> CtfEstimate:
    """Fit defocus, astigmatism and a defocus surface to a micrograph (pixel_size in Å).

    Raises ValueError when the image is too small or has no contrast.
    """
    spectrum = _measure(image, pixel_size, optics, settings)
    parameters, b_factor = _search(spectrum, optics, settings)
    surface = parameters.new_zeros(5)
    if settings.surface and len(spectrum.values) >= 4:
        parameters, surface = _fit_surface(spectrum, parameters, b_factor, optics)
    return _describe(spectrum, parameters, surface, b_factor, optics, settings)


def choose_tile(shape: tuple[int, int], pixel_size: float) -> int:
    """Side of the tiles in pixels: about 800 Å, which resolves rings at 4 Å up to 30000 Å of defocus, within the image."""
    largest = int(min(shape) / 1.5) // 2 * 2
    return min(max(fast_size(round(TILE_A / pixel_size)), 128), largest)


def _measure(image: Tensor, pixel_size: float, optics: Optics, settings: CtfSettings) -> _Spectrum:
    shape = (image.shape[0], image.shape[1])
    tile = min(settings.tile_px or choose_tile(shape, pixel_size), min(shape) // 2 * 2)
    corners = tile_corners(shape, tile).to(image.device)
    spectra = tile_spectra(image.float(), corners, tile)
    grid = frequencies2((tile, tile), image.device) / pixel_size
    inside = band(grid, 1 / settings.min_resolution, min(1 / settings.max_resolution, 0.49 / pixel_size))
    power = spectra[:, inside]
    if not bool((power > 0).any(dim=-1).all()) or power.shape[-1] < 200:
        raise ValueError("has no contrast in the fitted band")
    good = usable_tiles(power)
    power, spectra = power[good], spectra[good]
    level = power.mean(dim=-1)
    samples = ctf_fit.make_samples(grid[inside], torch.ones_like(grid[inside][:, 0]), optics)
    basis = _background_basis(samples.s2.sqrt())
    power = power / level[:, None]
    background = _background(power.mean(dim=0), samples.s2.sqrt(), basis, tile * pixel_size)
    centres = corners[good].float() + (tile - 1) / 2
    return _Spectrum(
        tile=tile,
        length=tile * pixel_size,
        inside=inside,
        samples=samples,
        project=ctf_fit.make_projector(samples.weights, basis),
        values=_flatten_tiles(power / background, basis),
        background=background,
        points=normalised_points(centres[:, 1], centres[:, 0], shape[1], shape[0]),
        tiles=len(corners),
        redundancy=spectral_redundancy(shape, tile),
        ice_ring=_ice_ring((spectra / level[:, None, None]).mean(dim=0), grid * pixel_size, tile, pixel_size),
    )


def _background_basis(radius: Tensor) -> Tensor:
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


def _search(spectrum: _Spectrum, optics: Optics, settings: CtfSettings) -> tuple[Tensor, float]:
    """(parameters, B-factor) with the best correlation: one defocus on the ring profile, then astigmatism on sectors."""
    values = spectrum.mean
    cells, cell_values = _cells(spectrum, values, SECTORS, optics)
    project = ctf_fit.make_projector(cells.weights, _background_basis(cells.s2.sqrt()))
    found = [
        _search_astigmatism(cells, project, cell_values, start, b_factor, spectrum.noise, settings)
        for start, b_factor in _search_defocus(spectrum, values, optics, settings)
    ]
    _, parameters, b_factor = max(found, key=lambda entry: entry[0])
    return parameters, b_factor


def _cells(spectrum: _Spectrum, values: Tensor, sectors: int, optics: Optics) -> tuple[Samples, Tensor]:
    """Samples and values averaged over cells one ring by one of `sectors` sectors of the half-plane."""
    fy, fx = spectrum.samples.frequencies.unbind(-1)
    sector = ((torch.atan2(fy, fx) / math.pi + 0.5) * sectors).long().clamp(0, sectors - 1)
    cell = spectrum.ring_numbers * sectors + sector
    count = int(cell.max()) + 1
    stacked = torch.stack((values, spectrum.samples.s2.sqrt(), torch.atan2(fy, fx)))
    means = ring_means(stacked, cell, count)
    weights = torch.bincount(cell, minlength=count).float()
    full = weights > 0
    mean_values, radius, azimuth = means[:, full]
    frequencies = torch.stack((radius * torch.sin(azimuth), radius * torch.cos(azimuth)), dim=-1)
    return ctf_fit.make_samples(frequencies, weights[full], optics), mean_values


def _search_defocus(
    spectrum: _Spectrum, values: Tensor, optics: Optics, settings: CtfSettings, count: int = 6
) -> list[tuple[Tensor, float]]:
    """The best few (parameters, B-factor) without astigmatism."""
    cells, profile = _cells(spectrum, values, 1, optics)
    project = ctf_fit.make_projector(cells.weights, _background_basis(cells.s2.sqrt()))
    step = 0.4 / (math.pi * float(wavelength(optics.voltage_kv)) * float(cells.s2.max()))
    defocus = torch.arange(settings.min_defocus, settings.max_defocus + step, step, device=values.device)
    b_factors = torch.tensor(B_FACTORS)
    found: list[tuple[float, Tensor, float]] = []
    for phase in torch.arange(0.0, math.pi, math.pi / 18).tolist() if settings.phase_shift else [0.0]:
        parameters = torch.nn.functional.pad(defocus[:, None], (0, 3))
        parameters[:, 3] = phase
        scores, envelope = ctf_fit.correlations(cells, project, profile, parameters, b_factors).max(dim=-1)
        found += [(float(scores[i]), parameters[i], B_FACTORS[int(envelope[i])]) for i in ctf_fit.local_maxima(scores, count)]
    found.sort(key=lambda entry: -entry[0])
    return [(parameters, b_factor) for _, parameters, b_factor in found[:count]]


def _search_astigmatism(
    cells: Samples, project: Projector, values: Tensor, start: Tensor, b_factor: float, noise: float, settings: CtfSettings
) -> tuple[float, Tensor, float]:
    """(log-posterior, parameters, B-factor) near a start: a grid of astigmatism and defocus, then Gauss-Newton steps."""
    axis = torch.arange(-900.0, 901.0, 150.0, device=values.device)
    astigmatism = torch.cartesian_prod(axis, axis)
    astigmatism = astigmatism[astigmatism.norm(dim=-1) <= 901]
    shifts = torch.tensor((-200.0, -100.0, 0.0, 100.0, 200.0), device=values.device)
    trials = start.repeat(len(shifts), len(astigmatism), 1)
    trials[..., 0] += shifts[:, None]
    trials[..., 1:3] = astigmatism
    trials = trials.reshape(-1, 4)
    power = float(project(values).square().sum()) / noise
    scores = ctf_fit.correlations(cells, project, values, trials, torch.tensor([b_factor]))[:, 0]
    parameters = trials[ctf_fit.posterior(scores, trials, power).argmax()]
    free = (0, 1, 2, 3) if settings.phase_shift else (0, 1, 2)
    for _ in range(2):
        parameters = ctf_fit.refine(cells, project, values, parameters, b_factor, noise, free)
        score, best = ctf_fit.correlations(cells, project, values, parameters[None], torch.tensor(B_FACTORS))[0].max(dim=-1)
        b_factor = B_FACTORS[int(best)]
    inside = settings.min_defocus <= float(parameters[0]) <= settings.max_defocus
    return (float(ctf_fit.posterior(score, parameters, power)) if inside else -math.inf), parameters, b_factor


def _fit_surface(spectrum: _Spectrum, parameters: Tensor, b_factor: float, optics: Optics) -> tuple[Tensor, Tensor]:
    """(parameters, surface coefficients): a plane where the tiles support it, then a bend where they support that too."""
    basis = surface_basis(spectrum.points)
    amplitude = _amplitude(spectrum, parameters, b_factor)
    flat = torch.cat((amplitude[None], parameters[:3], parameters.new_zeros(5)))
    plane = flat.clone()
    plane[4:] = _plane_start(spectrum, parameters, amplitude, b_factor, basis, optics)
    samples = replace(spectrum.samples, base=spectrum.samples.base + parameters[3])
    state, score = surface_fit.fit_surface(samples, spectrum.project, spectrum.values, basis, flat, b_factor, spectrum.redundancy, terms=0)
    for start, terms, gain in ((plane, 2, PLANE_GAIN), (None, 5, BEND_GAIN)):
        begin = state if start is None else start
        trial, trial_score = surface_fit.fit_surface(
            samples, spectrum.project, spectrum.values, basis, begin, b_factor, spectrum.redundancy, terms
        )
        if trial_score < score + gain:
            break
        state, score = trial, trial_score
    return torch.cat((state[1:4], parameters[3:])), state[4:]


def _amplitude(spectrum: _Spectrum, parameters: Tensor, b_factor: float) -> Tensor:
    pattern = spectrum.project(ctf_fit.rings(spectrum.samples, parameters, b_factor))
    return (pattern @ spectrum.project(spectrum.mean)) / pattern.square().sum()


def _plane_start(spectrum: _Spectrum, parameters: Tensor, amplitude: Tensor, b_factor: float, basis: Tensor, optics: Optics) -> Tensor:
    """Slopes from a grid, so that a strong tilt lies within reach of the Gauss-Newton steps."""
    samples, profiles = _equiphase(spectrum, parameters, parameters.new_zeros(len(basis)), optics)
    project = ctf_fit.make_projector(samples.weights, _background_basis(samples.s2.sqrt()))
    offsets = torch.arange(-3000.0, 3001.0, 60.0, device=basis.device)
    envelope = amplitude * torch.exp(-b_factor * samples.s2 / 4)
    likelihoods = surface_fit.offset_likelihoods(samples, project, profiles, parameters, envelope, offsets, spectrum.redundancy)
    return surface_fit.best_plane(likelihoods, offsets, basis, reach=2000.0, step=100.0)


def _equiphase(spectrum: _Spectrum, parameters: Tensor, offsets: Tensor, optics: Optics) -> tuple[Samples, Tensor]:
    """(rings as samples, profiles `(t, r)`) of tiles along lines of equal phase; offsets `(t,)` are local defocus in Å."""
    samples = spectrum.samples
    scale = samples.terms[:, 0] / samples.s2
    local = parameters[0] + (samples.terms[:, 1:3] @ parameters[1:3]) / (scale * samples.s2)
    radius = ctf_fit.equivalent_s2(samples.s2, local + offsets[:, None], float(parameters[0]), optics).clamp(min=0).sqrt()
    numbers = (radius * spectrum.length).round().long()
    low = int((samples.s2.min().sqrt() * spectrum.length).round())
    count = int((samples.s2.max().sqrt() * spectrum.length).round()) - low + 1
    numbers = (numbers - low).clamp(-1, count) + 1
    profiles = torch.stack([ring_means(row, number, count + 2)[1:-1] for row, number in zip(spectrum.values, numbers, strict=True)])
    weights = torch.stack([torch.bincount(number, minlength=count + 2)[1:-1] for number in numbers]).float().mean(dim=0)
    ring_radius = torch.arange(low, low + count, device=radius.device) / spectrum.length
    frequencies = torch.stack((torch.zeros_like(ring_radius), ring_radius), dim=-1)
    return ctf_fit.make_samples(frequencies, weights.clamp(min=1e-3), optics), profiles


def _describe(
    spectrum: _Spectrum, parameters: Tensor, surface: Tensor, b_factor: float, optics: Optics, settings: CtfSettings
) -> CtfEstimate:
    offsets = surface_basis(spectrum.points) @ surface
    rings, profiles = _equiphase(spectrum, parameters, offsets, optics)
    project = ctf_fit.make_projector(rings.weights, _background_basis(rings.s2.sqrt()))
    profile = profiles.mean(dim=0)
    isotropic = torch.cat((parameters[:1], parameters.new_zeros(2), parameters[3:]))
    model = -torch.cos(2 * ctf_fit.phases(rings, isotropic))
    flattened = project(profile) / project.root
    correlation = ring_correlation(flattened, model, _ring_periods(rings, isotropic))
    pattern = spectrum.project(ctf_fit.rings(spectrum.samples, parameters, b_factor))
    target = spectrum.project(spectrum.mean)
    score = float(pattern @ target / (pattern.norm() * target.norm()))
    defocus_u, defocus_v, angle = ctf_fit.defocus_from(parameters)
    frequency = rings.s2.sqrt()
    return CtfEstimate(
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        defocus_angle=angle,
        phase_shift=(optics.phase_shift + math.degrees(float(parameters[3]))) % 180.0,
        surface=tuple(surface.tolist()),
        score=score,
        fit_resolution=fit_resolution(frequency, correlation, settings.min_resolution)
        if _is_significant(score, target, spectrum.redundancy)
        else settings.min_resolution,
        ice_ring=spectrum.ice_ring,
        frequency=frequency,
        profile=flattened,
        fit=model,
        correlation=correlation,
        picture=_picture(spectrum, parameters),
        tiles=spectrum.tiles,
        tiles_used=len(spectrum.values),
    )


def _is_significant(score: float, target: Tensor, redundancy: float) -> bool:
    """Whether the rings explain more than the best of all searched parameters would in noise, by log-likelihood."""
    return score > 0 and 0.5 * score**2 * len(target) / redundancy > RINGS_GAIN


def _ring_periods(rings: Samples, parameters: Tensor) -> Tensor:
    """Frequency pixels per ring at each radius: pi over the slope of the phase."""
    phase = ctf_fit.phases(rings, parameters)
    slope = torch.gradient(phase)[0].abs()
    return math.pi / slope.clamp(min=1e-3)


def ring_correlation(profile: Float[Tensor, "r"], model: Float[Tensor, "r"], periods: Float[Tensor, "r"]) -> Float[Tensor, "r"]:
    """Correlation of a profile with its model under a Gaussian window one ring, and at least five pixels, in deviation."""
    index = torch.arange(len(profile), device=profile.device, dtype=profile.dtype)
    width = periods.clamp(5.0, len(profile) / 4)
    window = torch.exp(-0.5 * ((index - index[:, None]) / width[:, None]) ** 2)
    window = window / window.sum(dim=-1, keepdim=True)
    mean_p, mean_m = window @ profile, window @ model
    covariance = window @ (profile * model) - mean_p * mean_m
    variance_p = (window @ profile**2 - mean_p**2).clamp(min=1e-20)
    variance_m = (window @ model**2 - mean_m**2).clamp(min=1e-20)
    return covariance / (variance_p * variance_m).sqrt()


def fit_resolution(frequency: Float[Tensor, "r"], correlation: Float[Tensor, "r"], worst: float, threshold: float = 0.3) -> float:
    """Resolution in Å at which the correlation first falls under the threshold; `worst` when it is never above it."""
    above = correlation >= threshold
    reached = torch.nonzero(above)
    if len(reached) == 0:
        return worst
    below = torch.nonzero(~above & (torch.arange(len(above), device=above.device) > reached[0]))
    last = int(below[0]) - 1 if len(below) else len(above) - 1
    return float(1 / frequency[last])


def _picture(spectrum: _Spectrum, parameters: Tensor) -> Float[Tensor, "y x"]:
    """Centred picture of the band: measured spectrum, smoothed over three pixels, on the left, fitted rings on the right, about 0."""
    measured, fit = (torch.zeros(spectrum.inside.shape, device=spectrum.inside.device) for _ in range(2))
    measured[spectrum.inside] = spectrum.mean - 1
    fit[spectrum.inside] = ctf_fit.rings(spectrum.samples, parameters, 0.0)
    reach = min(int(float(spectrum.samples.s2.max().sqrt()) * spectrum.length) + 2, spectrum.tile // 2 - 1)
    left, right = (_half_plane(plane, reach) for plane in (measured, fit))
    smooth = torch.nn.functional.avg_pool2d(torch.flip(left, (0, 1))[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.cat((smooth[:, :-1], right), dim=1)


def _half_plane(spectrum: Tensor, reach: int) -> Tensor:
    """Rows -reach ... reach and columns 0 ... reach of an rfft grid."""
    return torch.cat((spectrum[-reach:], spectrum[: reach + 1]))[:, : reach + 1]
