"""2D classification: online expectation-maximisation over class, in-plane angle and shift, then full passes.

Early references are averages of random subsets, early scores are tempered and of low resolution; the Fourier radius grows
with what the classes' FRC supports and never faster than a schedule. Class priors stay flat, so that a big class does not
attract particles by its size. Noise is a radial spectrum, re-estimated from the residuals inside the particle mask.
Units: images whose background has unit variance; `radius` is in Fourier pixels of the particle box.
Source: Scheres et al., J. Mol. Biol. 348, 139 (2005); online EM: Cappe & Moulines, J. R. Stat. Soc. B 71, 593 (2009);
Punjani et al., Nat. Methods 14, 290 (2017).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.grid import shell_sums
from firn.kernels.rotate2d import add_rotated, prefix_length, read_rotated
from firn.kernels.sampling import shift_grid
from firn.refine.class2d_average import (
    Averages,
    ClassSums,
    average,
    half_references,
    recentred,
    reseeded,
    resolved_shell,
    soft_circle,
    with_unresolved,
)
from firn.refine.class2d_search import Batch, Grid, Search, Sums, search_batch
from firn.refine.class2d_state import Assignment, Particles, Plan, State, Step, packed, unpacked

DENSE_RADIUS = 16
"""Largest Fourier radius of the exhaustive search; what lies beyond is compared in the fine search only."""
FINE_ELEMENTS = 40_000
"""Candidates of the fine search times points of the disc: fewer candidates as the disc grows and posteriors sharpen."""
PARTICLES_AT_ONCE = 256
TWIN = 0.5
SAMPLE = 2000
"""Particles from which the first noise spectrum is estimated."""
Keep = Callable[[dict[str, Any]], None]


def classify(
    particles: Particles,
    plan: Plan,
    generator: torch.Generator,
    steps: Iterable[int],
    start: State | None = None,
    keep: Keep | None = None,
    former: dict[str, Any] | None = None,
) -> tuple[State, Assignment]:
    """Run the iterations counted by `steps`, `0 ... iterations + final_iterations - 1`; the last ones are full passes.

    start: go on from there, else from averages of random subsets. keep gets, after each iteration, all that the next ones depend on
    (`done`: iterations done); former: what a run cut short gave to keep last, with the steps that are left. Returns the final state,
    whose averages are those of the assignment. Draws from the generator only.
    """
    count, device = len(particles.half), plan.disc.points.device
    if former is None:
        state, assignment = start or initial_state(particles, plan, generator), Assignment.empty(count, device)
        queue = torch.empty(0, dtype=torch.long)
    else:
        state, assignment, queue = unpacked(former, device)
        generator.set_state(former["chance"])
    for step in steps:
        final = step >= plan.iterations
        size = count if final else min(plan.batch_size, count)
        if len(queue) < size:
            queue = torch.cat((queue, torch.randperm(count, generator=generator)))
        rows, queue = queue[:size].sort().values, queue[size:]
        state = iterate(particles, plan, state, rows.to(device), assignment, step, generator)
        if keep is not None:
            keep(packed(state, assignment) | {"queue": queue, "chance": generator.get_state(), "done": step + 1})
    return replace(state, averages=with_unresolved(state.averages, state.sums, plan.mask(), state.radius)), assignment


def iterate(
    particles: Particles, plan: Plan, state: State, rows: Int[Tensor, " b"], assignment: Assignment, step: int, generator: torch.Generator
) -> State:
    """One expectation-maximisation step over the particles `rows`; writes their matches into the assignment."""
    temper = 1 / uncertainty_at(plan, step) ** 2
    final = step >= plan.iterations
    search = build_search(plan, state, temper, final, doubt=plan.unexplained and (final or step >= plan.anneal_start + plan.anneal_length))
    sums, noise, changed = _expectation(particles, plan, state, search, rows, assignment)
    full = len(rows) == len(particles.half)
    rate = 1.0 if full or step == 0 else max(len(rows) / len(particles.half), (step + 1) ** -0.7)
    total = state.sums.blended(sums, rate)
    if step < 0.75 * plan.iterations:
        total = reseeded(total, max(3.0, 0.05 * float(total.count.sum()) / plan.classes), generator)
    averages = average(total, plan.mask(), state.radius, plan.use_frc)
    if plan.recentre and step < plan.iterations:
        total = recentred(total, averages.images, plan.recentre_threshold, reach_px=0.1 * plan.side)
        averages = average(total, plan.mask(), state.radius, plan.use_frc)
    resolved = resolved_shell(averages.frc[:, : state.radius + 1])
    record = Step(
        state.radius,
        float((resolved * total.count).sum() / total.count.sum()),
        changed / len(rows),
        float(assignment.effective_classes[rows].mean()),
        temper,
    )
    unexplained = state.unexplained if search.crossed is None else min(max(1 - float(sums.count.sum()) / len(rows), 0.01), 0.9)
    radius = next_radius(plan, resolved, total.count, state.radius, step + 1)
    return State(total, noise, averages, radius, unexplained, [*state.steps, record])


def next_radius(plan: Plan, resolved: Int[Tensor, " k"], count: Float[Tensor, " k"], radius: int, step: int) -> int:
    """Radius of the next iteration: a little beyond the best resolved of the larger classes, within the schedule."""
    larger = count >= 0.5 * count.mean()
    supported = float(resolved[larger].max())
    progress = min(1.0, step / max(1.0, 0.6 * plan.iterations))
    allowed = plan.first_radius * (plan.last_radius / plan.first_radius) ** progress
    wanted = min(allowed, supported * 1.15 + 3)
    return int(min(plan.last_radius, max(wanted, 0.8 * radius, plan.first_radius)))


def uncertainty_at(plan: Plan, step: int) -> float:
    """Factor on the noise's standard deviation: falls from `uncertainty` to 1 over the annealing iterations."""
    progress = min(max((step - plan.anneal_start) / max(plan.anneal_length, 1), 0.0), 1.0)
    return 1.0 if step >= plan.iterations else plan.uncertainty ** (1 - progress)


