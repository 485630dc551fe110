"""The contrast transfer function of one micrograph: one defocus, astigmatism, a surface, and how far the rings go.

Convention: as in kernels.ctf and kernels.defocus_surface. The steps follow Rohou & Grigorieff (2015) and Zhang (2016).
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels import ctf_fit, surface_fit
from firn.kernels.ctf import wavelength
from firn.kernels.ctf_fit import Optics, Samples
from firn.kernels.defocus_surface import surface_basis
from firn.kernels.power_spectrum import ring_means
from firn.kernels.ring_profile import fit_resolution, ring_correlation, ring_windows, without_trend
from firn.preprocess.ctf_spectrum import (
    CtfSettings,
    TileSpectra,
    arc_means,
    background_basis,
    equiphase,
    measure,
    ring_samples,
)

B_FACTORS = (0.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
RINGS_GAIN, PLANE_COST, BEND_COST = 15.0, 4.0, 12.0
"""Log-likelihoods by which rings, a plane and a plane with a bend must explain more than nothing, or than a flat specimen."""
STEEPEST = math.tan(math.radians(60.0))
OFFSET_STEP = 60.0
SURFACE_ROUNDS = 2


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
class _Profile:
    """Average of all tiles along lines of equal phase, with its model."""

    rings: Samples
    values: Tensor
    model: Tensor
    windows: Tensor


def estimate_ctf(image: Float[Tensor, "y x"], pixel_size: float, optics: Optics, settings: CtfSettings) -> CtfEstimate:
    """Fit defocus, astigmatism and a defocus surface to a micrograph (pixel_size in Å).

    Raises ValueError when the image is too small or has no contrast.
    """
    spectrum = measure(image, pixel_size, optics, settings)
    parameters, b_factor = _search(spectrum, optics, settings)
    significant = _rings_gain(spectrum, parameters, b_factor) > RINGS_GAIN
    surface = parameters.new_zeros(5)
    if significant:
        parameters = _refine(spectrum, parameters, settings)
    envelope = _envelope(spectrum, parameters, surface)
    if settings.surface and significant and len(spectrum.values) >= 4:
        parameters, surface = _fit_surface(spectrum, parameters, envelope, optics)
        for _ in range(SURFACE_ROUNDS if bool(surface.any()) else 0):
            envelope = _envelope(spectrum, parameters, surface)
            parameters, surface = _fit_surface(spectrum, parameters, envelope, optics, surface)
    return _describe(spectrum, parameters, surface, envelope, optics, significant, settings.min_resolution)


def _search(spectrum: TileSpectra, optics: Optics, settings: CtfSettings) -> tuple[Tensor, float]:
    """(parameters, B-factor) with the best correlation: one defocus on the ring profile, then astigmatism on sectors."""
    found = [_search_astigmatism(spectrum, start, b_factor, settings) for start, b_factor in _search_defocus(spectrum, optics, settings)]
    _, parameters, b_factor = max(found, key=lambda entry: entry[0])
    return parameters, b_factor


def _search_defocus(spectrum: TileSpectra, optics: Optics, settings: CtfSettings, count: int = 6) -> list[tuple[Tensor, float]]:
    """The best few (parameters, B-factor) without astigmatism: those that correlate more than 0.6 times as well as the best."""
    samples, profiles = ring_samples(spectrum, optics)
    project = ctf_fit.make_projector(samples.weights, background_basis(samples.s2.sqrt()))
    step = 0.4 / (math.pi * float(wavelength(optics.voltage_kv)) * float(samples.s2.max()))
    defocus = torch.arange(settings.min_defocus, settings.max_defocus + step, step, device=profiles.device)
    envelopes = _exponentials(samples)
    found: list[tuple[float, Tensor, float]] = []
    for phase in _phase_shifts(settings):
        parameters = torch.nn.functional.pad(defocus[:, None], (0, 3))
        parameters[:, 3] = phase
        scores, envelope = ctf_fit.correlations(samples, project, profiles.mean(dim=0), parameters, envelopes).max(dim=-1)
        found += [(float(scores[i]), parameters[i], B_FACTORS[int(envelope[i])]) for i in ctf_fit.local_maxima(scores, count)]
    found.sort(key=lambda entry: -entry[0])
    return [(parameters, b_factor) for score, parameters, b_factor in found[:count] if score >= 0.6 * found[0][0]]


def _phase_shifts(settings: CtfSettings) -> list[float]:
    """Phase shifts in radians that are tried: every ten degrees or less between the limits."""
    if not settings.phase_shift:
        return [0.0]
    count = 1 + math.ceil((settings.max_phase_shift - settings.min_phase_shift) / 10)
    return torch.deg2rad(torch.linspace(settings.min_phase_shift, settings.max_phase_shift, count)).tolist()


def _search_astigmatism(spectrum: TileSpectra, start: Tensor, b_factor: float, settings: CtfSettings) -> tuple[float, Tensor, float]:
    """(log-posterior, parameters, B-factor) near a start: a grid of astigmatism and defocus, then Gauss-Newton steps."""
    samples, project, values = spectrum.samples, spectrum.project, spectrum.mean
    axis = torch.arange(-900.0, 901.0, 150.0, device=values.device)
    astigmatism = torch.cartesian_prod(axis, axis)
    astigmatism = astigmatism[astigmatism.norm(dim=-1) <= 901]
    shifts = torch.tensor((-200.0, -100.0, 0.0, 100.0, 200.0), device=values.device)
    trials = start.repeat(len(shifts), len(astigmatism), 1)
    trials[..., 0] += shifts[:, None]
    trials[..., 1:3] = astigmatism
    trials = trials.reshape(-1, 4)
    power = float(project(values).square().sum()) / spectrum.noise
    scores = ctf_fit.correlations(samples, project, values, trials, ctf_fit.exponential(samples, b_factor)[None])[:, 0]
    parameters = trials[ctf_fit.posterior(scores, trials, power).argmax()]
    for _ in range(2):
        envelope = ctf_fit.exponential(samples, b_factor)[:, None]
        parameters = ctf_fit.refine(samples, project, envelope, values, parameters, spectrum.noise, _free(settings))
        score, best = ctf_fit.correlations(samples, project, values, parameters[None], _exponentials(samples))[0].max(dim=-1)
        b_factor = B_FACTORS[int(best)]
    inside = settings.min_defocus <= float(parameters[0]) <= settings.max_defocus
    return (float(ctf_fit.posterior(score, parameters, power)) if inside else -math.inf), parameters, b_factor


def _exponentials(samples: Samples) -> Tensor:
    return torch.stack([ctf_fit.exponential(samples, b_factor) for b_factor in B_FACTORS])


def _free(settings: CtfSettings) -> tuple[int, ...]:
    return (0, 1, 2, 3) if settings.phase_shift else (0, 1, 2)


def _profile(spectrum: TileSpectra, parameters: Tensor, surface: Tensor, optics: Optics) -> _Profile:
    """Profile up to the reach; without a surface all tiles share their lines of equal phase, and their average is enough."""
    power, offsets = spectrum.power, surface_basis(spectrum.points) @ surface
    if not bool(surface.any()):
        power, offsets = power.mean(dim=0, keepdim=True), offsets[:1]
    rings, profiles = equiphase(spectrum, spectrum.pixels, power, parameters, offsets, optics)
    isotropic = torch.cat((parameters[:1], parameters.new_zeros(2), parameters[3:]))
    phase = ctf_fit.phases(rings, isotropic)
    return _Profile(rings, without_trend(profiles.mean(dim=0), phase), -torch.cos(2 * phase), ring_windows(phase))


def _envelope(spectrum: TileSpectra, parameters: Tensor, surface: Tensor) -> Tensor:
    """Height of the rings at each sample; without a surface the average of the tiles is enough."""
    values, offsets = spectrum.values, surface_basis(spectrum.points) @ surface
    if not bool(surface.any()):
        values, offsets = values.mean(dim=0, keepdim=True), offsets[:1]
    heights = background_basis(spectrum.samples.s2.sqrt())
    return surface_fit.ring_envelope(spectrum.samples, spectrum.project, heights, values, parameters, offsets)


def _refine(spectrum: TileSpectra, parameters: Tensor, settings: CtfSettings) -> Tensor:
    """Parameters with the ring heights fitted along with them, so that neither heights nor background can shift the rings."""
    heights = background_basis(spectrum.samples.s2.sqrt())
    return ctf_fit.refine(spectrum.samples, spectrum.project, heights, spectrum.mean, parameters, spectrum.noise, _free(settings))


def _fit_surface(
    spectrum: TileSpectra, parameters: Tensor, envelope: Tensor, optics: Optics, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(parameters, surface coefficients): a plane where the tiles support it, then a bend where they support that too.

    known: a surface to start from, instead of a grid of planes.
    """
    basis = surface_basis(spectrum.points)
    flat = torch.cat((parameters.new_ones(1), parameters[:3], parameters.new_zeros(5)))
    plane = flat.clone()
    plane[4:] = _plane_start(spectrum, parameters, envelope, basis, optics) if known is None else known
    samples = replace(spectrum.samples, base=spectrum.samples.base + parameters[3])

    def fit(start: Tensor, terms: int) -> tuple[Tensor, float]:
        return surface_fit.fit_surface(samples, spectrum.project, spectrum.values, basis, start, envelope, spectrum.redundancy, terms)

    state, score = fit(flat, 0)
    trial, worth = plane, 0.0
    for terms, cost in ((2, PLANE_COST), (5, BEND_COST)):
        trial, trial_score = fit(trial, terms)
        if trial_score - cost > score - worth:
            state, score, worth = trial, trial_score, cost
    return torch.cat((state[1:4], parameters[3:])), state[4:]


