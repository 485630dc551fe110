"""Maximisation: back-projection weighted by the posterior, noise from residuals, and the Wiener-filtered reference.

Convention: radii in units of 1/n; noise is the variance of one complex coefficient of an unmasked image, per group and shell.
Source: Scheres, J. Struct. Biol. 180, 519 (2012), eqs. 5-7; signal-to-noise ratio from the half-map correlation as in
Scheres & Chen, Nat. Methods 9, 853 (2012).
"""

import torch
from torch import Tensor

from firn.kernels.backproject import completed, empty_sums, insert_points_, reconstruct, shell_weights, symmetrise_sums
from firn.kernels.fourier import shift_phases
from firn.kernels.grid import FourierDisc, fourier_disc, shell_sums
from firn.kernels.pose_grid import node_rotations
from firn.kernels.score import weigh_projections
from firn.kernels.spectrum import cropped_side, is_host
from firn.refine.expectation import TABLE_POINTS, Posterior, Reference
from firn.refine.ranks import Ranks
from firn.refine.state import on_disc

KEPT_MASS = 0.97
MOST_POINTS, FEW_ORIENTATIONS = 2**17, 64
"""Orientations of an image times points of the disc, beyond which no more than a few of the likeliest orientations count.

What does not count makes the rest too sure of itself, and the map shows noise: where an image says little, hundreds of orientations share
its probability, and little detail is compared.
"""
FLUSH_POINTS, GPU_FLUSH_POINTS = 2**22, 2**25
INSERTED_POINTS, GPU_INSERTED_POINTS = 2**20, 2**24
"""Points that wait, and that are spread at a time: on a GPU every spreading goes through the whole cube, so that more are worth it."""
GROUP_PRIOR = 200
MAX_CORRELATION, MIN_CORRELATION = 0.999, 0.001