def initial_state(particles: Particles, plan: Plan, generator: torch.Generator) -> State:
    """Unaligned averages of random subsets, and the noise as the particles' mean power, which includes their signal."""
    order = torch.randperm(len(particles.half), generator=generator)
    noise = _first_noise(particles, plan, order)
    sums = _random_sums(particles, plan, noise, order)
    radius = int(plan.first_radius)
    return State(sums, noise, average(sums, plan.mask(), radius, use_frc=False), radius)


def continued_state(particles: Particles, plan: Plan, generator: torch.Generator, images: Float[Tensor, "c n n"], radius: int) -> State:
    """Start from former averages `images`, largest class first, in the plan's side and the engine's grey values, and of sums of nothing.

    Classes beyond them are made by moving the largest apart in two, by chance: by a share TWIN of an image of the same power.
    """
    noise = _first_noise(particles, plan, torch.randperm(len(particles.half), generator=generator))
    former = images[: plan.classes].clone()
    for number in range(plan.classes - len(former)):
        source = former[number % len(images)]
        wanted = torch.randn(source.shape, generator=generator).to(source)
        step = TWIN * irfft2(rfft2(source).abs() * torch.exp(1j * rfft2(wanted).angle()), (plan.side, plan.side))
        former = torch.cat((former, (source - step)[None]))
        former[number % len(images)] = source + step
    sums = ClassSums(*(torch.zeros(size, device=former.device) for size in _sum_shapes(plan)))
    return State(sums, noise, Averages(former * plan.mask(), torch.zeros_like(sums.denominator[:, 0])), radius)


