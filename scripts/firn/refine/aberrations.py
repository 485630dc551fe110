"""Aberrations that all particles of an optics group share, from the phases by which their images differ from projections in their poses.

With V a projection, X the image's spectrum, chi the particle's CTF angle and s² the noise, sums over the particles at every frequency hold
all that is needed. Odd phases phi: `q = sum sin(chi) conj(V) X / s²` has the phase phi and the Fisher information `r = sum sin² |V|² / s²`.
Even phases d, added to chi: X = sin(chi + d) V is linear in cos d and sin d, so three sums of sin², sin cos and cos² do. Magnification
I + E moves the projection by its gradient times E k. Parameters are found by Fisher scoring, over a growing band of frequencies so that
phases of more than half a turn are followed, and errors are scaled to what the residuals show.
Source: Zivanov et al., eLife 7, e42166 (2018); Zivanov, Nakane & Scheres, IUCrJ 7, 253 (2020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Complex, Float
from torch import Tensor

BANDS = (0.5, 0.63, 0.79, 1.0)
STEPS = 25
LEAST_GAIN = 1e-3
"""Growth of the log-likelihood below which a fit is done."""
LEAST_MATCH = 0.5
"""Part of the likelihood to be expected that a fit must reach."""
NOISE_SIGMAS = 6.0
"""How many standard deviations the images' likelihood must stand out from that of noise, which finds its best phase too."""
NORMAL_MEDIAN_SQUARE = 0.4549
"""Median of the square of a standard normal number."""