def _plane_start(spectrum: TileSpectra, parameters: Tensor, envelope: Tensor, basis: Tensor, optics: Optics) -> Tensor:
    """Slopes from a grid, so that a strong tilt lies within reach of the Gauss-Newton steps."""
    samples, profiles = equiphase(spectrum, spectrum.samples, spectrum.values, parameters, parameters.new_zeros(len(basis)), optics)
    project = ctf_fit.make_projector(samples.weights, background_basis(samples.s2.sqrt()))
    reach = STEEPEST * spectrum.half_side
    offsets = torch.arange(-2 * reach, 2 * reach + OFFSET_STEP, OFFSET_STEP, device=basis.device)
    heights = ring_means(envelope, spectrum.ring_numbers(spectrum.samples.s2), len(samples.base))
    likelihoods = surface_fit.offset_likelihoods(samples, project, profiles, parameters, heights, offsets, spectrum.redundancy)
    return surface_fit.best_plane(likelihoods, offsets, basis, reach=reach, step=reach / 20)


def _describe(
    spectrum: TileSpectra, parameters: Tensor, surface: Tensor, envelope: Tensor, optics: Optics, significant: bool, worst: float
) -> CtfEstimate:
    profile = _profile(spectrum, parameters, surface, optics)
    correlation = ring_correlation(profile.values, profile.model, profile.windows)
    defocus_u, defocus_v, angle = ctf_fit.defocus_from(parameters)
    frequency = profile.rings.s2.sqrt()
    return CtfEstimate(
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        defocus_angle=angle,
        phase_shift=(optics.phase_shift + math.degrees(float(parameters[3]))) % 180.0,
        surface=tuple(surface.tolist()),
        score=_correlation(spectrum, parameters, envelope),
        fit_resolution=fit_resolution(frequency, correlation, worst) if significant else worst,
        ice_ring=spectrum.ice_ring,
        frequency=frequency,
        profile=profile.values,
        fit=profile.model,
        correlation=correlation,
        picture=_picture(spectrum, parameters, optics),
        tiles=spectrum.tiles,
        tiles_used=len(spectrum.values),
    )


