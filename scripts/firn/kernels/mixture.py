"""Two normal distributions in one cloud of points, and the plane that best divides them.

Strays, spread evenly over the range of all points, belong to neither, so that outliers widen none (Banfield & Raftery,
Biometrics 49, 803, 1993).
Source: expectation maximisation, Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1 (1977); linear discriminant, Fisher, Ann.
Eugen. 7, 179 (1936); separation D as in Ashman, Bird & Zepf, Astron. J. 108, 2348 (1994): above 2 they are clearly two.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ITERATIONS = 100
POINTS = 5_000
"""Points used at most, evenly taken from all."""
STARTS = (0.2, 0.5, 0.8, 0.95)
"""Quantiles along each given direction that the cloud is first divided at."""
FIRST_STRAYS = 0.02
"""Part of all points first taken for strays."""
RIDGE = 1e-3
"""Part of the whole cloud's variances that keeps each covariance invertible."""


@dataclass(frozen=True)
class TwoNormals:
    """Weights `(2,)`, means `(2, d)` and covariances `(2, d, d)`; evidence is how far two beat one by Schwarz's criterion.

    Evidence (half the difference of BIC, Ann. Stat. 6, 461, 1978) above 0 speaks for two, above 5 strongly so.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    evidence: float

    def swapped(self) -> "TwoNormals":
        """The same with the two parts exchanged."""
        return TwoNormals(self.weights.flip(0), self.means.flip(0), self.covariances.flip(0), self.evidence)


@dataclass(frozen=True)
class Division:
    """Points x belong to the second part when direction . x >= level; separation is Ashman's D along the direction."""

    direction: Tensor
    level: float
    separation: float


def fit_two_normals(points: Float[Tensor, "n d"], directions: Float[Tensor, "n k"]) -> TwoNormals:
    """The likeliest of the fits that start from divisions along each of k given coordinates; deterministic.

    The second part is the one that is larger in the last of the coordinates.
    """
    step = -(-len(points) // POINTS)
    points, directions = points[::step].double(), directions[::step].double()
    centre, scale = points.mean(0), points.std(0).clamp(min=1e-12)
    terms = _terms((points - centre) / scale)
    cuts = torch.quantile(directions, torch.tensor(STARTS, dtype=torch.float64, device=points.device), dim=0)
    upper = (directions > cuts[:, None, :]).permute(0, 2, 1).reshape(-1, len(points)).double()
    shares = torch.stack((1 - upper, upper), dim=1)
    stray = _stray_density(terms, points.shape[1])
    logs = _fit(terms, shares, stray)
    likelihoods = torch.logsumexp(logs, dim=1).sum(-1)
    best = int(likelihoods.argmax())
    shares = torch.softmax(logs[best], dim=0)
    weights, means, covariances = _maximise(terms, shares[None, :2], points.shape[1])
    alone = torch.logsumexp(_fit(terms, torch.ones_like(shares[None, :1]), stray), dim=1).sum()
    evidence = float(likelihoods[best] - alone) - 0.5 * (1 + points.shape[1] * (points.shape[1] + 3) / 2) * math.log(len(terms))
    fit = TwoNormals(weights[0], means[0] * scale + centre, covariances[0] * scale[:, None] * scale, evidence)
    ranked = (shares[:2] @ directions[:, -1]) / shares[:2].sum(-1)
    return fit if bool(ranked[1] >= ranked[0]) else fit.swapped()


def discriminant(fit: TwoNormals) -> Float[Tensor, " d"]:
    """Fisher's direction of length 1, along which the two parts are farthest apart for their widths."""
    direction = torch.linalg.solve(fit.covariances.mean(0), fit.means[1] - fit.means[0])
    return direction / direction.norm().clamp(min=1e-300)


def divide(fit: TwoNormals, direction: Float[Tensor, " d"]) -> Division:
    """The plane across a direction where both parts are equally likely, between their means."""
    low, high = (fit.means @ direction).tolist()
    variances = torch.einsum("d,kde,e->k", direction, fit.covariances, direction).clamp(min=1e-300)
    line = torch.linspace(low, high, 2001, dtype=torch.float64)
    parts = [
        torch.log(fit.weights[k]) - 0.5 * torch.log(variances[k]) - 0.5 * (line - middle) ** 2 / variances[k]
        for k, middle in enumerate((low, high))
    ]
    return Division(direction, float(line[(parts[0] - parts[1]).abs().argmin()]), (high - low) / float(variances.mean().sqrt()))


def _terms(points: Tensor) -> Tensor:
    """Columns x x' (flattened), x and 1 `(n, d * d + d + 1)`: sums of them give moments, and a log density is linear in them."""
    squares = (points[:, :, None] * points[:, None, :]).flatten(1)
    return torch.cat((squares, points, torch.ones_like(points[:, :1])), dim=-1)


def _fit(terms: Tensor, shares: Tensor, stray: float) -> Tensor:
    """Log densities `(s, k + 1, n)` of k normal distributions and the strays, from first shares `(s, k, n)`."""
    d = math.isqrt(terms.shape[1] - 1)
    shares = torch.cat((shares * (1 - FIRST_STRAYS), torch.full_like(shares[:, :1], FIRST_STRAYS)), dim=1)
    for _ in range(ITERATIONS):
        normal = _log_densities(terms, *_maximise(terms, shares[:, :-1], d))
        even = torch.log(shares[:, -1:].mean(-1, keepdim=True).clamp(min=1e-300)) + stray
        logs = torch.cat((normal, even.expand(-1, -1, len(terms))), dim=1)
        shares = torch.softmax(logs, dim=1)
    return logs


def _stray_density(terms: Tensor, d: int) -> float:
    """Logarithm of the even density over the range of all points."""
    points = terms[:, d * d : d * d + d]
    return -float(torch.log((points.amax(0) - points.amin(0)).clamp(min=1e-12)).sum())


def _maximise(terms: Tensor, shares: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights `(s, 2)`, means `(s, 2, d)` and covariances for shares `(s, 2, n)`."""
    sums = shares @ terms
    total = sums[..., -1].clamp(min=1e-9)
    means = sums[..., d * d : -1] / total[..., None]
    squares = (sums[..., : d * d] / total[..., None]).unflatten(-1, (d, d))
    ridge = RIDGE * torch.eye(d, dtype=terms.dtype, device=terms.device)
    return total / len(terms), means, squares - means[..., :, None] * means[..., None, :] + ridge


def _log_densities(terms: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Logarithms `(s, 2, n)` of weight times density."""
    precision = torch.linalg.inv(covariances)
    pull = (precision @ means[..., None]).squeeze(-1)
    constant = torch.log(weights.clamp(min=1e-300)) - 0.5 * torch.logdet(covariances) - 0.5 * (pull * means).sum(-1)
    constant = constant - 0.5 * means.shape[-1] * math.log(2 * math.pi)
    return torch.cat((-0.5 * precision.flatten(-2), pull, constant[..., None]), dim=-1) @ terms.T
