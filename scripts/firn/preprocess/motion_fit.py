"""The most probable shifts of many images (whole frames, or tiles of them) under a linear model with Gaussian priors.

Convention: shifts in Å, yx, move a frame onto the others. The weights of frequencies are measured: the product of different frames
tells signal from noise in every ring, and a tile without signal has no say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels import motion as kernel

INFORMATION_SHARE = 0.99
CONVERGED_PX = 0.04
MARGIN = 1.0
WORTH_CROPPING = 0.95
LOWEST_RING = 2
LARGEST_STEP = 4.0


@dataclass(frozen=True)
class Limits:
    """Finest detail used (Å), pixel size (Å) in which convergence is measured, factor on the precisions that the evidence prefers."""

    resolution: float
    pixel_size: float
    stiffness: float = 1.0


@dataclass(frozen=True)
class Model:
    """Shifts of p images in f frames: those of whole frames, and a field spanned by splines in time `(f, t)` and space `(p, k)`, float64.

    Coefficients `(f + t k, 2)` in Å: the frames' shifts, then the field's, time outermost.
    """

    frames: int
    time: Tensor | None = None
    space: Tensor | None = None

    def shifts(self, coefficients: Tensor) -> Tensor:
        """Shifts `(p, f, 2)`, or `(1, f, 2)` of all images alike without a field."""
        rigid = coefficients[: self.frames][None]
        if self.time is None or self.space is None:
            return rigid
        field = coefficients[self.frames :].reshape(self.time.shape[1], self.space.shape[1], 2)
        return rigid + torch.einsum("ft,pk,tkd->pfd", self.time, self.space, field)

    def project(self, gradients: Tensor) -> Tensor:
        """Gradients `(c, 2)` over the coefficients from those `(p, f, 2)` over the shifts: the adjoint of shifts."""
        rigid = gradients.sum(dim=0)
        if self.time is None or self.space is None:
            return rigid
        return torch.cat((rigid, torch.einsum("ft,pk,pfd->tkd", self.time, self.space, gradients).flatten(0, 1)))

    def normal(self, information: Tensor) -> Tensor:
        """Normal matrix `(c, c)` of shifts that each weigh the information `(p,)` of their image."""
        rigid = information.sum() * torch.eye(self.frames, dtype=information.dtype, device=information.device)
        if self.time is None or self.space is None:
            return rigid
        mixed = torch.kron(self.time, (information @ self.space)[None])
        local = torch.kron(self.time.T @ self.time, self.space.T @ (information[:, None] * self.space))
        return torch.cat((torch.cat((rigid, mixed), dim=1), torch.cat((mixed.T, local), dim=1)))


class Fit:
    """Maximises the posterior of the coefficients of a model of shifts, with measured spectral weights.

    spectra `(p, f, y, x)`; `applied` `(f, 2)` are shifts in Å that the images have undergone already.
    """

    iterations = (2, 8)

    def __init__(
        self,
        spectra: Tensor,
        band: kernel.Band,
        model: Model,
        penalties: Sequence[Tensor],
        precisions: list[float],
        limits: Limits,
        applied: Tensor | None = None,
    ):
        self.spectra, self.band, self.model, self.penalties, self.limits = spectra, band, model, penalties, limits
        self.precisions = self.expected = torch.tensor(precisions, dtype=torch.float64, device=spectra.device)
        self.applied = torch.zeros(spectra.shape[1], 2, device=spectra.device) if applied is None else applied
        self.ring_step = float(max(band.kx[1], band.ky[1]))
        self.own = torch.stack([kernel.total_power(image) for image in spectra])

    def maximise(self, coefficients: Tensor) -> Tensor:
        """Coefficients `(c, 2)` at the maximum, from a start near it."""
        for iterations in self.iterations:
            self._measure_weights(coefficients)
            for _ in range(iterations):
                step = self._step(coefficients)
                coefficients = coefficients + step
                if float(self.model.shifts(step).abs().max()) < CONVERGED_PX * self.limits.pixel_size:
                    break
        return coefficients

    def gain(self, coefficients: Tensor) -> float:
        """Log-likelihood of the coefficients less that of no motion, both with the weights that the coefficients tell."""
        self._measure_weights(coefficients)
        found = []
        for chosen in (coefficients, torch.zeros_like(coefficients)):
            pairs = zip(self.spectra, self._shifts(chosen), strict=True)
            powers = [kernel.power(kernel.move(image, shift, self.band).sum(dim=0)) for image, shift in pairs]
            found.append(sum(float((self.noise_weights * self.band.share * power).double().sum()) for power in powers))
        return found[0] - found[1]

    def _measure_weights(self, coefficients: Tensor) -> None:
        images, frames = self.spectra.shape[:2]
        summed = torch.zeros_like(self.own[0])
        for image, shift in zip(self.spectra, self._shifts(coefficients), strict=True):
            summed += kernel.power(kernel.move(image, shift, self.band).sum(dim=0))
        signal, noise, error = kernel.ring_signal(summed, self.own.sum(dim=0), images, frames, self.band, self.ring_step)
        signal[:LOWEST_RING] = signal[LOWEST_RING]
        ratio = kernel.signal_to_noise(signal, noise, error)
        ratio[:LOWEST_RING] = 0
        ratio[int(1 / self.limits.resolution / self.ring_step) :] = 0
        ratio = _cut_information(ratio, frames)
        self._crop(MARGIN * self.ring_step * float(1 + torch.nonzero(ratio).max()) if bool(ratio.any()) else 0.0)
        rings = (self.band.radius / self.ring_step).round().long()
        self.ratio = ratio.float()[rings]
        self.weights = kernel.likelihood_weights(self.ratio, frames)
        self.noise_weights = self.weights / noise.float()[rings]

    def _crop(self, radius: float) -> None:
        """Drop frequencies far beyond those that tell anything, where that is worth a copy."""
        if 0 < radius < WORTH_CROPPING * float(self.band.kx[-1]):
            rows, columns, self.band = kernel.crop_band(self.band, radius)
            upper = int((self.band.ky >= 0).sum())
            lower = self.own.shape[1] - len(rows) + upper
            self.spectra, self.own = (
                torch.cat((whole[..., :upper, :columns], whole[..., lower:, :columns]), dim=-2) for whole in (self.spectra, self.own)
            )

    def _step(self, coefficients: Tensor) -> Tensor:
        gradients, strength, factor = self._gradients(coefficients)
        curvature = strength * factor * kernel.expected_curvature(self.ratio, self.weights, self.band).double()
        normal = self.model.normal(2 * self.spectra.shape[1] * curvature)
        slope = self.model.project(gradients * factor[:, None, None])
        stiffness = self.precisions * self.limits.stiffness
        step, covariance = kernel.posterior_step(normal, slope, coefficients, self.penalties, stiffness)
        self.precisions = kernel.evidence_precisions(coefficients + step, covariance, self.penalties, self.precisions, self.expected)
        largest = float(self.model.shifts(step).abs().max())
        return step * min(1.0, LARGEST_STEP / max(largest, 1e-9))

    def _gradients(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(gradients `(p, f, 2)`, signal power of each tile relative to the mean, weight its gradient gets): one without signal has no say."""
        frames = self.spectra.shape[1]
        found = [
            kernel.likelihood_gradient(image, shift, self.noise_weights, self.band)
            for image, shift in zip(self.spectra, self._shifts(coefficients), strict=True)
        ]
        gradients = torch.stack([gradient for gradient, _ in found]).double()
        information = self.noise_weights * self.band.share * self.band.radius.square()
        excess = torch.stack([(information * (total - own)).sum() for (_, total), own in zip(found, self.own, strict=True)])
        strength = self._strengths(excess.double(), frames)
        return gradients, strength[0], strength[1]

    def _strengths(self, excess: Tensor, frames: int) -> Tensor:
        """(signal power of each tile relative to the mean, weight its gradient gets) from the tiles' weighted power above noise."""
        information = self.weights * self.band.share * self.band.radius.square()
        expected = (information * self.ratio).sum() * frames * (frames - 1)
        if float(expected) <= 0:
            return torch.zeros(2, len(excess), dtype=excess.dtype, device=excess.device)
        strength = (excess / expected).clamp(0.02, 5.0)
        typical = frames * (information * self.ratio.square()).sum() / (information * self.ratio).sum()
        return torch.stack((strength, strength * (1 + typical) / (1 + strength * typical)))

    def _shifts(self, coefficients: Tensor) -> Tensor:
        return (self.model.shifts(coefficients).float() - self.applied).expand(len(self.spectra), -1, -1)


def _cut_information(ratio: Tensor, frames: int) -> Tensor:
    """The ratio, zero beyond the ring within which nearly all information about shifts lies."""
    ring = torch.arange(len(ratio), device=ratio.device, dtype=ratio.dtype)
    information = torch.cumsum(ring**3 * ratio * kernel.likelihood_weights(ratio, frames), dim=0)
    return torch.where(information <= INFORMATION_SHARE * information[-1], ratio, torch.zeros_like(ratio))
