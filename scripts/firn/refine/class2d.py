"""2D classification: online expectation-maximisation over class, in-plane angle and shift, then full passes.

It begins with what of particles does not change when they are turned (class2d_start), and goes on to the full passes once nothing improves
(class2d_course). Early scores may be tempered; each average is compared up to a reach that grows where its half-sets agree beyond it, and never
faster than a schedule. Class priors stay flat, so that a big class does not attract particles by its size. Noise is a radial spectrum,
re-estimated from the residuals inside the particle mask.
Units: images whose background has unit variance; `radius` is in Fourier pixels of the particle box.
Source: Scheres et al., J. Mol. Biol. 348, 139 (2005); online EM: Cappe & Moulines, J. R. Stat. Soc. B 71, 593 (2009);
Punjani et al., Nat. Methods 14, 290 (2017).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.grid import shell_sums
from firn.kernels.rotate2d import prefix_length, read_rotated
from firn.kernels.sampling import shift_grid
from firn.refine.class2d_average import (
    UNRESOLVED,
    ClassSums,
    average,
    half_correlation,
    half_references,
    recentred,
    reseeded,
    resolved_shell,
    with_unresolved,
)
from firn.refine.class2d_course import farthest, has_settled, is_settling
from firn.refine.class2d_search import Batch, Grid, Search, residual_power, search_batch
from firn.refine.class2d_start import initial_state
from firn.refine.class2d_state import MARGIN, Assignment, Change, Particles, Plan, State, Step, packed, unpacked
from firn.refine.class2d_sums import PARTICLES_AT_ONCE, as_images, empty_sums, mask_share, points_per_shell

DENSE_RADIUS = 16
"""Largest Fourier radius of the exhaustive search; what lies beyond is compared in the fine search only."""
FINE_ELEMENTS = 40_000
"""Candidates of the fine search times points of the disc: fewer candidates as the disc grows and posteriors sharpen."""
BEYOND_REACH = 1 / 7
"""Half-sets that agree less than this beyond an average's reach speak against that reach."""
Keep = Callable[[dict[str, Any]], None]
Over = Callable[[range, str], Iterable[int]]
"""Counts through steps, telling somebody how far it has come with what they are called."""


def classify(
    particles: Particles,
    plan: Plan,
    generator: torch.Generator,
    over: Over = lambda steps, _: steps,
    start: State | None = None,
    keep: Keep | None = None,
    former: dict[str, Any] | None = None,
) -> tuple[State, Assignment]:
    """Run online iterations until they have settled, `iterations` at most, then the full passes; steps of these are counted from `iterations`.

    start: go on from there, else from classes by angular orders. keep gets, after each iteration, all that the next ones depend on
    (`done`: number of the step that would follow); former: what a run cut short gave to keep last. Returns the final state, whose averages are
    those of the assignment. Draws from the generator only.
    """
    count, device = len(particles.half), plan.disc.points.device
    if former is None:
        state, assignment = start or initial_state(particles, plan, generator), Assignment.empty(count, device)
        queue = torch.empty(0, dtype=torch.long)
    else:
        state, assignment, queue = unpacked(former, device)
        generator.set_state(former["chance"])
    done = 0 if former is None else former["done"]

    def settled() -> bool:
        return has_settled(plan, count, state.steps)

    for step in _steps(plan, done, over, settled):
        final = step >= plan.iterations
        size = count if final else min(plan.batch_size, count)
        if len(queue) < size:
            queue = torch.cat((queue, torch.randperm(count, generator=generator)))
        rows, queue = queue[:size].sort().values, queue[size:]
        state = iterate(particles, plan, state, rows.to(device), assignment, step, generator)
        if keep is not None:
            keep(packed(state, assignment) | {"queue": queue, "chance": generator.get_state(), "done": step + 1})
    radius = plan.gathered(state.reach)
    averages = average(state.sums, plan.mask(), radius, plan.use_frc)
    return replace(state, averages=with_unresolved(averages, state.sums, plan.mask(), radius)), assignment


def _steps(plan: Plan, done: int, over: Over, settled: Callable[[], bool]) -> Iterator[int]:
    """Steps from `done` on: online ones until all has settled, whose progress ends there, then the full passes."""
    yield from takewhile(lambda _: not settled(), over(range(done, plan.iterations), "iterations, fewer once settled"))
    yield from over(range(max(done, plan.iterations), plan.iterations + plan.final_iterations), "passes over all particles")