def _rings_gain(spectrum: TileSpectra, parameters: Tensor, b_factor: float) -> float:
    """Log-likelihood by which the rings found explain more than the background alone; noise reaches about 10 over a whole search."""
    pattern = spectrum.project(ctf_fit.rings(spectrum.samples, parameters, ctf_fit.exponential(spectrum.samples, b_factor)))
    match = float(pattern @ spectrum.project(spectrum.mean) / pattern.norm().clamp(min=1e-20))
    return 0.5 * max(match, 0.0) ** 2 / spectrum.noise


def _correlation(spectrum: TileSpectra, parameters: Tensor, envelope: Tensor) -> float:
    """Correlation of the average spectrum with the fitted rings over all cells."""
    pattern = spectrum.project(ctf_fit.rings(spectrum.samples, parameters, envelope))
    target = spectrum.project(spectrum.mean)
    return float(pattern @ target / (pattern.norm() * target.norm()).clamp(min=1e-20))


def _picture(spectrum: TileSpectra, parameters: Tensor, optics: Optics) -> Float[Tensor, "y x"]:
    """Centred picture up to the reach: measured spectrum, averaged over short arcs of equal phase, left, fitted rings right, about 0."""
    measured, fit = (torch.zeros(spectrum.inside.shape, device=spectrum.inside.device) for _ in range(2))
    measured[spectrum.inside] = arc_means(spectrum, parameters, optics) - 1
    fit[spectrum.inside] = ctf_fit.rings(spectrum.pixels, parameters, torch.ones_like(spectrum.pixels.base))
    reach = min(int(float(spectrum.pixels.s2.max().sqrt()) * spectrum.length) + 2, spectrum.tile // 2 - 1)
    left, right = (_half_plane(plane, reach) for plane in (measured, fit))
    return torch.cat((torch.flip(left, (0, 1))[:, :-1], right), dim=1)


def _half_plane(spectrum: Tensor, reach: int) -> Tensor:
    """Rows -reach ... reach and columns 0 ... reach of an rfft grid."""
    return torch.cat((spectrum[-reach:], spectrum[: reach + 1]))[:, : reach + 1]