class PhaseSums(Protocol):
    """What sums over particles say of a phase at every point."""

    def terms(self, phase: Float[Tensor, " m"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
        """(log-likelihood, its derivative, Fisher information) of a phase at each point."""

    def expected(self, phase: Float[Tensor, " m"]) -> float:
        """The log-likelihood to be expected of images that are what the map says, with this phase."""


@dataclass
class OddSums:
    """Sums for antisymmetric phases: q and r."""

    cross: Complex[Tensor, " m"]
    power: Float[Tensor, " m"]

    def terms(self, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As PhaseSums.terms."""
        turned = self.cross * torch.polar(torch.ones_like(phase), -phase)
        return turned.real, turned.imag, self.power

    def expected(self, phase: Tensor) -> float:
        """As PhaseSums.expected."""
        return float(self.power.double().sum())


@dataclass
class EvenSums:
    """Sums for symmetric phases: of the image times sin and cos, and of sin², sin cos and cos², all weighted by the projections."""

    sine: Float[Tensor, " m"]
    cosine: Float[Tensor, " m"]
    sine2: Float[Tensor, " m"]
    mixed: Float[Tensor, " m"]
    cosine2: Float[Tensor, " m"]

    def terms(self, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As PhaseSums.terms."""
        c, s = torch.cos(phase), torch.sin(phase)
        power = self._power(c, s)
        slope = self.cosine * c - self.sine * s - ((self.cosine2 - self.sine2) * c * s + self.mixed * (c**2 - s**2))
        return self.sine * c + self.cosine * s - power / 2, slope, self.sine2 * s**2 - 2 * self.mixed * c * s + self.cosine2 * c**2

    def expected(self, phase: Tensor) -> float:
        """As PhaseSums.expected."""
        return 0.5 * float(self._power(torch.cos(phase), torch.sin(phase)).double().sum())

    def _power(self, c: Tensor, s: Tensor) -> Tensor:
        return self.sine2 * c**2 + 2 * self.mixed * c * s + self.cosine2 * s**2


@dataclass
class StretchSums:
    """Sums for magnification: gradient times what the model leaves `(m, 2)`, and products of gradients `(m, 2, 2)`, yx."""

    pull: Float[Tensor, "m 2"]
    stiffness: Float[Tensor, "m 2 2"]


@dataclass
class GroupSums:
    """Sums of one optics group over a disc's points; those for magnification only where asked."""

    odd: OddSums
    even: EvenSums
    stretch: StretchSums
    particles: int = field(default=0)

    @classmethod
    def empty(cls, points: int, device: torch.device) -> "GroupSums":
        """Nothing added yet."""
        lines = [torch.zeros(points, device=device) for _ in range(6)]
        odd = OddSums(torch.zeros(points, dtype=torch.complex64, device=device), lines[0])
        stretch = StretchSums(torch.zeros(points, 2, device=device), torch.zeros(points, 2, 2, device=device))
        return cls(odd, EvenSums(*lines[1:]), stretch)


def add_images_(
    sums_: GroupSums,
    images: Complex[Tensor, "b m"],
    projections: Complex[Tensor, "b m"],
    phase: Float[Tensor, "b m"],
    weights: Float[Tensor, " m"],
    gradient: Complex[Tensor, "2 b m"] | None = None,
) -> None:
    """Add images; weights are those of the disc over the noise variance, phase is chi, gradient that of the projections along y and x."""
    sine, cosine = torch.sin(phase), torch.cos(phase)
    cross, power = weights * projections.conj() * images, weights * projections.abs().square()
    sine2 = (sine**2 * power).sum(0)
    sums_.odd.cross += (sine * cross).sum(0)
    sums_.odd.power += sine2
    sums_.even.sine += (sine * cross.real).sum(0)
    sums_.even.cosine += (cosine * cross.real).sum(0)
    sums_.even.sine2 += sine2
    sums_.even.mixed += (sine * cosine * power).sum(0)
    sums_.even.cosine2 += (cosine**2 * power).sum(0)
    sums_.particles += len(images)
    if gradient is not None:
        left, slopes = images - sine * projections, sine * gradient
        sums_.stretch.pull += torch.stack([(weights * (slope.conj() * left).real).sum(0) for slope in slopes], dim=-1)
        products = [[(weights * (one.conj() * other).real).sum(0) for other in slopes] for one in slopes]
        sums_.stretch.stiffness += torch.stack([torch.stack(row, dim=-1) for row in products], dim=-2)


@dataclass(frozen=True)
class Fit:
    """Parameters `(p,)` of named terms, their covariance, the phase they give, and what each named part adds to the log-likelihood."""

    names: tuple[str, ...]
    values: Float[Tensor, " p"]
    covariance: Float[Tensor, "p p"]
    phase: Float[Tensor, " m"]
    likelihood: float
    excess: float
    """Variance of the residuals over that of the noise; errors are scaled to it."""

    def value(self, name: str) -> float:
        """One parameter; 0 when it was not fitted."""
        return float(self.values[self.names.index(name)]) if name in self.names else 0.0

    def error(self, name: str) -> float:
        """Standard error of one parameter."""
        place = self.names.index(name)
        return float(self.covariance[place, place].sqrt())


def fit_phase(sums: PhaseSums, basis: dict[str, Float[Tensor, " m"]], radius: Float[Tensor, " m"]) -> Fit:
    """Amounts of the basis's terms that make the images most likely; radius: |s| of the points in any unit."""
    rows = torch.stack(list(basis.values())).double()
    size = rows.abs().amax(1, keepdim=True)
    scaled = rows / size
    values = _climb(sums, scaled, torch.zeros(len(rows), dtype=torch.float64, device=rows.device), radius > 0)
    starts = [values, _followed(sums, scaled, radius)]
    likelihoods = [float(sums.terms((start @ scaled).float())[0].double().sum()) for start in starts]
    best = starts[likelihoods.index(max(likelihoods))]
    phase = (best @ scaled).float()
    excess = _excess(sums, phase)
    information = _information(sums, scaled, phase)
    covariance = excess * torch.linalg.inv(information) / (size * size.T)
    return Fit(tuple(basis), best / size[:, 0], covariance, phase, max(likelihoods), excess)


def significant_fit(
    sums: PhaseSums, basis: dict[str, Float[Tensor, " m"]], parts: Sequence[tuple[str, ...]], radius: Float[Tensor, " m"], threshold: float
) -> tuple[Fit, Fit, dict[tuple[str, ...], float]]:
    """(fit of all terms; of those in no part and of the parts that the images ask for; what each part is worth).

    Worth is twice what a part adds to the log-likelihood, in units of the residuals' own variance, less twice the logarithm of the number of
    standard errors that each of its terms lies from zero: among many places to look, noise alone makes one look good. A part worth less than
    the threshold is left out. Images that are not what the map says (`matches`) ask for nothing.
    """
    whole = fit_phase(sums, basis, radius)
    match = matches(sums, whole.phase)
    gains = {}
    for part in parts:
        without = fit_phase(sums, {name: term for name, term in basis.items() if name not in part}, radius)
        searched = sum(math.log(max(1.0, abs(whole.value(name)) / whole.error(name))) for name in part)
        gains[part] = match * (2 * (whole.likelihood - without.likelihood) / whole.excess - 2 * searched)
    dropped = {name for part, gain in gains.items() if gain < threshold for name in part}
    kept = fit_phase(sums, {name: term for name, term in basis.items() if name not in dropped}, radius) if dropped else whole
    return whole, kept, gains


def matches(sums: PhaseSums, phase: Float[Tensor, " m"]) -> bool:
    """Whether images are what the map says, with a phase: their likelihood is near the one to be expected, and far above that of noise."""
    expected, found = sums.expected(phase), float(sums.terms(phase)[0].double().sum())
    return found >= max(LEAST_MATCH * expected, NOISE_SIGMAS * math.sqrt(expected))


def fit_stretch(sums: StretchSums, points: Float[Tensor, "m 2"], terms: Float[Tensor, "p 2 2"]) -> tuple[Tensor, Tensor]:
    """(amounts `(p,)` of matrices yx whose sum E moves projections at k to k + E k, covariance `(p, p)`)."""
    moves = torch.einsum("pij,mj->pmi", terms.double(), points.double())
    information = torch.einsum("pmi,mij,qmj->pq", moves, sums.stiffness.double(), moves)
    pull = torch.einsum("pmi,mi->p", moves, sums.pull.double())
    covariance = torch.linalg.inv(information)
    return covariance @ pull, covariance


def measured_even(sums: EvenSums) -> Float[Tensor, " m"]:
    """The symmetric phase at each point by itself."""
    determinant = sums.sine2 * sums.cosine2 - sums.mixed**2
    safe = torch.where(determinant > 0, determinant, 1.0)
    along = (sums.cosine2 * sums.sine - sums.mixed * sums.cosine) / safe
    across = (sums.sine2 * sums.cosine - sums.mixed * sums.sine) / safe
    return torch.atan2(across, along)


def _followed(sums: PhaseSums, basis: Tensor, radius: Tensor) -> Tensor:
    values = torch.zeros(len(basis), dtype=torch.float64, device=basis.device)
    for band in BANDS:
        values = _climb(sums, basis, values, radius <= band * radius.max())
    return values


def _climb(sums: PhaseSums, basis: Tensor, start: Tensor, kept: Tensor) -> Tensor:
    """Fisher scoring with steps halved until the log-likelihood of the kept points grows."""
    values = start

    def height(at: Tensor) -> float:
        return float(sums.terms((at @ basis).float())[0][kept].double().sum())

    reached = height(values)
    for _ in range(STEPS):
        phase = (values @ basis).float()
        slope = basis[:, kept] @ sums.terms(phase)[1][kept].double()
        step = torch.linalg.solve(_information(sums, basis[:, kept], phase, kept), slope)
        for _ in range(8):
            if (tried := height(values + step)) > reached:
                break
            step = step / 2
        else:
            break
        values, gained, reached = values + step, tried - reached, tried
        if gained < LEAST_GAIN:
            break
    return values


def _information(sums: PhaseSums, basis: Tensor, phase: Tensor, kept: Tensor | None = None) -> Tensor:
    fisher = sums.terms(phase)[2].double()
    information = (basis * (fisher if kept is None else fisher[kept])) @ basis.T
    return information + 1e-9 * information.diagonal().mean().clamp(min=1e-30) * torch.eye(
        len(basis), dtype=basis.dtype, device=basis.device
    )


def _excess(sums: PhaseSums, phase: Tensor) -> float:
    """How much wider the residuals of the phase are than the noise makes them; at least 1."""
    _, slope, fisher = sums.terms(phase)
    used = fisher > 0
    ratio = slope[used].square() / fisher[used]
    return max(1.0, float(ratio.median()) / NORMAL_MEDIAN_SQUARE) if bool(used.any()) else 1.0