def iterate(
    particles: Particles, plan: Plan, state: State, rows: Int[Tensor, " b"], assignment: Assignment, step: int, generator: torch.Generator
) -> State:
    """One expectation-maximisation step over the particles `rows`; writes their matches into the assignment."""
    temper = 1 / uncertainty_at(plan, step) ** 2
    final = step >= plan.iterations
    settling = final or is_settling(plan, len(particles.half), state.steps)
    search = build_search(plan, state, temper, final, doubt=plan.unexplained and settling)
    sums, noise, change = _expectation(particles, plan, state, search, rows, assignment)
    full = len(rows) == len(particles.half)
    rate = 1.0 if full or step == 0 else max(len(rows) / len(particles.half), (step + 1) ** -0.7)
    total, reach = state.sums.blended(sums, rate), state.reach
    if not settling and step < 0.75 * plan.iterations:
        total, source = reseeded(total, max(3.0, 0.05 * float(total.count.sum()) / plan.classes), generator)
        reach = reach[source]
    if plan.recentre and step < plan.iterations:
        images = average(total, plan.mask(), reach, plan.use_frc).images
        total = recentred(total, images, plan.recentre_threshold, reach_px=0.1 * plan.side)
    frc = half_correlation(total, plan.mask())
    reach = next_reach(plan, frc, reach, step + 1)
    averages = average(total, plan.mask(), reach, plan.use_frc, frc)
    resolved = resolved_shell(averages.frc[:, : plan.gathered(state.reach) + 1])
    unexplained = state.unexplained if search.crossed is None else min(max(1 - float(sums.count.sum()) / len(rows), 0.01), 0.9)

    def mean(values: Tensor) -> float:
        return float((values * total.count).sum() / total.count.sum())

    record = Step(
        int(state.reach.max()),
        mean(resolved),
        change.moved / len(rows),
        float(assignment.effective_classes[rows].mean()),
        temper,
        change.gained / max(float(assignment.gain[rows].sum()), 1e-6),
        mean(state.reach),
        unexplained,
        settling,
    )
    return State(total, noise, averages, reach, unexplained, [*state.steps, record])


