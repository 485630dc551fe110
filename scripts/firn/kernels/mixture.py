"""Normal distributions in one cloud of points, and the plane that best divides them into two groups.

Strays, spread evenly over the range of all points, belong to none, so that outliers widen none (Banfield & Raftery,
Biometrics 49, 803, 1993).
Source: expectation maximisation, Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1 (1977); linear discriminant, Fisher, Ann.
Eugen. 7, 179 (1936); separation D as in Ashman, Bird & Zepf, Astron. J. 108, 2348 (1994): above 2 they are clearly two;
number of parts by Schwarz's criterion, Ann. Stat. 6, 461 (1978).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ITERATIONS = 100
POINTS = 5_000
"""Points used at most, evenly taken from all."""
STARTS = (0.2, 0.5, 0.8, 0.95)
"""Quantiles along each given direction that the cloud is first divided at."""
FIRST_STRAYS = 0.02
"""Part of all points first taken for strays."""
NEEDED = 5.0
"""Evidence, half a difference of BIC, that one more part must bring."""
RIDGE = 1e-3
"""Part of the whole cloud's variances that keeps each covariance invertible."""


@dataclass(frozen=True)
class Normals:
    """Weights `(k,)`, means `(k, d)` and covariances `(k, d, d)`; evidence is how far two parts beat one by Schwarz's criterion.

    Evidence (half the difference of BIC) above 0 speaks for two, above 5 strongly so.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    evidence: float

    def chosen(self, parts: list[int]) -> "Normals":
        """Some of the parts."""
        return Normals(self.weights[parts], self.means[parts], self.covariances[parts], self.evidence)

    def merged(self, groups: list[Bool[Tensor, " k"]]) -> "Normals":
        """One normal for each group of parts, with their weight, mean and covariance."""
        moments = [_moments(self.weights[members], self.means[members], self.covariances[members]) for members in groups]
        weights, means, covariances = (torch.stack(each) for each in zip(*moments, strict=True))
        return Normals(weights, means, covariances, self.evidence)


@dataclass(frozen=True)
class Division:
    """Points x belong to the second group when direction . x >= level; separation is Ashman's D along the direction."""

    direction: Tensor
    level: float
    separation: float


