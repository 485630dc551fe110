"""Homogeneous refinement: two half-sets that share nothing but the low-passed start, each iterated to its own map.

One iteration: expectation and back-projection per half, half-map correlation, Wiener-filtered references, new radius.
Source: Scheres & Chen, Nat. Methods 9, 853 (2012) (gold standard); Punjani et al., Nat. Methods 14, 290 (2017).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from firn.kernels.filter import low_pass_volume
from firn.kernels.mask import soft_disc, soft_sphere
from firn.kernels.pose_grid import grid_step
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.class_hands import halves_of_two_hands, inverted, inverted_rotations
from firn.refine.expectation import OffsetPrior, Prior, Searcher
from firn.refine.maximisation import Accumulator, Residuals, unfiltered_map
from firn.refine.poses import remember
from firn.refine.regularise import HalfMaps, Regulariser, Sums, combined_map, correlation_within, wiener, within
from firn.refine.scale import particle_scales
from firn.refine.schedule import MIN_FINEST_ORDER, Level, crossing, next_radius, search_levels
from firn.refine.search_course import (
    GAIN,
    NEAR,
    SETTLED,
    coarsest_everywhere,
    coarsest_order,
    finest_wanted,
    likely_error,
    next_searched,
    orientation_change,
    shift_reach_after,
    strays,
    wide_iteration,
)
from firn.refine.state import HalfModel, Particles, Poses, Settings, first_noise, masked_spectra, moved_to
from firn.refine.validation import corrected_curves

MAX_STRAYS = 0.02
PATIENCE = 3
"""Iterations without a gain in resolution before the last one; where orientations have settled, one is enough."""
CORRECTION_DRAWS = 3


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
    unsure: float
    """Median error of orientation in degrees that the posteriors speak of."""
    last: bool

    def settled(self, before: "Iteration | None") -> bool:
        """Whether orientations changed by little of what they are unsure by, on a grid that was as fine in the iteration before."""
        same = before is not None and before.finest_order == self.finest_order
        return same and self.moved < SETTLED * self.unsure


@dataclass
class Course:
    """Where a refinement stands: Fourier radii in units of 1/n, shifts in pixels."""

    searched: float
    radius: float
    offset_sigma: float
    reach: float
    finest: int = MIN_FINEST_ORDER
    best: float = 0.0
    mark: float = 0.0
    """Resolution at the last iteration that gained: many small gains are one."""
    stale: int = 0
    strays: float = 1.0
    """Share of the particles that the last search everywhere turned further than a search nearby would have reached."""


@dataclass(frozen=True)
class Plan:
    """How one iteration searches, and the Fourier radius (units of 1/n) up to which it reconstructs."""

    number: int
    everywhere: bool
    levels: list[Level]
    radius: float


Batches = Callable[[list[Tensor], str], Iterator[Tensor]]
MaskMaker = Callable[[Tensor, float], Tensor | None]


class Refinement:
    """State of a homogeneous refinement. `mask_of(volume, resolved shell)` gives the mask of the references, or None for the ball."""

    def __init__(
        self,
        particles: Particles,
        starts: tuple[Tensor, Tensor],
        settings: Settings,
        mask_of: MaskMaker,
        batches: Batches,
        chance: torch.Generator,
        regularise: Regulariser = wiener,
    ):
        self._chance, self._regularise = chance, regularise
        self.particles, self.settings, self.mask_of, self._batches = particles, settings, mask_of, batches
        self.poses = Poses.unknown(len(particles))
        self.operators = symmetry_matrices(settings.group).float().to(settings.device)
        self.sphere = soft_sphere(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self._disc = soft_disc(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self.models = [HalfModel(self._start(start), first_noise(particles, settings, half)) for half, start in enumerate(starts, start=1)]
        self.course = Course(settings.initial_radius, settings.initial_radius, settings.shift_reach / 2, settings.shift_reach)
        self.result: Iteration | None = None

    def run(self, iterations: int) -> Iterator[Iteration]:
        """Iterate, from where the state is, until neither resolution nor assignments improve, nor finer grids, then once more to Nyquist."""
        course = self.course
        while self.result is None or not self.result.last:
            before, number = self.result, 1 if self.result is None else self.result.number + 1
            self.result = self.step(number, last=number == iterations or course.stale >= PATIENCE)
            if number <= 2 or self.result.resolved > course.mark + GAIN:
                course.stale, course.mark = 0, self.result.resolved
            else:
                settled = self.result.settled(before) and not (self.result.everywhere and course.strays > MAX_STRAYS)
                course.stale = PATIENCE if settled else course.stale + 1
            if course.stale >= PATIENCE and self._finer_next(number):
                course.stale = 0
            course.best = max(course.best, self.result.resolved)
            yield self.result

    def state(self) -> dict[str, Any]:
        """All that the next iterations depend on."""
        result = None if self.result is None else vars(self.result)
        return {**self._needed(), "chance": self._chance.get_state(), "result": result}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._take(state)
        self.result = None if state["result"] is None else Iteration(**moved_to(state["result"], self.settings.device))
        self._chance.set_state(state["chance"])

    def _start(self, volume: Tensor) -> Tensor:
        settings, side = self.settings, self.particles.side
        return low_pass_volume(volume.to(settings.device), 1.0, side / settings.initial_radius) * self.sphere

    def step(self, number: int, last: bool) -> Iteration:
        """One iteration: both halves, then the correlation and the new references."""
        before = self.poses.copy()
        self.settings.ranks.tell({**self._needed(), "number": number, "last": last})
        plan = self._plan(number, last)
        sums = []
        for half, model in enumerate(self.models, start=1):
            accumulator, residuals = self._expect(half, plan)
            sums.append(accumulator.completed(self.operators))
            model.noise = residuals.noise_spectrum(model.scaled)
        self._tighten(before)
        return self._conclude(plan, (sums[0], sums[1]), before, last)

    def serve(self) -> None:
        """Be another rank than 0: expectation of its own particles whenever rank 0 begins an iteration, until it has no more."""
        while (told := self.settings.ranks.tell()) is not None:
            self._take(told)
            plan = self._plan(told["number"], told["last"])
            for half in range(1, len(self.models) + 1):
                self._expect(half, plan)

    def _needed(self) -> dict[str, Any]:
        """All that an expectation depends on."""
        return {"poses": vars(self.poses), "models": [vars(model) for model in self.models], "course": vars(self.course)}

    def _take(self, state: dict[str, Any]) -> None:
        """Put in what `_needed` gave."""
        self.poses, self.course = Poses(**state["poses"]), Course(**state["course"])
        self.models = [HalfModel(**model) for model in moved_to(state["models"], self.settings.device)]

    def _plan(self, number: int, last: bool) -> Plan:
        """How an iteration searches and how far it reconstructs."""
        everywhere = self._everywhere(number)
        levels = self._levels(everywhere, last)
        self.course.finest = levels[-1].order
        return Plan(number, everywhere, levels, self.particles.side / 2 if last else self.course.radius)

    def _expect(self, half: int, plan: Plan) -> tuple[Accumulator, Residuals]:
        """Expectation of a half-set, and its sums over all ranks."""
        model, levels, ranks = self.models[half - 1], plan.levels, self.settings.ranks
        searcher = Searcher(model, levels, self.settings.group, self.course.reach, plan.everywhere, self._near(levels))
        accumulator = Accumulator(self.particles.side, plan.radius, model.noise, levels[-1].order, searcher.references[-1].nodes)
        residuals = Residuals(model.noise, float((self._disc**2).mean()))
        self._pass(searcher, accumulator, residuals, half, f"particles, iteration {plan.number}, half {half}")
        accumulator.add_up(ranks)
        residuals.add_up(ranks)
        return accumulator, residuals

    def _everywhere(self, number: int) -> bool:
        """Whether all orientations are searched, or those near the former one."""
        return wide_iteration(number) or self.course.strays > MAX_STRAYS

    def _levels(self, everywhere: bool, last: bool) -> list[Level]:
        most = self.course.finest if last else self._finest(least=coarsest_everywhere(len(self.operators)) + 1)
        coarsest = coarsest_order(everywhere, len(self.operators))
        return search_levels(self.particles.side, self.settings.diameter, self.course.searched, coarsest, most)

    def _finer_next(self, number: int) -> bool:
        """Whether the iteration after one would search a finer grid: what has settled on a coarse one has not on it."""
        return self._levels(self._everywhere(number + 1), last=False)[-1].order > self.course.finest

    def _near(self, levels: list[Level]) -> tuple[int, int]:
        """Directions and in-plane angles around the former pose in a search nearby."""
        return NEAR

    def _finest(self, least: int) -> int:
        return finest_wanted(self.course.finest, self.poses.detail, least)

    def _pass(self, searcher: Searcher, accumulator: Accumulator, residuals: Residuals, half: int, step: str) -> None:
        rows = torch.nonzero(self.particles.half == half).squeeze(-1)
        rows = rows[torch.argsort(self.poses.detail[rows], stable=True)]
        here = self.particles.here(rows)
        batches = list(rows[here].split(searcher.batch_size()))
        grey = [self._one_batch(batch, searcher, accumulator, residuals) for batch in self._batches(batches, step)]
        found = torch.cat((self.poses.found(rows[here]), torch.cat([torch.stack(pair, dim=1) for pair in grey]).cpu()), dim=1)
        found = self.settings.ranks.gathered(here, found)
        self.poses.take(rows, found[:, :-2])
        cross, power = found[:, -2:].T.contiguous()
        if self.settings.particle_scale and searcher.model.scaled:
            self.poses.scale[rows], _ = particle_scales(cross, power, self.poses.scale[rows])

    def _one_batch(self, rows: Tensor, searcher: Searcher, accumulator: Accumulator, residuals: Residuals) -> tuple[Tensor, Tensor]:
        """Search, back-project and remember some particles; returns the model's part and power of each (Residuals.add)."""
        device = self.settings.device
        spectra = self.particles.centred(rows, self.poses.shifts[rows], device)
        masked = masked_spectra(spectra, self._disc)
        ctf = self._ctf(rows, accumulator.disc.points)
        at_levels = [ctf[:, reference.disc.within(accumulator.disc)] for reference in searcher.references]
        groups = self.particles.group[rows].to(device)
        posterior = searcher.search(masked, at_levels, groups, self.poses.rotations[rows].to(device), self._prior(rows))
        accumulator.add(posterior, spectra, ctf, groups)
        remember(self.poses, rows, posterior, searcher.everywhere)
        return residuals.add(posterior, masked, at_levels[-1], groups, searcher.references[-1])

    def _prior(self, rows: Tensor) -> Prior:
        return OffsetPrior(self.poses.shifts[rows].to(self.settings.device), self.course.offset_sigma)

    def _ctf(self, rows: Tensor, points: Tensor) -> Tensor:
        ctf = self.particles.optics.at(rows, points, self.particles.pixel_size, self.particles.side)
        return ctf * self.poses.scale[rows].to(ctf.device)[:, None]

    def _tighten(self, before: Poses) -> None:
        self.course.reach = shift_reach_after(self.poses.shifts - before.shifts, self.settings.shift_reach)
        self.course.offset_sigma = max(1.0, float(self.poses.shifts.square().mean().sqrt()))

    def _conclude(self, plan: Plan, sums: tuple[Sums, Sums], before: Poses, last: bool) -> Iteration:
        side, searched, radius, order = self.particles.side, self.course.searched, plan.radius, plan.levels[-1].order
        maps = unfiltered_map(sums[0], side, radius), unfiltered_map(sums[1], side, radius)
        if self._of_two_hands(maps, searched):
            sums, maps = self._second_inverted(sums, maps, before)
        curve, mask = self._agreement(HalfMaps(sums, maps, radius, correlation_within(maps, self.sphere, radius)))
        references, combined = self._regularise(HalfMaps(sums, maps, radius, curve))
        for model, reference in zip(self.models, references, strict=True):
            model.volume, model.scaled = reference * mask, True
        resolved = crossing(curve.tolist())
        self.course.searched = min(radius, self.settings.max_radius, next_searched(side, self.course.best, resolved))
        self.course.radius = next_radius(curve.tolist(), side, self.settings.initial_radius)
        turned = orientation_change(before.rotations, self.poses.rotations, self.operators.cpu())
        if plan.everywhere:
            self.course.strays = float(strays(turned, order).float().mean())
        moved, unsure = float(turned.median()), likely_error(float(self.poses.detail.median()), grid_step(order))
        return Iteration(plan.number, searched, plan.everywhere, order, maps, combined, curve, mask, resolved, moved, unsure, last)

    def _of_two_hands(self, maps: tuple[Tensor, Tensor], searched: float) -> bool:
        """Whether the half-sets have found opposite hands: each is free to where the start has none."""
        return halves_of_two_hands(maps, self.sphere, searched, len(self.operators))

    def _second_inverted(
        self, sums: tuple[Sums, Sums], maps: tuple[Tensor, Tensor], before: Poses
    ) -> tuple[tuple[Sums, Sums], tuple[Tensor, Tensor]]:
        """Sums and maps with the second half in its other hand; so are its poses, now and before."""
        rows = self.particles.half == 2
        for poses in (self.poses, before):
            poses.rotations[rows] = inverted_rotations(poses.rotations[rows])
        total, weight = sums[1]
        return (sums[0], (total.conj(), weight)), (maps[0], inverted(maps[1]))

    def _agreement(self, halves: HalfMaps) -> tuple[Tensor, Tensor]:
        """(correlation, mask of the references), given maps whose correlation in the ball is known.

        A tight mask on a thin shell adds so much that its correction is noise; the ball's correlation is then the better estimate.
        """
        found = self.mask_of(combined_map(halves), crossing(halves.curve.tolist()))
        if found is None:
            return halves.curve, self.sphere
        mask = found * self.sphere
        corrected = corrected_curves(*halves.maps, mask, self._chance, draws=CORRECTION_DRAWS)["corrected"]
        curves = halves.curve, within(corrected, halves.radius)
        return max(curves, key=lambda values: crossing(values.tolist())), mask
