"""The course of an ab-initio reconstruction: several starts, the better ones grown, the best of these over all particles.

Starts run a few cheap low-resolution batches each; those that explain a common set of particles best go on to growing batches and
resolution; the best of these ends in full passes over all particles. Several classes are found beside one more, which takes what fits
none of them, such as false picks, and is left out at the end: without it such particles take the place of a species; at the end each
particle goes to a class by volumes that it is no part of. What is done is
kept by name, so that a run that was cut short goes on from its last state. Source: Punjani et al., Nat. Methods 14, 290 (2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from firn.refine.ab_initio import FEWEST_FOLDS, AbInitio, Batch, Settings, State
from firn.refine.class_hands import inverted, inverted_rotations, other_hands, without_hand
from firn.refine.initial_model import opposites
from firn.refine.initial_search import Found
from firn.refine.state import moved_to

FULL_PASSES = 2
PASSES_APART, SEEN_APART = 6, 20_000
"""Several classes settle slowly where images are noisy: passes over all particles at the finest resolution, as long as these are few."""
HOTTEST = 3.0
"""Factor on the noise variance in the first of these passes, 1 in the last: poses that are certain too early stay wrong."""
SCORING_PARTICLES = 300
OPPOSITE_ITERATIONS = 8
HAND_ITERATIONS, HAND_COARSER = (5, 15), 1.4
"""Iterations at so many times the finest resolution, and at that, after a hand was drawn."""
JUDGED_PARTICLES = 2000
"""Of volumes made of so many at most it is asked whether a hand explains them better: the noise of a few images hides it."""
LARGE_BATCHES = 10
"""One in so many iterations of a start, the last ones, sees a large batch."""
KEPT_EVERY = 5
"""Iterations of one series between two states that are kept."""
Note = Callable[[dict[str, float | int | str]], None]
Snapshot = Callable[[str, list[Tensor]], None]
Keep = Callable[[dict[str, Any]], None]


@dataclass
class Result:
    """What came out: volumes `(n, n, n)` of the working box, poses of all particles, and how it went."""

    volumes: list[Tensor]
    found: Found
    evidences: list[float]
    """Mean log-likelihood of each start."""
    members: list[int]
    """Numbers of these volumes among those of the snapshots."""


class Course:
    """Series of iterations by name: those that are done, and the one under way.

    note is called once per iteration with its numbers, snapshot now and then with a title and the volumes, keep with all that the next
    iterations depend on; former: what a run cut short gave to keep last.
    """

    def __init__(self, engine: AbInitio, note: Note, snapshot: Snapshot, keep: Keep, former: dict[str, Any] | None = None):
        self.engine, self.note, self.snapshot, self._keep = engine, note, snapshot, keep
        self._done: dict[str, State] = {}
        self._evidence: dict[str, float] = {}
        self._under_way: tuple[str, int, State] | None = None
        if former is None:
            self.rows = engine.draw(SCORING_PARTICLES)
        else:
            self._restore(former)

    def series(self, name: str, first: Callable[[], State], batches: list[Batch], lasting: bool = True) -> State:
        """The state after some batches, from a first one; lasting: with the sums of its last folds."""
        if name in self._done:
            return self._done[name]
        number, state = self._begin(name, first)
        for iteration in range(number, len(batches)):
            self._iterate(name, state, batches[iteration], iteration)
            if (iteration + 1) % KEPT_EVERY == 0 and iteration + 1 < len(batches):
                self._keep_at(name, iteration + 1, state)
        if state.recent:
            self.engine.renew(state, batches[-1].resolution, filtered=batches[-1].filtered)
        state.recent = state.recent if lasting else []
        self._done[name], self._under_way = state, None
        self._keep(self._state())
        return state

    def full_passes(self, state: State) -> tuple[State, Found]:
        """The state after passes over all particles, and what the last of them found."""
        name, engine = "all particles", self.engine
        number, state = self._begin(name, state.copy)
        everyone, batch = (
            torch.arange(len(engine), device=engine.floor.device),
            Batch(engine.settings.max_resolution, len(engine), 1.0, 0.0),
        )
        for iteration in range(number, FULL_PASSES):
            if iteration > number:
                self._keep_at(name, iteration, state)
            found = engine.iterate(state, batch, everyone)
            self.note({"step": name, "iteration": iteration + 1, "log_likelihood": float(found.log_likelihood.mean())})
        return state, found

    def evidence(self, name: str, measure: Callable[[], float]) -> float:
        """A log-likelihood that is measured once."""
        if name not in self._evidence:
            self._evidence[name] = measure()
            self.note({"step": name, "log_likelihood": self._evidence[name]})
        return self._evidence[name]

    def _iterate(self, name: str, state: State, batch: Batch, iteration: int) -> None:
        if self.engine.settings.apart:
            found = self.engine.iterate_apart(state, batch, iteration)
        else:
            found = self.engine.iterate(state, batch, self.engine.draw(batch.particles))
        numbers = {"resolution": batch.resolution, "log_likelihood": batch.heat * float(found.log_likelihood.mean())}
        self.note({"step": name, "iteration": iteration + 1, **numbers})

    def _begin(self, name: str, first: Callable[[], State]) -> tuple[int, State]:
        """(iterations already done, state)."""
        if self._under_way is not None and self._under_way[0] == name:
            return self._under_way[1:]
        return 0, first()

    def _keep_at(self, name: str, iteration: int, state: State) -> None:
        self._under_way = name, iteration, state
        self._keep(self._state())

    def _state(self) -> dict[str, Any]:
        name, iteration, state = self._under_way or ("", 0, None)
        return {
            "rows": self.rows,
            "chance": self.engine.generator.get_state(),
            "done": {key: vars(value) for key, value in self._done.items()},
            "evidence": self._evidence,
            "under_way": (name, iteration, None if state is None else vars(state)),
        }

    def _restore(self, former: dict[str, Any]) -> None:
        device = self.engine.floor.device
        self.rows = former["rows"].to(device)
        self.engine.generator.set_state(former["chance"])
        self._done = {key: State(**value) for key, value in moved_to(former["done"], device).items()}
        self._evidence = dict(former["evidence"])
        name, iteration, state = former["under_way"]
        self._under_way = None if state is None else (name, iteration, State(**moved_to(state, device)))


def reconstruct_ab_initio(course: Course) -> Result:
    """Run the starts, grow the better ones, end with full passes over all particles with the best."""
    engine, settings, rows = course.engine, course.engine.settings, course.rows
    middle, finest = middle_resolution(settings), settings.max_resolution
    starts = []
    for number in range(1, settings.starts + 1):
        starts.append(state := course.series(f"start {number}", engine.fresh, starting_schedule(settings), lasting=False))
        course.snapshot(f"start {number}", state.volumes)
    logs = [engine.class_evidence(state, rows, middle) for state in starts]
    evidences = [joint_evidence(log) for log in logs]
    for number, evidence in enumerate(evidences, start=1):
        course.note({"step": f"start {number}, measured", "log_likelihood": evidence})
    grown, fine = [], []
    for number, chosen in enumerate(promising(logs, settings.grown), start=1):
        grown.append(state := course.series(f"growing {number}", partial(gathered, starts, chosen), final_schedule(settings)))
        fine.append(course.evidence(f"growing {number}, measured", partial(engine.fine_evidence, state, rows, finest)))
    best = grown[max(range(len(grown)), key=fine.__getitem__)]
    course.snapshot("grown", best.volumes)
    if settings.apart:
        return _sorted_apart(course, best, evidences)
    state, found = course.full_passes(with_hand(course, _right_signs(course, best)))
    course.snapshot("final", state.volumes)
    return Result(state.volumes, found, evidences, list(range(settings.classes)))


def _sorted_apart(course: Course, state: State, evidences: list[float]) -> Result:
    """Passes over all particles, the classes that explain them best, each particle under volumes that it is no part of, one hand for all."""
    engine, count, finest = course.engine, course.engine.settings.classes, course.engine.settings.max_resolution
    batches = [Batch(finest, -(-len(engine) // FEWEST_FOLDS), 1.0, 0.0, FEWEST_FOLDS, heat) for heat in heats(len(engine))]
    state = course.series("all particles", state.copy, [batch for batch in batches for _ in range(FEWEST_FOLDS)])
    course.snapshot("final", state.volumes)
    members = list(range(count))
    if len(state.volumes) > count:
        members = needed(class_logs(engine.assign_apart(state, finest)[1]), count)
    state, found = engine.assign_apart(chosen_classes(state, members), finest)
    return Result(*of_one_hand(state.volumes, found, engine.geometry.radius(finest)), evidences, members)


def of_one_hand(volumes: list[Tensor], found: Found, radius: float) -> tuple[list[Tensor], Found]:
    """Volumes in the hand in which they resemble the largest class best, and poses of their particles to match."""
    largest = int(torch.bincount(found.classes, minlength=len(volumes)).argmax())
    other = other_hands(volumes, largest, radius)
    turned = other.to(found.classes.device)[found.classes][:, None, None]
    rotations = torch.where(turned, inverted_rotations(found.rotations), found.rotations)
    chosen = [inverted(volume) if turn else volume for volume, turn in zip(volumes, other.tolist(), strict=True)]
    return chosen, found._replace(rotations=rotations)


def heats(particles: int) -> list[float]:
    """Of each pass over all particles, so many of them, with several classes; many ones have long settled in batches."""
    passes = min(PASSES_APART, max(1, SEEN_APART // particles))
    return [HOTTEST ** (later / max(passes - 1, 1)) for later in reversed(range(passes))]


def class_logs(found: Found) -> Tensor:
    """Log-likelihoods `(b, k)` of particles under each class, from the joint one and the shares."""
    return found.log_likelihood[:, None] + (found.class_posterior.clamp(min=1e-30) * found.class_posterior.shape[1]).log()


def chosen_classes(state: State, members: list[int]) -> State:
    """A state of some of the classes."""
    recent = [(fold, [sums[number] for number in members]) for fold, sums in state.recent]
    return State([state.volumes[number] for number in members], state.noise, [None] * len(members), True, recent)


def joint_evidence(logs: Tensor) -> float:
    """Mean log-likelihood of particles under equally frequent classes, from that under each `(b, k)`."""
    return float(logs.logsumexp(1).mean()) - math.log(logs.shape[1])


def needed(logs: Tensor, count: int) -> list[int]:
    """The so many classes that together explain the particles best, from log-likelihoods `(b, k)`."""
    sets = combinations(range(logs.shape[1]), count)
    return list(max(sets, key=lambda members: joint_evidence(logs[:, list(members)])))


def promising(logs: list[Tensor], count: int) -> list[list[int]]:
    """Sets of classes to go on with, best first: of all starts' classes, numbered through, the best set, then the best starts' own.

    logs: for each start, log-likelihoods `(b, k)` of the same particles. One start may find what another one misses, so classes are
    exchanged between starts as long as that explains the particles better.
    """
    pool, classes = torch.cat(logs, dim=1), logs[0].shape[1]
    own = [list(range(classes * start, classes * (start + 1))) for start in range(len(logs))]
    own.sort(key=lambda members: joint_evidence(pool[:, members]), reverse=True)
    best = max((_exchanged(pool, members) for members in own), key=lambda members: joint_evidence(pool[:, members]))
    return ([best] + [members for members in own if set(members) != set(best)])[:count]


def _exchanged(pool: Tensor, members: list[int]) -> list[int]:
    """Classes of a pool `(b, m)`, one replaced at a time, as long as the joint evidence grows."""
    while True:
        others = [number for number in range(pool.shape[1]) if number not in members]
        changed = [[*members[:place], number, *members[place + 1 :]] for place in range(len(members)) for number in others]
        best = max([members, *changed], key=lambda candidate: joint_evidence(pool[:, candidate]))
        if best == members:
            return members
        members = best


def gathered(starts: list[State], chosen: list[int]) -> State:
    """A state of classes of several starts, numbered through."""
    places = [divmod(number, len(starts[0].volumes)) for number in chosen]
    noise = torch.stack([starts[start].noise for start, _ in places]).mean(0)
    return State([starts[s].volumes[k] for s, k in places], noise, [starts[s].sums[k] for s, k in places], fitted=True)


def _right_signs(course: Course, state: State) -> State:
    """The state or one of its opposites, refined, whichever explains the particles best at the finest resolution.

    Where a radial shell dominates, the likelihood is even in every angular degree to second order (poses average the first order
    out), so a search from low resolution finds each degree with either sign by chance; finer detail, of third order, decides.
    """
    engine, rows, resolution = course.engine, course.rows, course.engine.settings.max_resolution
    best, evidence = state, course.evidence("signs as found", partial(engine.fine_evidence, state, rows, resolution))
    shares = [max(0.4, 1 / (number + 1)) for number in range(OPPOSITE_ITERATIONS)]
    batches = [Batch(resolution, engine.settings.final_minibatch, share, 0.0) for share in shares]
    for name, volume in opposites(state.volumes[0]):
        other = course.series(f"opposite {name}", partial(engine.restart, volume, state.noise), batches)
        found = course.evidence(f"opposite {name}, measured", partial(engine.fine_evidence, other, rows, resolution))
        best, evidence = (other, found) if found > evidence else (best, evidence)
    course.snapshot("signs", best.volumes)
    return best


def with_hand(course: Course, state: State) -> State:
    """The state, or where it has no hand, another from low resolution on with a random one, if that explains the particles better.

    Shells look like their mirror image at low resolution. Under such a volume the poses of each particle and their mirror images are
    equally likely, so that what is made of them has no hand either, however fine the detail that is compared.
    """
    engine, rows, resolution = course.engine, course.rows, course.engine.settings.max_resolution
    if not without_hand(state.volumes[0], engine.geometry.radius(resolution)):
        return state
    large = Batch(resolution, JUDGED_PARTICLES, 1.0, 0.0)
    before = course.series("without hand", state.copy, [large])
    found = course.series("hand", partial(engine.with_hand, state), [*hand_schedule(engine.settings), large])
    course.snapshot("hand", found.volumes)
    evidences = [
        course.evidence(f"{name}, measured", partial(engine.fine_evidence, each, rows, resolution))
        for name, each in (("without hand", before), ("hand", found))
    ]
    return found if evidences[1] > evidences[0] else before


def hand_schedule(settings: Settings) -> list[Batch]:
    """A few iterations at a resolution where hands differ, then the finest."""
    steps = [HAND_COARSER * settings.max_resolution] * HAND_ITERATIONS[0] + [settings.max_resolution] * HAND_ITERATIONS[1]
    return [Batch(step, settings.final_minibatch, max(0.2, 1 / (number + 1)), 0.0) for number, step in enumerate(steps)]


def middle_resolution(settings: Settings) -> float:
    """Å at which starts end and are compared."""
    return max(0.7 * settings.initial_resolution, settings.max_resolution)


def starting_schedule(settings: Settings) -> list[Batch]:
    """Initial resolution for half of the iterations, then finer to the middle one, linearly in frequency, and classes less alike.

    The last batches are large, so that starts are compared by what they found, not by the noise of a few images.
    """
    count = settings.initial_iterations
    batches = []
    for number in range(count):
        later = max(2 * number / count - 1, 0.0)
        resolution = _between(settings.initial_resolution, middle_resolution(settings), later)
        small = settings.apart or number < count - count // LARGE_BATCHES
        particles = settings.initial_minibatch if small else settings.final_minibatch
        share = max(0.4, 1 / math.sqrt(number + 1))
        batches.append(Batch(resolution, particles, share, settings.class_similarity * (1 - later)))
    return batches


def final_schedule(settings: Settings) -> list[Batch]:
    """Resolution grows over two thirds of the iterations, batches over all; several classes settle first, in as many iterations."""
    if settings.apart:
        return _settling_schedule(settings)
    count = settings.final_iterations
    batches = []
    for number in range(count):
        progress = number / max(count - 1, 1)
        resolution = _between(middle_resolution(settings), settings.max_resolution, 1.5 * progress)
        particles = round(settings.initial_minibatch + progress * (settings.final_minibatch - settings.initial_minibatch))
        batches.append(Batch(resolution, particles, 0.4, 0.0))
    return batches


def _settling_schedule(settings: Settings) -> list[Batch]:
    """Half of the iterations at the middle resolution, then growing resolution; all folds are of one size, so that they stay the same."""
    count, middle = settings.final_iterations, middle_resolution(settings)
    growing = [_between(middle, settings.max_resolution, 1.5 * number / max(count - 1, 1)) for number in range(count)]
    return [Batch(resolution, settings.final_minibatch, 1.0, 0.0, FEWEST_FOLDS) for resolution in [middle] * count + growing]


def _between(first: float, last: float, progress: float) -> float:
    share = min(max(progress, 0.0), 1.0)
    return 1 / ((1 - share) / first + share / last)