def fit_normals(points: Float[Tensor, "n d"], directions: Float[Tensor, "n k"], most: int = 2) -> Normals:
    """The likeliest of the fits that start from divisions along each of k given coordinates; deterministic.

    There are two parts, and more, up to most, while dividing one or taking strays for a part brings NEEDED in evidence. They come
    in order of the last of the coordinates.
    """
    step = -(-len(points) // POINTS)
    points, directions = points[::step].double(), directions[::step].double()
    centre, scale = points.mean(0), points.std(0).clamp(min=1e-12)
    terms = _terms((points - centre) / scale)
    penalty = 0.5 * (1 + len(centre) * (len(centre) + 3) / 2) * math.log(len(terms))
    stray = _stray_density(terms, len(centre))
    _, alone = _likeliest(terms, torch.ones(1, 1, len(terms), dtype=terms.dtype, device=terms.device), stray)
    shares, likelihood = _likeliest(terms, _first_shares(directions), stray)
    evidence = likelihood - alone - penalty
    while len(shares) - 1 < most:
        more, better = _likeliest(terms, _divided_shares(shares, directions), stray)
        if better - likelihood - penalty < NEEDED:
            break
        shares, likelihood = more, better
    order = ((shares[:-1] @ directions[:, -1]) / shares[:-1].sum(-1).clamp(min=1e-9)).argsort(stable=True)
    weights, means, covariances = _maximise(terms, shares[None, order], len(centre))
    return Normals(weights[0], means[0] * scale + centre, covariances[0] * scale[:, None] * scale, evidence)


def discriminant(two: Normals) -> Float[Tensor, " d"]:
    """Fisher's direction of length 1, along which two parts are farthest apart for their widths."""
    direction = torch.linalg.solve(two.covariances.mean(0), two.means[1] - two.means[0])
    return direction / direction.norm().clamp(min=1e-300)


def separation(two: Normals, direction: Float[Tensor, " d"]) -> float:
    """Ashman's D of two parts along a direction."""
    variance = torch.einsum("d,kde,e->k", direction, two.covariances, direction).mean()
    return float((two.means[1] - two.means[0]) @ direction / variance.clamp(min=1e-300).sqrt())


def divide(fit: Normals, upper: Bool[Tensor, " k"], direction: Float[Tensor, " d"]) -> Division:
    """The plane across a direction, between the means of both groups of parts, that leaves least of them on the wrong side."""
    two = fit.merged([~upper, upper])
    low, high = (two.means @ direction).tolist()
    deviations = torch.einsum("d,kde,e->k", direction, fit.covariances, direction).clamp(min=1e-300).sqrt()
    line = torch.linspace(low, high, 2001, dtype=torch.float64, device=direction.device)
    below = fit.weights * torch.special.ndtr((line[:, None] - fit.means @ direction) / deviations)
    wrong = below[:, upper].sum(-1) - below[:, ~upper].sum(-1)
    return Division(direction, float(line[wrong.argmin()]), separation(two, direction))


def _moments(weights: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, mean `(d,)` and covariance of parts taken together."""
    total = weights.sum()
    mean = (weights[:, None] * means).sum(0) / total
    away = means - mean
    return total, mean, (weights[:, None, None] * (covariances + away[:, :, None] * away[:, None, :])).sum(0) / total


def _first_shares(directions: Tensor) -> Tensor:
    """Shares `(s, 2, n)` of the points below and above each start along each direction."""
    cuts = torch.quantile(directions, torch.tensor(STARTS, dtype=directions.dtype, device=directions.device), dim=0)
    above = (directions > cuts[:, None, :]).permute(0, 2, 1).flatten(0, 1).to(directions.dtype)
    return torch.stack((1 - above, above), dim=1)


def _divided_shares(shares: Tensor, directions: Tensor) -> Tensor:
    """Shares `(s, k + 1, n)` with one of k parts divided at its mean along a direction, or with the strays, the last, as a part."""
    starts = [shares]
    for part in range(len(shares) - 1):
        means = shares[part] @ directions / shares[part].sum().clamp(min=1e-9)
        others = torch.cat((shares[:part], shares[part + 1 : -1]))
        starts += [torch.cat((others, torch.stack((shares[part] * above, shares[part] * ~above)))) for above in (directions > means).T]
    return torch.stack(starts)


def _likeliest(terms: Tensor, starts: Tensor, stray: float) -> tuple[Tensor, float]:
    """(shares `(k + 1, n)` of k parts and the strays in the likeliest of the fits, its log-likelihood)."""
    logs = _fit(terms, starts, stray)
    likelihoods = torch.logsumexp(logs, dim=1).sum(-1)
    best = int(likelihoods.argmax())
    return torch.softmax(logs[best], dim=0), float(likelihoods[best])


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
    """Weights `(s, k)`, means `(s, k, d)` and covariances for shares `(s, k, n)`."""
    sums = shares @ terms
    total = sums[..., -1].clamp(min=1e-9)
    means = sums[..., d * d : -1] / total[..., None]
    squares = (sums[..., : d * d] / total[..., None]).unflatten(-1, (d, d))
    ridge = RIDGE * torch.eye(d, dtype=terms.dtype, device=terms.device)
    return total / len(terms), means, squares - means[..., :, None] * means[..., None, :] + ridge


def _log_densities(terms: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Logarithms `(s, k, n)` of weight times density."""
    precision = torch.linalg.inv(covariances)
    pull = (precision @ means[..., None]).squeeze(-1)
    constant = torch.log(weights.clamp(min=1e-300)) - 0.5 * torch.logdet(covariances) - 0.5 * (pull * means).sum(-1)
    constant = constant - 0.5 * means.shape[-1] * math.log(2 * math.pi)
    return torch.cat((-0.5 * precision.flatten(-2), pull, constant[..., None]), dim=-1) @ terms.T
