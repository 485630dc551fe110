"""Defocus of single particles: where along the beam each one lies, from its image and the projection of the map in its pose.

With the phase chi + a dz (a = pi lambda s²) the log-likelihood of an offset dz is `sum w / s² (C sin(chi + a dz) - P sin²(chi + a dz) / 2)`,
C the image's part along the projection and P the projection's power. It is taken on a grid, as it has many maxima, then Newton's method
goes on from the best one. Offsets have a Gaussian prior, whose width all particles tell together (empirical Bayes), so that images which
say nothing keep their defocus. Convention: offsets in Å, added to defocus_u and defocus_v.
Source: Zivanov et al., eLife 7, e42166 (2018).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_STEP = 0.7
"""Radians by which the phase at the finest frequency changes from one grid point to the next."""
NEWTON_STEPS = 4
PRIOR_ITERATIONS = 50
LEAST_SPREAD = 1.0


@dataclass(frozen=True)
class Evidence:
    """What images say of their defocus, at the points of a disc: C and P `(b, m)`, weighted and in units of the noise; chi and a."""

    cross: Float[Tensor, "b m"]
    power: Float[Tensor, "b m"]
    phase: Float[Tensor, "b m"]
    rate: Float[Tensor, "b m"]

    def log_likelihood(self, offsets: Float[Tensor, "b g"]) -> Float[Tensor, "b g"]:
        """Of offsets of each image, up to a constant per image."""
        columns = []
        for offset in offsets.T:
            sine = torch.sin(torch.addcmul(self.phase, self.rate, offset[:, None]))
            columns.append((sine * (self.cross - 0.5 * self.power * sine)).sum(1))
        return torch.stack(columns, dim=1)

    def slope(self, offsets: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """(derivative of the log-likelihood, its expected negative second derivative: Fisher's information)."""
        angle = torch.addcmul(self.phase, self.rate, offsets[:, None])
        tilt = self.rate * torch.cos(angle)
        return (tilt * (self.cross - self.power * torch.sin(angle))).sum(1), (tilt**2 * self.power).sum(1)


def offset_grid(reach: float, finest_rate: float) -> Float[Tensor, " g"]:
    """Offsets from -reach to reach in Å, for a phase that changes by finest_rate radians per Å at the finest frequency."""
    count = max(2, math.ceil(reach * finest_rate / LARGEST_STEP))
    return torch.linspace(-reach, reach, 2 * count + 1)


def prior_spread(log_likelihood: Float[Tensor, "n g"], grid: Float[Tensor, " g"]) -> float:
    """Standard deviation in Å of a zero-mean Gaussian from which the offsets of all images most likely come."""
    spread = float(grid.max()) / 2
    for _ in range(PRIOR_ITERATIONS):
        posterior = torch.softmax(log_likelihood - 0.5 * (grid / spread) ** 2, dim=1)
        spread = max(float((posterior * grid**2).sum(1).mean().sqrt()), LEAST_SPREAD)
    return spread


def best_offsets(
    evidence: Evidence, log_likelihood: Float[Tensor, "b g"], grid: Float[Tensor, " g"], spread: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """(most probable offsets, their standard errors) in Å: the best grid point, then Newton's method within its neighbours."""
    start = grid[(log_likelihood - 0.5 * (grid / spread) ** 2).argmax(1)]
    offsets, step = start.clone(), float(grid[1] - grid[0])
    information = torch.ones_like(offsets)
    for _ in range(NEWTON_STEPS):
        slope, fisher = evidence.slope(offsets)
        information = fisher + 1 / spread**2
        offsets = (offsets + (slope - offsets / spread**2) / information).clamp(start - step, start + step)
    return offsets.clamp(float(grid[0]), float(grid[-1])), information.rsqrt()