def next_reach(plan: Plan, frc: Float[Tensor, "k s"], reach: Int[Tensor, " k"], step: int) -> Int[Tensor, " k"]:
    """Reach of each average in the next iteration: farther, within the schedule, where its half-sets agree beyond it, less far where they do not.

    What is compared is aligned, noise and all, and half-sets that share a reference then agree in noise; not so beyond its reach.
    """
    beyond = frc.gather(1, (reach + MARGIN - 2).clamp(max=frc.shape[1] - 1)[:, None])[:, 0]
    farther = torch.minimum(reach + torch.clamp(reach // 8, min=2), reach.clamp(min=farthest(plan, step)))
    nearer = reach - (beyond < BEYOND_REACH).long()
    return torch.where(beyond >= UNRESOLVED, farther, nearer).clamp(int(plan.first_radius), plan.finest)


def uncertainty_at(plan: Plan, step: int) -> float:
    """Factor on the noise's standard deviation: falls from `uncertainty` to 1 over the annealing iterations."""
    progress = min(max((step - plan.anneal_start) / max(plan.anneal_length, 1), 0.0), 1.0)
    return 1.0 if step >= plan.iterations else plan.uncertainty ** (1 - progress)


def build_search(plan: Plan, state: State, temper: float, final: bool = False, doubt: bool = False) -> Search:
    """References turned over the grid of the current radius; a final pass always has a fine search.

    doubt: particles count as far as the averages of the other half-set explain them.
    """
    radius = plan.gathered(state.reach)
    dense = min(radius, DENSE_RADIUS)
    grid = build_grid(plan, dense, radius, fine=final or radius > dense)
    points = plan.disc.points[: prefix_length(plan.disc, radius)]
    shells = plan.disc.shells[: len(points)]
    visible = points.norm(dim=-1) >= plan.least_radius
    bank = read_rotated(state.averages.images, grid.fine_angles, points, plan.pad) * visible
    half_turn = bank[:, : bank.shape[1] // 2]
    coarse = half_turn[:, grid.divisions // 2 :: grid.divisions, : prefix_length(plan.disc, dense)].contiguous()
    candidates = min(max(FINE_ELEMENTS // len(points), 24), 256, len(coarse) * len(grid.angles))
    crossed = _crossed(plan, state, grid, points[: coarse.shape[-1]]) * visible[: coarse.shape[-1]] if doubt else None
    return Search(grid, points / plan.box_px, shells, coarse, bank, temper, candidates, plan.force_max, crossed, state.unexplained)


def _crossed(plan: Plan, state: State, grid: Grid, points: Float[Tensor, "e 2"]) -> Complex[Tensor, "2 k h e"]:
    """Averages of the second half-set turned by up to half a turn, for particles of the first, and of the first."""
    halves = half_references(state.sums, plan.mask(), state.reach, plan.use_frc).flip(1).transpose(0, 1)
    turned = read_rotated(halves.flatten(0, 1), grid.angles[: len(grid.angles) // 2], points, plan.pad)
    return turned.reshape(2, plan.classes, *turned.shape[1:])


def turned_points(plan: Plan) -> int:
    """Points of one reference turned over the finest grid: what every class holds in a final pass, once turned and twice added up."""
    grid = build_grid(plan, min(plan.last_radius, DENSE_RADIUS), plan.last_radius, fine=True)
    return len(grid.fine_angles) * len(plan.disc.points)


def build_grid(plan: Plan, dense: int, radius: int, fine: bool) -> Grid:
    """Steps at which the phase at the edge of the particle and of the dense disc is off by at most a quarter turn."""
    device = plan.disc.points.device
    divisions = 3 if fine else 1
    coarse_step = 360 * plan.box_px / (4 * math.pi * dense * plan.mask_radius_px)
    if plan.angular_step is not None:
        coarse_step = plan.angular_step * 3
    angles = torch.arange(2 * max(6, math.ceil(180 / coarse_step)), device=device)
    step = min(max(plan.box_px / (2 * dense), 0.5), max(plan.shift_reach_px, 0.5))
    shifts = shift_grid(plan.shift_reach_px, step).to(device)
    prior = -shifts.square().sum(-1) / (2 * max(plan.shift_reach_px / 2, 0.5) ** 2)
    reach = max(1, round(radius / dense)) if fine else 0
    axis = torch.arange(-reach, reach + 1, device=device) * (step / max(2 * reach, 1))
    return Grid(angles * (360 / len(angles)), shifts, prior, divisions, torch.cartesian_prod(axis, axis).reshape(-1, 2))


def _expectation(
    particles: Particles, plan: Plan, state: State, search: Search, rows: Int[Tensor, " b"], assignment: Assignment
) -> tuple[ClassSums, Float[Tensor, " s"], Change]:
    points = len(search.points)
    angles = search.grid.fine_angles
    sums = empty_sums(plan, len(angles), points)
    weight = state.noise[search.shells].rsqrt()
    residuals, changes = [], []
    for part in rows.split(PARTICLES_AT_ONCE):
        spectra, ctf = (values[:, :points] * weight for values in particles.take(part))
        match = search_batch(search, Batch(spectra * ctf, ctf.square(), particles.half[part]), sums)
        residuals.append(shell_sums(residual_power(search, spectra, ctf, match), search.shells, len(state.noise)))
        changes.append(assignment.store(part, match))
    noise = state.noise * _noise_ratio(plan, torch.cat(residuals))
    return as_images(plan, sums, angles, plan.disc.points[:points]), noise, Change(*(sum(parts) for parts in zip(*changes, strict=True)))


def _noise_ratio(plan: Plan, residuals: Float[Tensor, "b s"]) -> Float[Tensor, " s"]:
    """Noise over what it was taken for, by the median particle: dirt and ice, which no average fits, shall not count as noise of all.

    The median of a sum of m squares of complex noise is about m - 1/3 times their variance; the mask leaves a share of the m free.
    """
    expected = points_per_shell(plan) * mask_share(plan)
    ratio = residuals.median(dim=0).values / (expected - 1 / 3).clamp(min=1 / 3)
    return torch.where(residuals.amax(0) > 0, ratio.clamp(0.5, 2.0), 1.0)
