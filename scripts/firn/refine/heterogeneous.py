"""Heterogeneous refinement: several volumes refined together, each particle shared among them by its likelihood under each.

All classes are searched on the same grids, up to the same Fourier radius and with the same noise, so that their evidences compare.
Iterations see a batch of particles, whose sums are blended into running ones (online EM); the last ones see all. The half-sets are
sorted by references that agree up to the resolution of the start, so that a class is the same species in both, and stay apart beyond
(Scheres & Chen, Nat. Methods 9, 853, 2012). Classes that start from one map part by chance: at first each particle goes to one of
them, whichever (Scheres, J. Struct. Biol. 180, 519, 2012), and evidence counts for little until the classes differ by more than the
noise of their own particles (annealing: Ueda & Nakano, Neural Netw. 11, 271, 1998). A particle is searched everywhere, in all classes,
while it strays: false picks never settle, and the others need not wait for them. Source: Punjani et al., Nat. Methods 14, 290 (2017); Cappé & Moulines, J. R. Stat. Soc. B 71, 593 (2009).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from firn.kernels.filter import low_pass_volume
from firn.kernels.mask import soft_disc, soft_sphere
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.expectation import Candidates, OffsetPrior, Posterior, Searcher
from firn.refine.homogeneous import Batches
from firn.refine.initial_model import blend
from firn.refine.maximisation import Accumulator, Residuals, unfiltered_map
from firn.refine.poses import remember
from firn.refine.regularise import HalfMaps, Sums, combined_map, correlation_within, wiener
from firn.refine.schedule import MIN_FINEST_ORDER, Level, crossing, next_radius, search_levels
from firn.refine.search_course import (
    FIRST_LOCAL,
    coarsest_order,
    finest_wanted,
    next_searched,
    orientation_change,
    shift_reach_after,
    strays,
    wide_iteration,
)
from firn.refine.state import HalfModel, Particles, Poses, Settings, first_noise, masked_spectra, moved_to

SharesOf = Callable[[Tensor], Tensor]
"""Shares `(b, k)` from log evidences."""
LEAST_SHARE = 1e-3
"""Smaller shares of a particle are not back-projected."""
ALIKE = 0.999
"""Starting volumes that correlate better than this are copies of each other."""
ANNEALED, WARMTH = 7, 0.6
"""With copies, evidence counts in full from this iteration on, and by this factor less in each one before."""


@dataclass(frozen=True)
class Online:
    """How batches are drawn and when to stop."""

    batch: int
    """Particles per iteration."""
    rate: float
    """Least weight of a batch in the running sums."""
    settled: float
    """Share of particles that may still change class when all is done."""
    full_passes: int
    hard: bool
    """Give each particle to its best class alone."""


@dataclass(frozen=True)
class ClassMaps:
    """One class: unfiltered half maps, filtered map, correlation, shell where it falls below 0.143."""

    half_maps: tuple[Tensor, Tensor]
    combined: Tensor
    curve: Tensor
    resolved: float


@dataclass(frozen=True)
class Sorting:
    """What one iteration found; shares: of the particles, per class; changed: particles that went to another class."""

    number: int
    searched: float
    wide: float
    """Part of the particles that were searched everywhere."""
    classes: list[ClassMaps]
    shares: list[float]
    changed: float
    full: int
    """Full passes done, this one included."""
    last: bool


@dataclass(frozen=True)
class Plan:
    """Which particles one iteration sees, how it searches, and the Fourier radius (units of 1/n) up to which it reconstructs."""

    number: int
    rows: Tensor
    wide: Tensor
    """Whether each of all particles is searched everywhere, if at all."""
    levels: dict[bool, list[Level]]
    """Of searches nearby and everywhere."""
    radius: float


@dataclass
class Course:
    """Where the refinement stands: Fourier radii in units of 1/n, shifts in pixels."""

    searched: float
    radius: float
    offset_sigma: float
    reach: float
    """Of searches nearby."""
    finest: int = MIN_FINEST_ORDER
    best: float = 0.0


class Heterogeneous:
    """State of a heterogeneous refinement."""

    def __init__(
        self, particles: Particles, starts: list[Tensor], settings: Settings, online: Online, batches: Batches, chance: torch.Generator
    ):
        self.particles, self.settings, self.online, self._batches, self._chance = particles, settings, online, batches, chance
        self.poses = [Poses.unknown(len(particles)) for _ in starts]
        self.shares = torch.full((len(particles), len(starts)), 1 / len(starts))
        self.strays = torch.ones(len(particles), dtype=torch.bool)
        self.operators = symmetry_matrices(settings.group).float().to(settings.device)
        self.sphere = soft_sphere(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self._disc = soft_disc(particles.side, settings.mask_radius, settings.mask_edge, settings.device)
        self._copies = torch.corrcoef(torch.stack([start.flatten() for start in starts])) > ALIKE
        noises = [first_noise(particles, settings, half) for half in (1, 2)]
        self.models = [[HalfModel(self._start(start), noise) for start in starts] for noise in noises]
        self.sums: list[list[Sums | None]] = [[None] * len(starts) for _ in noises]
        self.course = Course(settings.initial_radius, settings.initial_radius, settings.shift_reach / 2, settings.shift_reach)
        self.result: Sorting | None = None

    @property
    def count(self) -> int:
        """Number of classes."""
        return self.shares.shape[1]

    def run(self, iterations: int) -> Iterator[Sorting]:
        """Iterate, from where the state is, until classes have settled, then over all particles."""
        while self.result is None or not self.result.last:
            self.result = self.step(iterations)
            yield self.result

    def step(self, iterations: int) -> Sorting:
        """One iteration."""
        number = 1 if self.result is None else self.result.number + 1
        full = self._full_pass(number, iterations)
        last = full == self.online.full_passes
        rows = torch.arange(len(self.particles)) if full else self._draw()
        before, poses, searched = self.shares.argmax(1), [poses.copy() for poses in self.poses], self.course.searched
        self.settings.ranks.tell({**self._needed(), "number": number, "rows": rows, "last": last})
        plan = self._plan(number, rows, last)
        rate = 1.0 if len(rows) == len(self.particles) else max(self.online.rate, 1 / number)
        for half in (1, 2):
            self._join(half, plan, rate, *self._expect(half, plan))
        self._settle(plan, poses)
        classes = self._conclude(plan.radius)
        changed = float((self.shares.argmax(1) != before)[rows].double().mean())
        shares = self.shares[rows].mean(0).tolist()
        return Sorting(number, searched, float(plan.wide[rows].double().mean()), classes, shares, changed, full, last)

    def serve(self) -> None:
        """Be another rank than 0: expectation of its own particles whenever rank 0 begins an iteration, until it has no more."""
        while (told := self.settings.ranks.tell()) is not None:
            self._take(told)
            plan = self._plan(told["number"], told["rows"], told["last"])
            for half in (1, 2):
                self._expect(half, plan)

    def state(self) -> dict[str, Any]:
        """All that the next iterations depend on."""
        result = None if self.result is None else vars(self.result) | {"classes": [vars(part) for part in self.result.classes]}
        return {**self._needed(), "sums": self.sums, "result": result}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        device = self.settings.device
        self._take(state)
        self.sums = moved_to(state["sums"], device)
        if state["result"] is not None:
            classes = [ClassMaps(**part) for part in moved_to(state["result"]["classes"], device)]
            self.result = Sorting(**state["result"] | {"classes": classes})

    def _needed(self) -> dict[str, Any]:
        """All that an expectation depends on."""
        return {
            "poses": [vars(poses) for poses in self.poses],
            "shares": self.shares,
            "strays": self.strays,
            "models": [[vars(model) for model in models] for models in self.models],
            "course": vars(self.course),
            "chance": self._chance.get_state(),
        }

    def _take(self, state: dict[str, Any]) -> None:
        """Put in what `_needed` gave."""
        self.poses, self.shares, self.strays = [Poses(**poses) for poses in state["poses"]], state["shares"], state["strays"]
        self.models = [[HalfModel(**model) for model in models] for models in moved_to(state["models"], self.settings.device)]
        self.course = Course(**state["course"])
        self._chance.set_state(state["chance"])

    def _plan(self, number: int, rows: Tensor, last: bool) -> Plan:
        """How an iteration searches and how far it reconstructs."""
        wide = torch.ones_like(self.strays) if wide_iteration(number) else self.strays.clone()
        levels = {everywhere: self._levels(everywhere) for everywhere in (False, True)}
        self.course.finest = levels[True][-1].order
        return Plan(number, rows, wide, levels, self.particles.side / 2 if last else self.course.radius)

    def _start(self, volume: Tensor) -> Tensor:
        settings, side = self.settings, self.particles.side
        return low_pass_volume(volume.to(settings.device), 1.0, side / settings.initial_radius) * self.sphere

    def _full_pass(self, number: int, iterations: int) -> int:
        """Which of the closing passes this iteration is; 0 when it is none of them."""
        former, passes = self.result, self.online.full_passes
        if former is not None and former.full:
            return former.full + 1
        first = ANNEALED if self._has_copies else FIRST_LOCAL
        settled = former is not None and former.changed < self.online.settled and number > first
        return 1 if settled or number > iterations - passes else 0

    def _draw(self) -> Tensor:
        """A random batch, in order."""
        count = len(self.particles)
        return torch.randperm(count, generator=self._chance)[: min(self.online.batch, count)].sort().values

    def _levels(self, everywhere: bool) -> list[Level]:
        """Levels for all classes alike."""
        most = finest_wanted(self.course.finest, self.own(self.poses).detail, MIN_FINEST_ORDER)
        coarsest = coarsest_order(everywhere, len(self.operators))
        return search_levels(self.particles.side, self.settings.diameter, self.course.searched, coarsest, most)

    def _expect(self, half: int, plan: Plan) -> tuple[list[Accumulator], Residuals]:
        """Expectation of the particles of one half-set, and its sums over all ranks."""
        models, ranks = self.models[half - 1], self.settings.ranks
        noise, order = models[0].noise, plan.levels[True][-1].order
        rows = self._of_half(plan.rows, half)
        parting = self._parting(len(rows)) if plan.number == 1 and self._has_copies else torch.zeros(len(rows), 1)
        here, wide = self.particles.here(rows), plan.wide[rows]
        searchers = {everywhere: self._searchers(half, plan, everywhere) for everywhere in wide.unique().tolist()}
        nodes = searchers[True][0].references[-1].nodes if wide.all() else None
        accumulators = [Accumulator(self.particles.side, plan.radius, noise, order, nodes) for _ in models]
        residuals = Residuals(noise, float((self._disc**2).mean()))
        parts = [part for everywhere, own in searchers.items() for part in _in_batches(torch.nonzero(here & (wide == everywhere)), own)]
        for batch in self._batches(parts, f"particles, iteration {plan.number}, half {half}"):
            shares = partial(self._shares, number=plan.number, parting=parting[batch])
            self._one_batch(rows[batch], shares, searchers[bool(wide[batch[0]])], accumulators, residuals)
        self._gather(rows, here)
        for accumulator in accumulators:
            accumulator.add_up(ranks)
        residuals.add_up(ranks)
        return accumulators, residuals

    def _searchers(self, half: int, plan: Plan, everywhere: bool) -> list[Searcher]:
        """One for each class; everywhere as far as any shift may be."""
        reach = self.settings.shift_reach if everywhere else self.course.reach
        return [Searcher(model, plan.levels[everywhere], self.settings.group, reach, everywhere) for model in self.models[half - 1]]

    def _of_half(self, rows: Tensor, half: int) -> Tensor:
        return rows[self.particles.half[rows] == half]

    def _gather(self, rows: Tensor, here: Tensor) -> None:
        """Give rank 0 the poses and shares that all ranks found."""
        columns = [*(poses.found(rows[here]) for poses in self.poses), self.shares[rows[here]]]
        found = self.settings.ranks.gathered(here, torch.cat(columns, dim=1)).split([part.shape[1] for part in columns], dim=1)
        for poses, part in zip(self.poses, found[:-1], strict=True):
            poses.take(rows, part)
        self.shares[rows] = found[-1]

    def _join(self, half: int, plan: Plan, rate: float, accumulators: list[Accumulator], residuals: Residuals) -> None:
        """Blend what an iteration found into the running sums of a half-set."""
        models = self.models[half - 1]
        fraction = len(self._of_half(plan.rows, half)) / int((self.particles.half == half).sum())
        found = residuals.noise_spectrum(models[0].scaled)
        for number_of, (model, accumulator) in enumerate(zip(models, accumulators, strict=True)):
            total, weight = accumulator.completed(self.operators)
            self.sums[half - 1][number_of] = blend(self.sums[half - 1][number_of], (total / fraction, weight / fraction), rate)
            model.noise = found

    def _one_batch(
        self, rows: Tensor, shares_of: SharesOf, searchers: list[Searcher], accumulators: list[Accumulator], residuals: Residuals
    ) -> None:
        """Search all classes, share the particles out, back-project and remember."""
        groups = self.particles.group[rows].to(self.settings.device)
        found = [self._search(rows, groups, searcher, poses) for searcher, poses in zip(searchers, self.poses, strict=True)]
        evidence = torch.stack([posterior.evidence for posterior, _, _ in found], dim=1)
        shares = shares_of(evidence)
        for which, (posterior, spectra, masked) in enumerate(found):
            reference, accumulator = searchers[which].references[-1], accumulators[which]
            kept = torch.nonzero(shares[:, which] > LEAST_SHARE).squeeze(-1)
            if len(kept):
                part, share, own = _rows_of(posterior, kept), shares[kept, which], rows[kept.cpu()]
                accumulator.add(part, spectra[kept], self._ctf(own, accumulator.disc.points), groups[kept], share)
                residuals.add(part, masked[kept], self._ctf(own, reference.disc.points), groups[kept], reference, share)
            remember(self.poses[which], rows, posterior, searchers[which].everywhere)
        self.shares[rows] = shares.cpu()

    def _search(self, rows: Tensor, groups: Tensor, searcher: Searcher, poses: Poses) -> tuple[Posterior, Tensor, Tensor]:
        """(posterior under one class, spectra, masked spectra)."""
        device = self.settings.device
        spectra = self.particles.centred(rows, poses.shifts[rows], device)
        masked = masked_spectra(spectra, self._disc)
        ctf = [self._ctf(rows, reference.disc.points) for reference in searcher.references]
        prior = OffsetPrior(poses.shifts[rows].to(device), self.course.offset_sigma)
        return searcher.search(masked, ctf, groups, poses.rotations[rows].to(device), prior), spectra, masked

    def _shares(self, evidence: Tensor, number: int, parting: Tensor) -> Tensor:
        """Share `(b, k)` of each particle in each class; as _annealed."""
        evidence = self._annealed(evidence, number, parting)
        if self.online.hard:
            return torch.nn.functional.one_hot(evidence.argmax(1), self.count).to(evidence.dtype)
        return torch.softmax(evidence, dim=1)

    def _annealed(self, evidence: Tensor, number: int, parting: Tensor) -> Tensor:
        """Evidence `(b, k)` as far as it counts in an iteration while copies part; parting: log weights of the first one."""
        if not self._has_copies:
            return evidence
        if number == 1:
            return evidence + parting.to(evidence)
        return evidence * min(1.0, WARMTH ** (ANNEALED - number))

    @property
    def _has_copies(self) -> bool:
        return int(self._copies.sum()) > self.count

    def _parting(self, count: int) -> Tensor:
        """Log weights `(b, k)` that leave each particle one of every set of copies."""
        draws = torch.rand(count, self.count, generator=self._chance)
        best = torch.where(self._copies, draws[:, None], -1.0).amax(-1)
        return torch.where(draws < best, -torch.inf, 0.0)

    def _ctf(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.particles.optics.at(rows, points, self.particles.pixel_size, self.particles.side)

    def _settle(self, plan: Plan, before: list[Poses]) -> None:
        """Which particles stray, and how far to look for the shifts of the others, from poses before and now in the class of each."""
        first, second = self.own(before), self.own(self.poses)
        turned = orientation_change(first.rotations, second.rotations, self.operators.cpu())
        seen = torch.zeros_like(self.strays)
        seen[plan.rows] = True
        far = strays(turned, plan.levels[True][-1].order)
        self.strays = torch.where(seen & plan.wide, far, self.strays)
        settled = seen & ~self.strays
        if settled.any():
            self.course.reach = shift_reach_after((second.shifts - first.shifts)[settled], self.settings.shift_reach)

    def own(self, poses: list[Poses]) -> Poses:
        """Of each particle in its best class."""
        row, best = torch.arange(len(self.shares)), self.shares.argmax(1)
        columns = zip(*(vars(part).values() for part in poses), strict=True)
        return Poses(*(torch.stack(column, dim=1)[row, best] for column in columns))

    def _conclude(self, radius: float) -> list[ClassMaps]:
        """New references, each filtered by its own correlation, and radii, from the running sums."""
        course, side = self.course, self.particles.side
        found = [self._half_maps(which, radius) for which in range(self.count)]
        for which, halves in enumerate(found):
            self._refer(which, halves)
        classes = [ClassMaps(part.maps, combined_map(part), part.curve, crossing(part.curve.tolist())) for part in found]
        best = max(part.resolved for part in classes)
        course.searched = min(radius, self.settings.max_radius, next_searched(side, course.best, best))
        course.best = max(course.best, best)
        course.radius = max(next_radius(part.curve.tolist(), side, self.settings.initial_radius) for part in classes)
        course.offset_sigma = max(1.0, float(self.own(self.poses).shifts.square().mean().sqrt()))
        return classes

    def _half_maps(self, which: int, radius: float) -> HalfMaps:
        first, second = self.sums[0][which], self.sums[1][which]
        assert first is not None
        assert second is not None
        maps = unfiltered_map(first, self.particles.side, radius), unfiltered_map(second, self.particles.side, radius)
        return HalfMaps((first, second), maps, radius, correlation_within(maps, self.sphere, radius))

    def _refer(self, which: int, halves: HalfMaps) -> None:
        references, common = wiener(halves)
        for models, reference in zip(self.models, references, strict=True):
            joined = reference + low_pass_volume(common - reference, 1.0, self.particles.side / self.settings.initial_radius)
            models[which].volume, models[which].scaled = joined * self.sphere, True


def _in_batches(found: Tensor, searchers: list[Searcher]) -> list[Tensor]:
    """Places `(b, 1)` in batches that keep the memory of all searchers bounded."""
    size = min(searcher.batch_size() for searcher in searchers)
    return [part for part in found.squeeze(-1).split(size) if len(part)]


def _rows_of(posterior: Posterior, rows: Tensor) -> Posterior:
    """The posterior of some of the images."""
    found = posterior.candidates
    candidates = Candidates(found.nodes[rows], found.node_ok[rows], found.shifts[rows], found.shift_ok[rows])
    slices = None if posterior.slices is None else posterior.slices[rows]
    return Posterior(candidates, posterior.probability[rows], posterior.order, posterior.spread[rows], posterior.evidence[rows], slices)