class Accumulator:
    """Fourier sums of one half-set up to a radius.

    Slices of the same grid node are added up before they are spread in the volume: all of them where the grid is small enough
    (`nodes`, sorted), else those of a run of batches.
    """

    def __init__(self, side: int, radius: float, noise: Tensor, order: int, nodes: Tensor | None):
        self.side, self.radius, self.noise, self._order = side, radius, noise, order
        self.disc: FourierDisc = fourier_disc(side, radius, noise.device)
        self.sum_, self.weight_ = empty_sums(cropped_side(radius, 2, side), noise.device)
        self._nodes = nodes if nodes is not None and len(nodes) * len(self.disc.points) <= TABLE_POINTS else None
        self._slices = self._empty(len(self._nodes)) if self._nodes is not None else None
        self._used_ = torch.zeros(0 if self._nodes is None else len(self._nodes), dtype=torch.bool, device=noise.device)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, posterior: Posterior, spectra: Tensor, ctf: Tensor, groups: Tensor, share: Tensor | None = None) -> None:
        """Back-project centred spectra `(b, n, n // 2 + 1)` with their CTF `(b, m)` on this accumulator's disc, in all probable poses.

        share: weight of each image `(b,)`, 1 by default.
        """
        picked, probability = _strongest(posterior, share, len(self.disc.points))
        nodes = posterior.candidates.nodes.gather(1, picked)
        noise = self.noise[groups][:, self.disc.shells]
        means = _shifted_means(on_disc(spectra, self.disc) * (ctf / noise), posterior, probability, self.disc, self.side)
        powers = probability.sum(1)[..., None] * (ctf**2 / noise)[:, None]
        entry = nodes.flatten(), torch.view_as_real(means).flatten(0, 1), powers.flatten(0, 1)
        if self._nodes is not None and self._slices is not None:
            where = torch.searchsorted(self._nodes, entry[0])
            self._clear(where[~self._used_[where]])
            _add_slices_(*self._slices, where, entry)
            return
        self._pending.append(entry)
        most = FLUSH_POINTS if is_host(noise) else GPU_FLUSH_POINTS
        if sum(len(part[0]) for part in self._pending) * len(self.disc.points) > most:
            self._flush()

    def completed(self, operators: Tensor) -> tuple[Tensor, Tensor]:
        """Sums with Friedel mates, symmetrised over the operators `(g, 3, 3)`."""
        self._flush()
        return symmetrise_sums(*completed(self.sum_, self.weight_), operators)

    def add_up(self, ranks: Ranks) -> None:
        """Give rank 0 the sums of all ranks."""
        self._flush()
        ranks.add_(self.sum_, self.weight_)

    def _flush(self) -> None:
        """Spread in the volume what has been added up by node."""
        if self._nodes is not None and self._slices is not None:
            rows = torch.nonzero(self._used_).squeeze(-1)
            self._insert(self._nodes[rows], *(part[rows] for part in self._slices))
            self._used_.zero_()
        elif self._pending:
            numbers, values, weights = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
            nodes, where = torch.unique(numbers, return_inverse=True)
            slices = self._empty(len(nodes))
            for part in slices:
                part.zero_()
            _add_slices_(*slices, where, (numbers, values, weights))
            self._insert(nodes, *slices)
            self._pending = []

    def _clear(self, rows: Tensor) -> None:
        """Begin the slices of nodes not met before."""
        for part_ in self._slices or ():
            part_[rows] = 0
        self._used_[rows] = True

    def _insert(self, nodes: Tensor, values: Tensor, weights: Tensor) -> None:
        half, points = self.disc.weights / 2, INSERTED_POINTS if is_host(nodes) else GPU_INSERTED_POINTS
        for rows in torch.arange(len(nodes), device=nodes.device).split(max(1, points // len(half))):
            slices = torch.view_as_complex(values[rows]) * half
            insert_points_(
                self.sum_, self.weight_, slices, weights[rows] * half, node_rotations(nodes[rows], self._order), self.disc.points
            )

    def _empty(self, count: int) -> tuple[Tensor, Tensor]:
        points, device = len(self.disc.points), self.noise.device
        return torch.empty(count, points, 2, device=device), torch.empty(count, points, device=device)


class Residuals:
    """Per noise group and shell: the power of masked images, of the model's part in them, and of the model.

    noise: of unmasked images `(groups, n // 2 + 1)`, as it was taken to be; mask_share: mean square of the images' mask.
    """

    def __init__(self, noise: Tensor, mask_share: float):
        self.noise, self._mask_share = noise, mask_share
        self._powers_ = torch.zeros(3, *noise.shape, device=noise.device)
        self._count_ = torch.zeros_like(noise)

    def add(
        self, posterior: Posterior, masked: Tensor, ctf: Tensor, groups: Tensor, reference: Reference, share: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gather the powers of masked images `(b, n, n // 2 + 1)`, seen with a CTF `(b, m)`; share: weight of each, 1 by default.

        Returns, per image and in units of the noise, the model's part `(b,)` and the model's power `(b,)`.
        """
        disc = reference.disc
        picked, probability = _strongest(posterior, share, len(disc.points))
        images = on_disc(masked, disc)
        columns, halves = _projections(posterior, picked, probability.sum(1) > 0, reference)
        means = _shifted_means(images * ctf, posterior, probability, disc, masked.shape[1])
        cross = (torch.view_as_real(means) * columns.unflatten(-1, (-1, 2))).sum(dim=(1, 3))
        explained = 2 * (probability.sum(1)[:, None] @ halves)[:, 0] * ctf**2
        mass = probability.sum(dim=(1, 2))
        data = (images.real**2 + images.imag**2) * disc.weights * mass[:, None]
        powers, shells = torch.stack((data, cross, explained)), self.noise.shape[1]
        self._powers_.index_add_(1, groups, shell_sums(powers, disc.shells, shells) / self._mask_share)
        self._count_.index_add_(0, groups, mass[:, None] * shell_sums(disc.weights, disc.shells, shells))
        inverse = 1 / self.noise[groups][:, disc.shells]
        return (cross * inverse).sum(1), (explained * inverse).sum(1)

    def add_up(self, ranks: Ranks) -> None:
        """Give rank 0 the powers of all ranks."""
        ranks.add_(self._powers_, self._count_)

    def noise_spectrum(self, scaled: bool) -> Tensor:
        """Re-estimated noise per group and shell.

        scaled: whether the reference was on the images' grey scale; if not, the best common factor is taken off. A group is drawn
        towards the mean of all groups times a factor of its own, as if that had been seen at GROUP_PRIOR more points of each shell;
        so are shells that no residual reached, whose mean stays what it was.
        """
        data, cross, explained = self._powers_
        factor = 1.0 if scaled else float((cross / self.noise).sum() / (explained / self.noise).sum().clamp(min=1e-30))
        residual = data - 2 * factor * cross + factor**2 * explained
        number = self._count_.sum(0)
        common = torch.where(number > 0, residual.sum(0) / number.clamp(min=1), self.noise.mean(0)).clamp(min=1e-12)
        relative = ((residual / common).sum(1, keepdim=True) + GROUP_PRIOR) / (self._count_.sum(1, keepdim=True) + GROUP_PRIOR)
        measured = (residual + GROUP_PRIOR * relative * common) / (self._count_ + GROUP_PRIOR)
        return torch.maximum(measured, 0.05 * self.noise)


def _add_slices_(values_: Tensor, weights_: Tensor, where: Tensor, entry: tuple[Tensor, Tensor, Tensor]) -> None:
    """Add slices to the rows `where`."""
    values_.index_add_(0, where, entry[1])
    weights_.index_add_(0, where, entry[2])


def unfiltered_map(sums: tuple[Tensor, Tensor], side: int, radius: float) -> Tensor:
    """Map `(n, n, n)` without regularisation, for the half-map correlation."""
    return reconstruct(*sums, side, radius=radius)


def filtered_map(sums: tuple[Tensor, Tensor], side: int, radius: float, curve: Tensor) -> Tensor:
    """Wiener-filtered map, given the correlation `(n // 2 + 1,)` that speaks for these sums."""
    safe = curve.clamp(MIN_CORRELATION, MAX_CORRELATION)
    prior = shell_weights(sums[1], side) * (1 - safe) / safe
    return reconstruct(*sums, side, prior=prior, radius=radius)


def falling(curve: Tensor, threshold: float = 0.143) -> Tensor:
    """The curve made to fall only, from the first shell below the threshold on: noise must not come back as signal."""
    below = torch.nonzero(curve[1:] < threshold)
    if not len(below):
        return curve
    start = int(below[0]) + 1
    tail = torch.cummin(curve[start:].clamp(min=0), dim=0).values
    return torch.cat((curve[:start], tail))


def full_correlation(curve: Tensor) -> Tensor:
    """Correlation of the map from all particles with the truth squared: 2 F / (1 + F) (Rosenthal & Henderson 2003)."""
    return 2 * curve / (1 + curve).clamp(min=1e-6)


def _strongest(posterior: Posterior, share: Tensor | None, points: int) -> tuple[Tensor, Tensor]:
    """Places `(b, k)` among the candidates and probabilities `(b, t, k)`, summing to 1 or to each image's share, of what matters.

    points: of the disc on which the images are added up.
    """
    marginal = posterior.probability.sum(1)
    most = max(FEW_ORIENTATIONS, MOST_POINTS // points)
    values, picked = marginal.topk(min(most, marginal.shape[1]), dim=1)
    needed = values.cumsum(1) - values < KEPT_MASS
    picked, needed = picked[:, : int(needed.sum(1).max())], needed[:, : int(needed.sum(1).max())]
    shifts = posterior.probability.shape[1]
    kept = posterior.probability.gather(2, picked[:, None].expand(-1, shifts, -1)) * needed[:, None]
    total = kept.sum(dim=(1, 2), keepdim=True)
    return picked, kept / total if share is None else kept * (share[:, None, None] / total)


def _projections(posterior: Posterior, picked: Tensor, wanted: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
    """Weighed projections `(b, k, 2 m)` and their powers `(b, k, m)` at candidates in places `(b, k)`, of which not all are wanted."""
    if posterior.slices is None:
        return reference.columns(posterior.candidates.nodes.gather(1, picked), wanted)
    safe = torch.where(wanted, picked, picked[:, :1])
    slices = torch.stack([found[places] for found, places in zip(posterior.slices, safe, strict=True)])
    return weigh_projections(slices, reference.disc.weights)


def _shifted_means(images: Tensor, posterior: Posterior, probability: Tensor, disc: FourierDisc, side: int) -> Tensor:
    """Sums over shifts `(b, k, m)`, weighted by probability `(b, t, k)`, of images `(b, m)` moved by them."""
    phases = shift_phases(disc.points / side, posterior.candidates.shifts)
    rows = torch.view_as_real(images[:, None] * phases).flatten(-2)
    means = probability.mT @ rows
    return torch.view_as_complex(means.unflatten(-1, (-1, 2)))
