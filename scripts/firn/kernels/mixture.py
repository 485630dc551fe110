"""Two normal distributions in one set of numbers, and the value that best divides them.

Source: expectation maximisation, Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1 (1977); separation D of two normal
distributions, Ashman, Bird & Zepf, Astron. J. 108, 2348 (1994): above 2 they are clearly two.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ITERATIONS = 200
WIDEST = 3.0
"""Largest ratio of the two widths; a wider one would only model tails."""
STARTS = (0.2, 0.5, 0.8, 0.9, 0.95, 0.98)
"""Quantiles that the two are first divided at."""


@dataclass(frozen=True)
class TwoNormals:
    """Weight, mean and standard deviation of the lower and the upper part, and the mean log-likelihood per value."""

    weights: tuple[float, float]
    means: tuple[float, float]
    sds: tuple[float, float]
    likelihood: float

    @property
    def separation(self) -> float:
        """Ashman's D: distance of the means in rms widths."""
        return (self.means[1] - self.means[0]) / ((self.sds[0] ** 2 + self.sds[1] ** 2) / 2) ** 0.5

    @property
    def crossing(self) -> float:
        """Value between the means at which both parts are equally likely."""
        line = torch.linspace(self.means[0], self.means[1], 2001, dtype=torch.float64)
        lower, upper = _log_parts(line, torch.tensor(self.weights), torch.tensor(self.means), torch.tensor(self.sds)).unbind(-1)
        return float(line[(lower - upper).abs().argmin()])


def fit_two_normals(values: Float[Tensor, "n"]) -> TwoNormals:
    """The most likely of the fits from several starting divisions; deterministic."""
    values = values.double()
    fits = [_fit_from(values, float(values.quantile(start))) for start in STARTS]
    return max(fits, key=lambda fit: fit.likelihood)


def _fit_from(values: Tensor, division: float) -> TwoNormals:
    floor = 1e-3 * values.std() + 1e-12
    shares = torch.stack((values <= division, values > division), dim=-1).double()
    for _ in range(ITERATIONS):
        weights, means, sds = _maximise(values, shares, floor)
        parts = _log_parts(values, weights, means, sds)
        shares = torch.softmax(parts, dim=-1)
    order = torch.argsort(means)
    weights, means, sds = weights[order].tolist(), means[order].tolist(), sds[order].tolist()
    return TwoNormals((weights[0], weights[1]), (means[0], means[1]), (sds[0], sds[1]), float(torch.logsumexp(parts, dim=-1).mean()))


def _maximise(values: Tensor, shares: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = shares.sum(0).clamp(min=1e-9)
    means = (shares * values[:, None]).sum(0) / total
    sds = ((shares * (values[:, None] - means) ** 2).sum(0) / total).sqrt().clamp(min=floor)
    sds = torch.maximum(sds, sds.max() / WIDEST)
    return total / len(values), means, sds


def _log_parts(values: Tensor, weights: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    return torch.log(weights) - torch.log(sds) - 0.5 * ((values[:, None] - means) / sds) ** 2 - 0.9189385332046727
