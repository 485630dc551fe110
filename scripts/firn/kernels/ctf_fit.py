"""Fit the contrast transfer function to a power spectrum whose background has been divided out.

Convention: a spectrum is a list of samples; its phase is `base + terms @ parameters` with parameters (mean defocus, half the
astigmatism times cos and sin of twice its angle, phase shift) in Å, Å, Å, rad; the ring pattern is -cos(2 chi) = 2 CTF^2 - 1,
times an envelope. Backgrounds are spans of smooth radial functions, projected out of data and model alike.
Source: Rohou & Grigorieff, J. Struct. Biol. 192, 216 (2015);
variable projection: Golub & Pereyra, SIAM J. Numer. Anal. 10, 413 (1973).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.ctf import ctf_phase, wavelength

ASTIGMATISM_A = 300.0
"""Standard deviation in Å expected of the two astigmatism parameters."""


@dataclass(frozen=True)
class Optics:
    """What the microscope fixes: voltage in kV, Cs in mm, amplitude contrast, phase shift in degrees."""

    voltage_kv: float
    cs_mm: float
    amplitude_contrast: float
    phase_shift: float = 0.0


@dataclass(frozen=True)
class Samples:
    """Frequencies of a spectrum (yx, 1/Å), their weights (pixels they stand for), and the phase as a linear function."""

    frequencies: Float[Tensor, "n 2"]
    weights: Float[Tensor, "n"]
    base: Float[Tensor, "n"]
    terms: Float[Tensor, "n 4"]

    @property
    def s2(self) -> Float[Tensor, "n"]:
        """Squared frequency in 1/Å^2."""
        return self.frequencies.square().sum(dim=-1)


def make_samples(frequencies: Float[Tensor, "n 2"], weights: Float[Tensor, "n"], optics: Optics) -> Samples:
    """Samples at frequencies yx in 1/Å."""
    base = ctf_phase(frequencies, 0.0, 0.0, 0.0, optics.voltage_kv, optics.cs_mm, optics.phase_shift, optics.amplitude_contrast)[0]
    fy, fx = frequencies.unbind(-1)
    scale = math.pi * float(wavelength(optics.voltage_kv))
    terms = torch.stack((scale * (fx**2 + fy**2), scale * (fx**2 - fy**2), scale * 2 * fx * fy, torch.ones_like(fx)), dim=-1)
    return Samples(frequencies, weights, base, terms)


def phases(samples: Samples, parameters: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b n"]:
    """chi in radians for each set of parameters."""
    return samples.base + parameters @ samples.terms.mT


def exponential(samples: Samples, b_factor: float) -> Float[Tensor, "n"]:
    """Envelope exp(-B s^2 / 4) for a B-factor in Å^2."""
    return torch.exp(-b_factor * samples.s2 / 4)


def rings(samples: Samples, parameters: Float[Tensor, "*b 4"], envelope: Float[Tensor, "n"]) -> Float[Tensor, "*b n"]:
    """The ring pattern -cos(2 chi) under an envelope."""
    return -torch.cos(2 * phases(samples, parameters)) * envelope


@dataclass(frozen=True)
class Projector:
    """Takes a span of smooth functions out of weighted samples."""

    root: Float[Tensor, "n"]
    span: Float[Tensor, "n k"]

    def __call__(self, values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Root-weighted values without their part in the span."""
        weighted = values * self.root
        return weighted - (weighted @ self.span) @ self.span.mT


def make_projector(weights: Float[Tensor, "n"], basis: Float[Tensor, "n k"]) -> Projector:
    """Projector out of the span of the basis under the weights."""
    root = weights.sqrt()
    return Projector(root, torch.linalg.qr(root[:, None] * basis)[0])


def correlations(
    samples: Samples,
    project: Projector,
    values: Float[Tensor, "n"],
    parameters: Float[Tensor, "b 4"],
    envelopes: Float[Tensor, "e n"],
    floor: float = 0.05,
) -> Float[Tensor, "b e"]:
    """Normalised correlation of the values with the ring pattern of each set of parameters under each envelope.

    floor: share of the pattern's norm added to its norm after projection, so that a pattern that the background could
    explain scores low.
    """
    target = project(values)
    bare = -torch.cos(2 * phases(samples, parameters))
    columns = []
    for envelope in envelopes:
        pattern = bare * envelope
        full = (pattern * project.root).square().sum(dim=-1)
        projected = project(pattern)
        norm = (projected.square().sum(dim=-1) + floor * full).sqrt()
        columns.append(projected @ target / (norm * target.norm()).clamp(min=1e-20))
    return torch.stack(columns, dim=-1)