def _sum_shapes(plan: Plan) -> tuple[tuple[int, ...], ...]:
    return (plan.classes, 2, plan.side, plan.side), (plan.classes, 2, plan.side // 2 + 1), (plan.classes,)


def _first_noise(particles: Particles, plan: Plan, order: Int[Tensor, " n"]) -> Float[Tensor, " s"]:
    """Mean power per shell of the first SAMPLE particles of an order."""
    shells = plan.side // 2 + 1
    sample = order[:SAMPLE].to(plan.disc.points.device)
    power = torch.zeros(shells, device=sample.device)
    for rows in sample.split(PARTICLES_AT_ONCE):
        spectra, _ = particles.take(rows)
        power += shell_sums(spectra.abs().square(), plan.disc.shells, shells).sum(0)
    return (power / (_points_per_shell(plan) * len(sample) * _mask_share(plan))).clamp(min=1e-8)


def _random_sums(particles: Particles, plan: Plan, noise: Float[Tensor, " s"], order: Int[Tensor, " n"]) -> ClassSums:
    device = plan.disc.points.device
    each = max(2, min(len(order) // plan.classes, plan.batch_size // plan.classes))
    sums = _empty_sums(plan, 1, len(plan.disc.points))
    weight = noise[plan.disc.shells].rsqrt()
    for number in range(plan.classes):
        start = (number * each) % max(1, len(order) - each + 1)
        for rows in order[start : start + each].to(device).split(PARTICLES_AT_ONCE):
            spectra, ctf = particles.take(rows)
            half = particles.half[rows]
            sums.numerator[number, :, 0].index_add_(0, half, spectra * ctf * weight**2)
            sums.denominator[number].index_add_(0, half, shell_sums((ctf * weight).square(), plan.disc.shells, plan.side // 2 + 1))
            sums.count[number] += len(rows)
    return _as_images(plan, sums, torch.zeros(1, device=device), plan.disc.points, noise)


def build_search(plan: Plan, state: State, temper: float, final: bool = False, doubt: bool = False) -> Search:
    """References turned over the grid of the current radius; a final pass always has a fine search.

    doubt: particles count as far as the averages of the other half-set explain them.
    """
    radius = state.radius
    dense = min(radius, DENSE_RADIUS)
    grid = build_grid(plan, dense, radius, fine=final or radius > dense)
    points = plan.disc.points[: prefix_length(plan.disc, radius)]
    shells = plan.disc.shells[: len(points)]
    visible = points.norm(dim=-1) >= plan.least_radius
    bank = read_rotated(state.averages.images, grid.fine_angles, points, plan.pad) * visible
    middle = grid.divisions // 2
    coarse = bank[:, middle :: grid.divisions, : prefix_length(plan.disc, dense)].contiguous()
    candidates = min(max(FINE_ELEMENTS // len(points), 24), 256, coarse.shape[0] * coarse.shape[1])
    crossed = _crossed(plan, state, grid, points[: coarse.shape[-1]]) * visible[: coarse.shape[-1]] if doubt else None
    return Search(grid, points / plan.box_px, shells, coarse, bank, temper, candidates, plan.force_max, crossed, state.unexplained)


def _crossed(plan: Plan, state: State, grid: Grid, points: Float[Tensor, "e 2"]) -> Complex[Tensor, "2 k r e"]:
    """Turned averages of the second half-set, for particles of the first, and of the first."""
    halves = half_references(state.sums, plan.mask(), state.radius, plan.use_frc).flip(1).transpose(0, 1)
    turned = read_rotated(halves.flatten(0, 1), grid.angles, points, plan.pad)
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
    angles = torch.arange(max(12, math.ceil(360 / coarse_step)), device=device)
    step = min(max(plan.box_px / (2 * dense), 0.5), max(plan.shift_reach_px, 0.5))
    shifts = shift_grid(plan.shift_reach_px, step).to(device)
    prior = -shifts.square().sum(-1) / (2 * max(plan.shift_reach_px / 2, 0.5) ** 2)
    reach = max(1, round(radius / dense)) if fine else 0
    axis = torch.arange(-reach, reach + 1, device=device) * (step / max(2 * reach, 1))
    return Grid(angles * (360 / len(angles)), shifts, prior, divisions, torch.cartesian_prod(axis, axis).reshape(-1, 2))


def _expectation(
    particles: Particles, plan: Plan, state: State, search: Search, rows: Int[Tensor, " b"], assignment: Assignment
) -> tuple[ClassSums, Float[Tensor, " s"], float]:
    points = len(search.points)
    angles = search.grid.fine_angles
    sums = _empty_sums(plan, len(angles), points)
    weight = state.noise[search.shells].rsqrt()
    power, changed = torch.zeros_like(state.noise), 0.0
    for part in rows.split(PARTICLES_AT_ONCE):
        spectra, ctf = (values[:, :points] * weight for values in particles.take(part))
        power += shell_sums(spectra.abs().square(), search.shells, len(power)).sum(0)
        match = search_batch(search, Batch(spectra * ctf, ctf.square(), particles.half[part]), sums)
        changed += assignment.store(part, match)
    noise = state.noise * _residual(plan, search, sums, power, len(rows))
    return _as_images(plan, sums, angles, plan.disc.points[:points], state.noise), noise, changed


def _residual(plan: Plan, search: Search, sums: Sums, power: Float[Tensor, " s"], count: int) -> Float[Tensor, " s"]:
    cross = torch.zeros_like(power)
    for numerator, bank in zip(sums.numerator, search.fine, strict=True):
        cross += shell_sums((numerator.sum(0) * bank.conj()).real.sum(0), search.shells, len(power))
    model = shell_sums(search.fine[:, 0].abs().square(), search.shells, len(power)) / _points_per_shell(plan)
    explained = 2 * cross - (sums.denominator.sum(1) * model).sum(0)
    ratio = (power - explained) / (_points_per_shell(plan) * count * _mask_share(plan))
    return torch.where(power > 0, ratio.clamp(0.5, 2.0), 1.0)


def _as_images(plan: Plan, sums: Sums, angles: Tensor, points: Tensor, noise: Float[Tensor, " s"]) -> ClassSums:
    classes, halves, turned, size = sums.numerator.shape
    flat = sums.numerator.reshape(classes * halves, turned, size)
    images = add_rotated(flat, angles, points, plan.side, plan.pad) * (2 / plan.side**2)
    return ClassSums(images.reshape(classes, halves, plan.side, plan.side), sums.denominator / _points_per_shell(plan), sums.count)


def _empty_sums(plan: Plan, angles: int, points: int) -> Sums:
    device, shells = plan.disc.points.device, plan.side // 2 + 1
    return Sums(
        torch.zeros(plan.classes, 2, angles, points, dtype=torch.complex64, device=device),
        torch.zeros(plan.classes, 2, shells, device=device),
        torch.zeros(plan.classes, device=device),
    )


def _points_per_shell(plan: Plan) -> Float[Tensor, " s"]:
    return torch.bincount(plan.disc.shells, minlength=plan.side // 2 + 1).clamp(min=1).float()


def _mask_share(plan: Plan) -> float:
    return float(soft_circle(plan.box_px, plan.mask_radius_px, plan.mask_edge_px).square().mean())
