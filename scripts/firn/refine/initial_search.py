"""Expectation step of ab-initio reconstruction: posteriors over class, orientation and shift by matrix products.

The coarse step scores every particle and shift against every grid rotation of every class. The fine step looks at eight
rotations around each of the best coarse ones. Both return slices: posterior-weighted sums of images, one per rotation.
Convention: kernels/score.py; `noise` is the variance per coefficient at the points of the disc.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import shift_phases
from firn.kernels.grid import FourierDisc, shell_sums
from firn.kernels.project import project_points
from firn.kernels.sampling import rotations_from_vectors
from firn.kernels.score import shifted_rows, weigh_projections
from firn.refine.initial_data import Observations

MAX_SCORES = 4_000_000
"""Numbers held at once in one temporary; particles are worked through in chunks."""
CANDIDATES = 10
"""Coarse rotations per particle around which the fine step looks."""
LOG_NOTHING = -60.0
"""Log-probabilities below this count as this: exponentials stay in the range that processors handle fast."""
LEAST_PROBABILITY = 2e-3
"""Fine poses less probable than this are not back-projected."""
LEAST_COLUMN = 1e-6
"""Grid rotations of which no particle at hand is more probable than this are not back-projected."""


class Search(NamedTuple):
    """Settings of one expectation step."""

    n: int
    disc: FourierDisc
    noise: Float[Tensor, " m"]
    shifts: Float[Tensor, "t 2"]
    shift_sigma: float
    """Standard deviation in pixels of the prior of shifts."""
    class_mixing: float = 0.0
    """How far class posteriors are drawn towards equality, 0 ... 1."""


class Slices(NamedTuple):
    """What is to be back-projected: under the posterior, sums of c y / s and of c² / s per class and rotation."""

    classes: Int[Tensor, " q"]
    rotations: Float[Tensor, "q 3 3"]
    sums: Complex[Tensor, "q m"]
    weights: Float[Tensor, "q m"]


class Found(NamedTuple):
    """What the search found for each particle."""

    log_likelihood: Float[Tensor, " b"]
    """Log of the evidence against that of pure noise."""
    class_posterior: Float[Tensor, "b k"]
    classes: Int[Tensor, " b"]
    rotations: Float[Tensor, "b 3 3"]
    shifts: Float[Tensor, "b 2"]
    """yx in pixels of the working box; moves the image so that the particle is centred."""
    peak: Float[Tensor, " b"]
    """Probability of the best pose."""
    candidates: Int[Tensor, "b c"]
    """Best (class, grid rotation) pairs as class * rotations + rotation; empty after the fine step."""


class Outcome(NamedTuple):
    """Result of an expectation step over some particles."""

    slices: Slices
    found: Found
    residual: Float[Tensor, " s"]
    """Sum over particles of the expected squared residual per shell, mean per coefficient."""


def project_grid(spectra: list[Tensor], rotations: Float[Tensor, "p 3 3"], disc: FourierDisc) -> Complex[Tensor, "k p m"]:
    """Projections of all classes (spectra: prepare_volume) at all rotations."""
    return torch.stack([project_points(spectrum, rotations, disc.points) for spectrum in spectra])


def search_grid(
    observations: Observations, projections: Complex[Tensor, "k p m"], rotations: Float[Tensor, "p 3 3"], search: Search
) -> Outcome:
    """Posterior over all classes, rotations and shifts of the grids, and what it back-projects."""
    classes, count, points = projections.shape
    columns, powers = weigh_projections(projections.flatten(0, 1), search.disc.weights)
    sums, weights = columns.new_zeros(columns.shape), columns.new_zeros(powers.shape)
    found = []
    for rows, ctf_power, posterior, batch_found in _grid_batches(observations, columns, powers, rotations, classes, search):
        marginal = posterior.sum(1)
        kept = (marginal.amax(0) > LEAST_COLUMN).nonzero()[:, 0]
        sums[kept] += posterior[..., kept].flatten(0, 1).T @ rows.flatten(0, 1)
        weights[kept] += marginal[:, kept].T @ ctf_power
        found.append(batch_found)
    slices = Slices(
        torch.arange(classes, device=sums.device).repeat_interleave(count),
        rotations.repeat(classes, 1, 1),
        torch.view_as_complex(sums.view(classes * count, points, 2)),
        weights,
    )
    return Outcome(slices, _join(found), _residual(observations, slices, projections.flatten(0, 1), search))


def rank_grid(
    observations: Observations, projections: Complex[Tensor, "k p m"], rotations: Float[Tensor, "p 3 3"], search: Search
) -> Found:
    """What search_grid finds, without the sums: half the work."""
    columns, powers = weigh_projections(projections.flatten(0, 1), search.disc.weights)
    return _join([part[3] for part in _grid_batches(observations, columns, powers, rotations, len(projections), search)])


def _grid_batches(
    observations: Observations, columns: Tensor, powers: Tensor, rotations: Tensor, classes: int, search: Search
) -> Iterator[tuple[Tensor, Tensor, Tensor, Found]]:
    """(shifted rows, c² / s, posterior `(b, t, k p)`, what was found) for chunks of the particles."""
    phases = shift_phases(search.disc.points / search.n, search.shifts)
    prior = _shift_prior(search.shifts, search)
    step = max(1, MAX_SCORES // (len(phases) * len(columns)))
    for start in range(0, len(observations.ctf), step):
        batch = observations.pick(slice(start, start + step))
        rows = shifted_rows(batch.spectra * batch.ctf / search.noise, phases)
        ctf_power = batch.ctf**2 / search.noise
        scores = (rows.flatten(0, 1) @ columns.T).view(len(rows), len(phases), -1)
        scores += prior[:, None]
        scores -= (ctf_power @ powers.T)[:, None]
        yield rows, ctf_power, *_grid_posterior(scores, rotations, classes, search)


def search_near(
    observations: Observations, spectra: list[Tensor], coarse: Found, rotations: Float[Tensor, "p 3 3"], step: float, search: Search
) -> Outcome:
    """Posterior over eight rotations, `step` degrees apart, around each coarse candidate, and over shifts around the best coarse one.

    search.shifts are relative to the coarse shift of each particle.
    """
    corners = rotations_from_vectors(torch.cartesian_prod(*[torch.tensor([-step / 2, step / 2])] * 3)).to(rotations.device)
    chunk = max(1, MAX_SCORES // (coarse.candidates.shape[1] * 8 * len(search.disc.points) * 2))
    parts = []
    for start in range(0, len(observations.ctf), chunk):
        rows = slice(start, start + chunk)
        classes = (coarse.candidates[rows] // len(rotations)).repeat_interleave(8, dim=1)
        turned = (rotations[coarse.candidates[rows] % len(rotations)][:, :, None] @ corners).flatten(1, 2)
        parts.append(_search_candidates(observations.pick(rows), spectra, classes, turned, coarse.shifts[rows], search))
    slices = Slices(*(torch.cat(column) for column in zip(*(part.slices for part in parts), strict=True)))
    return Outcome(slices, _join([part.found for part in parts]), torch.stack([part.residual for part in parts]).sum(0))


def _search_candidates(
    batch: Observations, spectra: list[Tensor], classes: Tensor, rotations: Tensor, base: Tensor, search: Search
) -> Outcome:
    """Each particle against its own candidates: classes `(b, c)`, rotations `(b, c, 3, 3)`."""
    projections = _project_mixed(spectra, classes.flatten(), rotations.flatten(0, 1), search.disc).view(*classes.shape, -1)
    columns, powers = weigh_projections(projections, search.disc.weights)
    shifts = base[:, None] + search.shifts
    phases = shift_phases(search.disc.points / search.n, shifts)
    rows = torch.view_as_real((batch.spectra * batch.ctf / search.noise)[:, None] * phases).flatten(-2)
    ctf_power = batch.ctf**2 / search.noise
    scores = rows @ columns.mT - (powers @ ctf_power[..., None]).mT + _shift_prior(shifts, search)[..., None]
    posterior, found = _candidate_posterior(scores, classes, rotations, shifts, len(spectra), search)
    marginal = posterior.sum(1)
    kept = marginal > LEAST_PROBABILITY
    particle = kept.nonzero()[:, 0]
    sums = torch.view_as_complex((posterior.mT @ rows).unflatten(-1, (-1, 2)))[kept]
    slices = Slices(classes[kept], rotations[kept], sums, marginal[kept][:, None] * ctf_power[particle])
    return Outcome(slices, found, _residual(batch, slices, projections[kept], search))


def _project_mixed(spectra: list[Tensor], classes: Tensor, rotations: Tensor, disc: FourierDisc) -> Tensor:
    """Projections `(q, m)`, each of its own class."""
    if len(spectra) == 1:
        return project_points(spectra[0], rotations, disc.points)
    out = torch.empty(len(classes), len(disc.points), dtype=spectra[0].dtype, device=classes.device)
    for number, spectrum in enumerate(spectra):
        out[classes == number] = project_points(spectrum, rotations[classes == number], disc.points)
    return out


def _grid_posterior(scores: Tensor, rotations: Tensor, classes: int, search: Search) -> tuple[Tensor, Found]:
    """Posterior `(b, t, k p)`, made in place of the scores."""
    b, t, columns = scores.shape
    peak, best = scores.flatten(1).max(1)
    posterior = scores.sub_(peak[:, None, None]).clamp_(min=LOG_NOTHING).exp_()
    mass = posterior.view(b, t, classes, -1).sum((1, 3))
    total = mass.sum(1)
    share = mass / total[:, None]
    candidates = posterior.sum(1).topk(min(CANDIDATES, columns)).indices
    posterior.view(b, t, classes, -1).mul_((_mixed(share, search) / mass.clamp(min=1e-30))[:, None, :, None])
    column = best % columns
    count = columns // classes
    found = Found(
        peak + torch.log(total / (t * columns)), share, column // count, rotations[column % count],
        search.shifts[best // columns], 1 / total, candidates,
    )  # fmt: skip
    return posterior, found


def _candidate_posterior(
    scores: Tensor, classes: Tensor, rotations: Tensor, shifts: Tensor, class_count: int, search: Search
) -> tuple[Tensor, Found]:
    """Posterior `(b, t, c)` over each particle's candidates."""
    b, t, c = scores.shape
    peak, best = scores.flatten(1).max(1)
    posterior = torch.exp((scores - peak[:, None, None]).clamp(min=LOG_NOTHING))
    mass = posterior.new_zeros(b, class_count).scatter_add_(1, classes, posterior.sum(1))
    total = mass.sum(1)
    share = mass / total[:, None]
    factor = _mixed(share, search) / mass.clamp(min=1e-30)
    posterior = posterior * factor.gather(1, classes)[:, None]
    posterior = posterior / posterior.sum((1, 2), keepdim=True)
    row = torch.arange(b, device=best.device)
    found = Found(
        peak + torch.log(total / (t * c)), share, classes[row, best % c], rotations[row, best % c], shifts[row, best // c],
        1 / total, classes[:, :0],
    )  # fmt: skip
    return posterior, found


def _mixed(share: Tensor, search: Search) -> Tensor:
    return (1 - search.class_mixing) * share + search.class_mixing / share.shape[1]


def _shift_prior(shifts: Tensor, search: Search) -> Tensor:
    return -0.5 * shifts.square().sum(-1) / search.shift_sigma**2


def _residual(observations: Observations, slices: Slices, projections: Tensor, search: Search) -> Tensor:
    """Expected |y - c p|² per coefficient, summed over particles and averaged over each shell."""
    power = observations.spectra.abs().square().sum(0)
    explained = 2 * (projections.conj() * slices.sums).real - slices.weights * projections.abs().square()
    residual = power - explained.sum(0) * search.noise
    count = int(search.disc.shells.max()) + 1
    numbers = shell_sums(search.disc.weights, search.disc.shells, count)
    return shell_sums(residual * search.disc.weights, search.disc.shells, count) / numbers


def _join(parts: list[Found]) -> Found:
    return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))