def local_maxima(scores: Float[Tensor, "n"], count: int) -> list[int]:
    """Indices of the `count` highest local maxima, best first."""
    padded = torch.nn.functional.pad(scores, (1, 1), value=-math.inf)
    peak = (scores >= padded[:-2]) & (scores >= padded[2:])
    order = torch.argsort(torch.where(peak, scores, scores.new_tensor(-math.inf)), descending=True)
    return [int(index) for index in order[:count] if peak[index]]


def posterior(scores: Float[Tensor, "*n"], parameters: Float[Tensor, "*n 4"], power: float) -> Float[Tensor, "*n"]:
    """Log-posterior of parameters from their correlations; power: the projected data's squared norm over their noise variance."""
    return 0.5 * power * scores.clamp(min=0) ** 2 - 0.5 * (parameters[..., 1:3] / ASTIGMATISM_A).square().sum(dim=-1)


def refine(
    samples: Samples,
    project: Projector,
    heights: Float[Tensor, "n k"],
    values: Float[Tensor, "n"],
    parameters: Float[Tensor, "4"],
    noise: float,
    free: tuple[int, ...] = (0, 1, 2),
    steps: int = 12,
) -> Float[Tensor, "4"]:
    """Parameters after damped Gauss-Newton steps that fit the ring pattern under an envelope to the values; only `free` ones move.

    heights: functions whose sum, with coefficients of its own at every step (variable projection), is the envelope.
    noise: variance of the values per unit weight; it sets how strongly weak data are drawn towards no astigmatism.
    """
    damping = 1e-2
    chosen = torch.tensor(free, device=values.device)
    misfit, step = _step(samples, project, heights, values, parameters, noise, chosen, damping)
    for _ in range(steps):
        trial = parameters.index_add(0, chosen, step)
        new_misfit, new_step = _step(samples, project, heights, values, trial, noise, chosen, damping)
        if new_misfit < misfit:
            converged = misfit - new_misfit < 1e-3
            parameters, misfit, step, damping = trial, new_misfit, new_step, damping / 3
            if converged:
                break
        else:
            damping *= 5
            step = _step(samples, project, heights, values, parameters, noise, chosen, damping)[1]
    return parameters


def _step(
    samples: Samples, project: Projector, heights: Tensor, values: Tensor, parameters: Tensor, noise: float, free: Tensor, damping: float
) -> tuple[float, Tensor]:
    double = 2 * phases(samples, parameters)
    target = project(values).double()
    columns = project(-torch.cos(double) * heights.mT).double()
    span, triangle = torch.linalg.qr(columns.mT)
    inside = span.mT @ target
    residual = target - span @ inside
    envelope = heights @ torch.linalg.solve_triangular(triangle, inside[:, None], upper=True)[:, 0].to(values.dtype)
    jacobian = project(2 * torch.sin(double) * envelope * samples.terms[:, free].mT).double()
    jacobian = jacobian - (jacobian @ span) @ span.mT
    precision = parameters.new_tensor((0.0, ASTIGMATISM_A**-2, ASTIGMATISM_A**-2, 0.0)).double()
    normal = (jacobian @ jacobian.mT) / noise + torch.diag(precision[free])
    gradient = (jacobian @ residual) / noise - (precision * parameters)[free]
    damped = normal + torch.diag(damping * normal.diagonal() + 1e-12)
    misfit = float(residual.square().sum()) / noise + float((precision * parameters**2).sum())
    return misfit, torch.linalg.solve(damped, gradient).to(parameters.dtype)


def defocus_from(parameters: Float[Tensor, "4"]) -> tuple[float, float, float]:
    """(defocus_u, defocus_v, angle in [0, 180)) with defocus_u >= defocus_v."""
    mean, c, s = (float(value) for value in parameters[:3])
    half = math.hypot(c, s)
    angle = math.degrees(0.5 * math.atan2(s, c)) % 180.0
    return mean + half, mean - half, angle if angle < 180.0 else 0.0
