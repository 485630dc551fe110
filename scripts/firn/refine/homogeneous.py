"""Homogeneous refinement: two half-sets that share nothing but the low-passed start, each iterated to its own map.

One iteration: expectation and back-projection per half, half-map correlation, Wiener-filtered references, new radius.
Source: Scheres & Chen, Nat. Methods 9, 853 (2012) (gold standard); Punjani et al., Nat. Methods 14, 290 (2017).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from firn.kernels.filter import low_pass_volume
from firn.kernels.fsc import fsc, shell_average, shell_indices
from firn.kernels.mask import soft_disc, soft_sphere
from firn.kernels.pose_grid import node_rotations
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.expectation import OffsetPrior, Posterior, Searcher
from firn.refine.maximisation import Accumulator, falling, filtered_map, full_correlation, unfiltered_map
from firn.refine.schedule import MIN_FINEST_ORDER, first_below, next_radius, search_levels
from firn.refine.state import HalfModel, Particles, Poses, Settings, masked_spectra
from firn.refine.validation import corrected_curves

LOCAL_SPREAD = 2.0
FIRST_LOCAL = 3
WIDE_EVERY = 5
PATIENCE = 2
RESOLVED_DETAIL = 6.0
MANY_OPERATORS = 6
CORRECTION_DRAWS = 3
SHELLS_BEYOND = 2
"""Shells beyond the resolution that still help to find poses."""


@dataclass(frozen=True)
class Iteration:
    """What one iteration found; maps `(n, n, n)`."""

    number: int
    searched: float
    """Fourier radius used to find the poses, in units of 1/n."""
    everywhere: bool
    finest_order: int
    half_maps: tuple[Tensor, Tensor]
    """Unfiltered."""
    combined: Tensor
    """From both half-sets, Wiener-filtered."""
    curve: Tensor
    """Half-map correlation: within the reference mask, corrected, or within the ball, whichever reaches further."""
    mask: Tensor
    resolved: float
    """Shell where the curve falls below 0.143, in units of 1/n, between shells."""
    moved: float
    """Median change of orientation in degrees."""
    last: bool


Batches = Callable[[list[Tensor], str], Iterator[Tensor]]
MaskMaker = Callable[[Tensor, float], Tensor | None]


class Refinement:
    """State of a homogeneous refinement. `mask_of(volume, resolved shell)` gives the mask of the references, or None for the ball."""

    def __init__(
        self, particles: Particles, volume: Tensor, settings: Settings, mask_of: MaskMaker, batches: Batches, chance: torch.Generator
    ):
        self._chance = chance
        self.particles, self.settings, self.mask_of, self._batches = particles, settings, mask_of, batches
        self.poses = Poses.unknown(len(particles))
        self.operators = symmetry_matrices(settings.group).float().to(settings.device)
        start = low_pass_volume(volume.to(settings.device), 1.0, particles.side / settings.initial_radius)
        self.sphere = soft_sphere(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self._disc = soft_disc(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self.models = [HalfModel(start * self.sphere, self._background(half)) for half in (1, 2)]
        self.searched = self.radius = settings.initial_radius
        self.finest = MIN_FINEST_ORDER
        self.offset_sigma, self.reach = settings.shift_reach / 2, settings.shift_reach

    def run(self, iterations: int) -> Iterator[Iteration]:
        """Iterate until neither resolution nor assignments improve, then once more to Nyquist."""
        best, stale = 0.0, 0
        for number in range(1, iterations + 1):
            result = self.step(number, last=number == iterations or stale >= PATIENCE)
            yield result
            if result.last:
                return
            better = result.resolved > best + 0.5
            stale = 0 if better or number <= 2 else stale + 1
            best = max(best, result.resolved)

    def step(self, number: int, last: bool) -> Iteration:
        """One iteration: both halves, then the correlation and the new references."""
        everywhere = number < FIRST_LOCAL or number % WIDE_EVERY == 0 or float(self.poses.spread.median()) > LOCAL_SPREAD
        side, settings = self.particles.side, self.settings
        levels = search_levels(side, settings.diameter, self.searched, self._coarsest(everywhere), self.finest if last else self._finest())
        self.finest = levels[-1].order
        before = replace(self.poses, rotations=self.poses.rotations.clone(), shifts=self.poses.shifts.clone())
        radius = side / 2 - 1 if last else self.radius
        sums = []
        for half, model in enumerate(self.models, start=1):
            searcher = Searcher(model, levels, settings.group, self.reach, everywhere)
            accumulator = Accumulator(side, radius, model.noise, levels[-1].order, searcher.references[-1].nodes)
            self._pass(searcher, accumulator, half, f"particles, iteration {number}, half {half}")
            sums.append(accumulator.completed(self.operators))
            model.noise = accumulator.noise_spectrum(model.scaled)
        self._tighten(before)
        return self._conclude(number, sums, radius, everywhere, levels[-1].order, before, last)

    def _coarsest(self, everywhere: bool) -> int | None:
        """Order that a search everywhere starts from: a finer one where symmetry leaves few directions."""
        return (3 if len(self.operators) >= MANY_OPERATORS else 2) if everywhere else None

    def _finest(self) -> int:
        """Largest order worth trying: one more than before if few of that grid's orientations shared the probability."""
        return self.finest + 1 if float(self.poses.detail.median()) < RESOLVED_DETAIL else self.finest

    def _pass(self, searcher: Searcher, accumulator: Accumulator, half: int, step: str) -> None:
        rows = torch.nonzero(self.particles.half == half).squeeze(-1)
        rows = rows[torch.argsort(self.poses.rotations[rows, 0, 0], stable=True)]
        for batch in self._batches(list(rows.split(searcher.batch_size())), step):
            self._one_batch(batch, searcher, accumulator)

    def _one_batch(self, rows: Tensor, searcher: Searcher, accumulator: Accumulator) -> None:
        settings, side, device = self.settings, self.particles.side, self.settings.device
        applied = self.poses.shifts[rows]
        spectra = self.particles.centred(rows, applied, device)
        masked = masked_spectra(spectra, side, settings.mask_radius, settings.mask_edge)
        ctf = [self._ctf(rows, reference.disc.points) for reference in searcher.references]
        prior = OffsetPrior(applied.to(device), self.offset_sigma)
        posterior = searcher.search(masked, ctf, self.poses.rotations[rows].to(device), prior)
        accumulator.add(posterior, spectra, self._ctf(rows, accumulator.disc.points))
        share = float((self._disc**2).mean())
        accumulator.add_residuals(posterior, masked, ctf[-1], searcher.references[-1], share)
        self._remember(rows, posterior)
        if searcher.everywhere:
            self.poses.spread[rows] = posterior.spread.cpu()

    def _ctf(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.particles.optics.at(rows, points, self.particles.pixel_size, self.particles.side)

    def _remember(self, rows: Tensor, posterior: Posterior) -> None:
        shifts, nodes = posterior.candidates.shifts, posterior.candidates.nodes
        peak, best = posterior.probability.flatten(1).max(dim=1)
        number = torch.arange(len(rows), device=best.device)
        self.poses.shifts[rows] += shifts[number, best // nodes.shape[1]].cpu()
        self.poses.rotations[rows] = node_rotations(nodes[number, best % nodes.shape[1]], posterior.order).cpu()
        self.poses.peak[rows] = peak.cpu()
        self.poses.detail[rows] = (1 / posterior.probability.sum(1).square().sum(-1)).cpu()

    def _tighten(self, before: Poses) -> None:
        change = (self.poses.shifts - before.shifts).square().sum(-1).mean().sqrt()
        self.reach = min(self.settings.shift_reach, max(1.0, 3 * float(change)))
        self.offset_sigma = max(1.0, float(self.poses.shifts.square().mean().sqrt()))

    def _conclude(
        self, number: int, sums: list[tuple[Tensor, Tensor]], radius: float, everywhere: bool, order: int, before: Poses, last: bool
    ) -> Iteration:
        side = self.particles.side
        halves = [unfiltered_map(part, side, radius) for part in sums]
        curve = _correlation(halves, self.sphere, radius)
        found = self.mask_of(self._combined(sums, radius, curve), _crossing(curve.tolist()))
        mask = self.sphere if found is None else found * self.sphere
        if found is not None:
            curve = max(curve, self._corrected(halves, mask, radius), key=lambda values: _crossing(values.tolist()))
        calm = falling(curve)
        for model, part in zip(self.models, sums, strict=True):
            model.volume, model.scaled = filtered_map(part, side, radius, calm) * mask, True
        searched = self.searched
        self.searched = min(radius, self.settings.max_radius, _crossing(curve.tolist()) + SHELLS_BEYOND)
        self.radius = next_radius(curve.tolist(), side, self.settings.initial_radius)
        moved = float(_orientation_change(before.rotations, self.poses.rotations, self.operators.cpu()).median())
        combined = self._combined(sums, radius, curve)
        return Iteration(
            number, searched, everywhere, order, (halves[0], halves[1]), combined, curve, mask, _crossing(curve.tolist()), moved, last
        )

    def _corrected(self, halves: list[Tensor], mask: Tensor, radius: float) -> Tensor:
        """Correlation under the mask, freed of what the mask itself adds; the half maps must come unmasked.

        A tight mask on a thin shell adds so much that its correction is noise; the ball's correlation is then the better estimate.
        """
        curve = corrected_curves(halves[0], halves[1], mask, self._chance, draws=CORRECTION_DRAWS)["corrected"]
        return _within(curve, radius)

    def _combined(self, sums: list[tuple[Tensor, Tensor]], radius: float, curve: Tensor) -> Tensor:
        total = (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
        return filtered_map(total, self.particles.side, radius, full_correlation(falling(curve)))

    def _background(self, half: int) -> Tensor:
        """Noise per shell: the power outside the mask's disc or the power within it, whichever is less; neither is all noise."""
        device, side = self.settings.device, self.particles.side
        rows = torch.nonzero(self.particles.half == half).squeeze(-1)
        powers = torch.zeros(2, side, side // 2 + 1, device=device)
        for batch in rows.split(256):
            spectra = self.particles.centred(batch, torch.zeros(len(batch), 2), device)
            inside = masked_spectra(spectra, side, self.settings.mask_radius, self.settings.mask_edge)
            for power_, part in zip(powers, (inside, spectra - inside), strict=True):
                power_ += (part.real**2 + part.imag**2).sum(0)
        shares = torch.stack(((self._disc**2).mean(), ((1 - self._disc) ** 2).mean()))
        spectrum = shell_average(powers / (len(rows) * shares[:, None, None]), shell_indices((side, side), device), side)
        return spectrum.amin(0).clamp(min=1e-12)


def _correlation(halves: list[Tensor], mask: Tensor, radius: float) -> Tensor:
    """Correlation of masked half-maps; 0 beyond the radius, where nothing but the mask's leakage is."""
    return _within(fsc(halves[0] * mask, halves[1] * mask), radius)


def _within(curve: Tensor, radius: float) -> Tensor:
    return torch.where(torch.arange(len(curve), device=curve.device) <= radius, curve, 0.0)


def _crossing(values: list[float]) -> float:
    """Where a curve falls below 0.143, in shells, linear between them."""
    shell = first_below(values, 0.143)
    if shell >= len(values):
        return float(len(values) - 1)
    above, below = (1.0 if shell == 1 else values[shell - 1]), values[shell]
    return shell - 1 + (above - 0.143) / max(above - below, 1e-6)


def _orientation_change(first: Tensor, second: Tensor, operators: Tensor) -> Tensor:
    """Degrees between rotations `(n, 3, 3)`, the nearest among equivalent ones."""
    relative = torch.einsum("nij,nkj->nik", first, second)
    traces = torch.einsum("gij,nij->ng", operators, relative).amax(1)
    return torch.rad2deg(torch.acos(((traces - 1) / 2).clamp(-1, 1)))
