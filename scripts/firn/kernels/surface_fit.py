"""Fit one defocus surface to the spectra of all tiles of a micrograph at once.

Convention: tile spectra are rows of values over the same samples, background divided out, of unit variance per pixel where
there is only noise, `redundancy` pixels making one independent one; surface coefficients are those of kernels.defocus_surface. The fit is a maximum a posteriori estimate:
coefficients are drawn towards zero by Gaussian priors, so that noise gives a flat surface.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.ctf_fit import ASTIGMATISM_A, Projector, Samples, phases

PRIOR_A = (3000.0, 3000.0, 200.0, 200.0, 200.0)
"""Standard deviations in Å expected of the five coefficients."""


def offset_likelihoods(
    samples: Samples,
    project: Projector,
    profiles: Float[Tensor, "t r"],
    parameters: Float[Tensor, "4"],
    envelope: Float[Tensor, "r"],
    offsets: Float[Tensor, "d"],
    redundancy: float,
) -> Float[Tensor, "t d"]:
    """Log-likelihood of each defocus offset (Å) for the ring profile of each tile; samples are rings without astigmatism."""
    candidates = parameters.repeat(len(offsets), 1)
    candidates[:, 0] += offsets
    candidates[:, 1:3] = 0.0
    patterns = project(-torch.cos(2 * phases(samples, candidates)) * envelope)
    cross = project(profiles) @ patterns.mT
    return (cross - 0.5 * patterns.square().sum(dim=-1)) / redundancy


def best_plane(
    likelihoods: Float[Tensor, "t d"], offsets: Float[Tensor, "d"], basis: Float[Tensor, "t 5"], reach: float, step: float
) -> Float[Tensor, "5"]:
    """The plane on a grid of slopes (Å, up to `reach`) with the highest posterior, by looking up each tile's likelihood."""
    axis = torch.arange(-reach, reach + step / 2, step, device=basis.device)
    slopes = torch.cartesian_prod(axis, axis)
    position = (slopes @ basis[:, :2].mT - offsets[0]) / (offsets[1] - offsets[0])
    lower = position.floor().long().clamp(0, len(offsets) - 2)
    rows = torch.arange(len(basis), device=basis.device)
    fraction = (position - lower).clamp(0, 1)
    looked_up = likelihoods[rows, lower] * (1 - fraction) + likelihoods[rows, lower + 1] * fraction
    posterior = looked_up.sum(dim=-1) - 0.5 * (slopes / PRIOR_A[0]).square().sum(dim=-1)
    return torch.cat((slopes[posterior.argmax()], slopes.new_zeros(3)))


def fit_surface(
    samples: Samples,
    project: Projector,
    values: Float[Tensor, "t n"],
    basis: Float[Tensor, "t 5"],
    state: Float[Tensor, "9"],
    envelope: Float[Tensor, "n"],
    redundancy: float,
    terms: int,
    steps: int = 8,
) -> tuple[Float[Tensor, "9"], float]:
    """(state, log-posterior) after damped Gauss-Newton steps on all tiles.

    state: amplitude, mean defocus, the two astigmatism parameters, and the five surface coefficients; only the first `terms`
    coefficients move, the others stay as they are.
    """
    free = torch.arange(4 + terms, device=values.device)
    damping = 1e-3
    score, step = _surface_step(samples, project, values, basis, state, envelope, redundancy, free, damping)
    for _ in range(steps):
        trial = state.index_add(0, free, step)
        new_score, new_step = _surface_step(samples, project, values, basis, trial, envelope, redundancy, free, damping)
        if new_score > score:
            gained, damping = new_score - score, damping / 3
            state, score, step = trial, new_score, new_step
            if gained < 0.01:
                break
        else:
            damping *= 10
            step = _surface_step(samples, project, values, basis, state, envelope, redundancy, free, damping)[1]
    return state, score


def ring_envelope(
    samples: Samples,
    project: Projector,
    heights: Float[Tensor, "n k"],
    values: Float[Tensor, "t n"],
    parameters: Float[Tensor, "4"],
    offsets: Float[Tensor, "t"],
) -> Float[Tensor, "n"]:
    """Height of the rings at each sample, never negative: the sum of the functions `heights` that fits all tiles best.

    offsets: local defocus of each tile in Å beyond that of the parameters.
    """
    local = parameters.repeat(len(offsets), 1)
    local[:, 0] += offsets
    columns = project(-torch.cos(2 * phases(samples, local))[:, None] * heights.mT)
    normal = torch.einsum("tin,tjn->ij", columns, columns).double()
    match = torch.einsum("tin,tn->i", columns, project(values)).double()
    ridge = 1e-6 * normal.diagonal().mean() * torch.eye(len(normal), dtype=torch.float64, device=values.device)
    return (heights @ torch.linalg.solve(normal + ridge, match).to(values.dtype)).clamp(min=0)


def _surface_step(
    samples: Samples,
    project: Projector,
    values: Tensor,
    basis: Tensor,
    state: Tensor,
    envelope: Float[Tensor, "n"],
    redundancy: float,
    free: Tensor,
    damping: float,
) -> tuple[float, Tensor]:
    residual, slopes = _tile_systems(samples, project, values, basis, state, envelope)
    terms = _chain(basis, len(free))
    normal = torch.einsum("tpi,tij,tqj->pq", terms, (slopes @ slopes.mT).double(), terms)
    gradient = torch.einsum("tpi,ti->p", terms, (slopes @ residual[..., None])[..., 0].double())
    misfit = float(residual.square().sum())
    precision = _prior_precision(len(free), values.device)
    normal = normal / redundancy + torch.diag(precision)
    gradient = gradient / redundancy - precision * state[free].double()
    score = -0.5 * misfit / redundancy - 0.5 * float((precision * state[free].double() ** 2).sum())
    damped = normal + torch.diag(damping * normal.diagonal() + 1e-12)
    return score, torch.linalg.solve(damped, gradient).to(state.dtype)


def _tile_systems(
    samples: Samples, project: Projector, values: Tensor, basis: Tensor, state: Tensor, envelope: Tensor
) -> tuple[Float[Tensor, "t n"], Float[Tensor, "t 4 n"]]:
    """Projected residuals of all tiles, and derivatives by amplitude, local defocus and the two astigmatism parameters."""
    parameters = torch.nn.functional.pad(state[1:4], (0, 1)).repeat(len(basis), 1)
    parameters[:, 0] += basis @ state[4:]
    double = 2 * phases(samples, parameters)
    pattern = -torch.cos(double) * envelope
    slope = 2 * state[0] * torch.sin(double) * envelope
    columns = torch.cat((pattern[:, None], slope[:, None] * samples.terms.mT[:3]), dim=1)
    return project(values - state[0] * pattern), project(columns)


def _chain(basis: Tensor, count: int) -> Float[Tensor, "t p 4"]:
    """How the first `count` state entries move each tile's amplitude, defocus and astigmatism."""
    chain = torch.zeros(len(basis), 9, 4, dtype=torch.float64, device=basis.device)
    chain[:, torch.arange(4), torch.arange(4)] = 1.0
    chain[:, 4:, 1] = basis.double()
    return chain[:, :count]


def _prior_precision(count: int, device: torch.device) -> Tensor:
    """Inverse prior variances: none for amplitude and defocus, a weak one for astigmatism, PRIOR_A for the surface."""
    deviations = torch.tensor((math.inf, math.inf, ASTIGMATISM_A, ASTIGMATISM_A, *PRIOR_A), dtype=torch.float64, device=device)
    return deviations[:count] ** -2
