"""Expectation and accumulation for one batch of particles against rotated 2D references.

The log-likelihood of particle y (CTF c, noise variance s² per component, shifted by t) against a turned reference p is
`2 Re<c y / s² shifted by -t, p> - |c p|² / s²` summed over one point of each Friedel pair.
All shifts of a particle are the rows and all turned references the columns of one matrix product; the norm is a second,
smaller product with c². A fine search then visits only the (class, angle) pairs that the first pass left alive.
Source: Sigworth, J. Struct. Biol. 122, 328 (1998); Scheres et al., J. Mol. Biol. 348, 139 (2005).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import shift_phases

ELEMENTS_AT_ONCE = 2**23
LOWEST = -1e30
COVERED = 0.98
"""Share of the coarse posterior that the fine search visits, up to the allowed number of candidates."""


class Batch(NamedTuple):
    """Noise-weighted particles at the points of the current disc."""

    weighted: Complex[Tensor, "b f"]
    """c y / sigma²: the spectrum times the CTF over the noise variance."""
    squared: Float[Tensor, "b f"]
    """c² / sigma²."""
    half: Int[Tensor, " b"]
    """Half-set, 0 or 1."""


class Grid(NamedTuple):
    """Where to look: a coarse grid of angles and shifts, and a local one around each coarse pose."""

    angles: Float[Tensor, " r"]
    """Whole turn in an even number of steps: the second half lies half a turn beyond the first."""
    shifts: Float[Tensor, "s 2"]
    shift_prior: Float[Tensor, " s"]
    divisions: int
    """Fine angles per coarse angle, odd; 1 means no fine search."""
    local_shifts: Float[Tensor, "l 2"]

    @property
    def fine_angles(self) -> Float[Tensor, " q"]:
        """All angles of the fine bank: `divisions` about each coarse angle, in order."""
        step = 360.0 / len(self.angles) / self.divisions
        offsets = (torch.arange(self.divisions, device=self.angles.device) - self.divisions // 2) * step
        return (self.angles[:, None] + offsets).reshape(-1)


class Match(NamedTuple):
    """What the search says of each particle."""

    class_probability: Float[Tensor, "b k"]
    angle: Float[Tensor, " b"]
    """psi in degrees of the best pose in the best class."""
    shift: Float[Tensor, "b 2"]
    """yx shift in pixels of the particle from the centre, in the best pose."""
    gain: Float[Tensor, " b"]
    """Log-likelihood of the best pose above that of an empty reference, in nats."""
    explained: Float[Tensor, " b"]
    """Probability that any average explains the particle; as much of it counts in the sums."""


@dataclass
class Sums:
    """Accumulated numerators per class, half and angle, and c² per shell."""

    numerator: Complex[Tensor, "k 2 q f"]
    denominator: Float[Tensor, "k 2 s"]
    count: Float[Tensor, " k"]


class Search(NamedTuple):
    """References and grid of one iteration, ready for any number of batches."""

    grid: Grid
    points: Float[Tensor, "f 2"]
    """yx frequencies in cycles per particle pixel."""
    shells: Int[Tensor, " f"]
    coarse: Complex[Tensor, "k h e"]
    """References turned by the first half of the coarse angles, at the first e points, e <= f."""
    fine: Complex[Tensor, "k q f"]
    temper: float
    """Scores are multiplied by this before they become probabilities; below 1 while annealing."""
    candidates: int
    """Largest number of (class, angle) pairs per particle that the fine search visits."""
    force_max: bool = False
    """In each class only the best pose counts, so that a round, blurred class gains nothing from fitting at every angle."""
    crossed: Complex[Tensor, "2 k h e"] | None = None
    """As coarse, of the half-set's averages that particles of half 0 and 1 have no part in; None: all particles count as explained."""
    unexplained: float = 0.0
    """Share of particles that no average explains, before this one is looked at."""

    @property
    def turned(self) -> tuple[int, int]:
        """Numbers of classes and of coarse angles."""
        return len(self.coarse), len(self.grid.angles)


def search_batch(search: Search, batch: Batch, sums_: Sums | None) -> Match:
    """Match every particle of a batch and, when sums_ is given, add its weighted discs to the sums.

    Works in chunks, one half-set at a time, so that memory stays bounded.
    """
    count = len(batch.half)
    classes, angles = search.turned
    size = max(1, ELEMENTS_AT_ONCE // (classes * angles * len(search.grid.shifts)))
    matches, order = [], []
    for half in (0, 1):
        rows = (batch.half == half).nonzero().squeeze(-1)
        for chunk in rows.split(size) if len(rows) else ():
            part = Batch(batch.weighted[chunk], batch.squared[chunk], batch.half[chunk])
            matches.append(_search_chunk(search, part, sums_, half))
            order.append(chunk)
    back = torch.argsort(torch.cat(order)) if count else torch.empty(0, dtype=torch.long)
    return Match(*(torch.cat(column)[back] for column in zip(*matches, strict=True)))


def _search_chunk(search: Search, batch: Batch, sums_: Sums | None, half: int) -> Match:
    rows = _shifted(search, batch.weighted[:, : search.coarse.shape[-1]])
    scores = coarse_scores(search, rows, batch.squared)
    share = explained(search, rows, batch.squared, half)
    if search.grid.divisions == 1:
        match, weights = _dense_match(search, scores, share)
        if sums_ is not None:
            _add_dense(sums_, weights * share[:, None, None], rows, half)
    else:
        match, found = _fine_match(search, batch, scores, share)
        if sums_ is not None:
            _add_fine(sums_, search, batch, found._replace(weights=found.weights * share[found.particle, None, None]), half)
    if sums_ is not None:
        counted = match.class_probability * share[:, None]
        shells = batch.squared.new_zeros(len(batch.half), sums_.denominator.shape[-1]).index_add_(1, search.shells, batch.squared)
        sums_.denominator[:, half] += counted.T @ shells
        sums_.count += counted.sum(0)
    return match


def residual_power(search: Search, spectra: Complex[Tensor, "b f"], ctf: Float[Tensor, "b f"], match: Match) -> Float[Tensor, "b f"]:
    """Squares of what the best pose in the best class leaves of noise-weighted particles: all of one that no average explains."""
    divisions, angles = search.grid.divisions, search.fine.shape[1]
    turn = (match.angle * (angles / 360)).round().long() + divisions // 2
    references = search.fine[match.class_probability.argmax(-1), turn % angles] * (match.explained >= 0.5)[:, None]
    centred = spectra * shift_phases(search.points, -match.shift)
    return (centred - ctf * references).abs().square()


def explained(search: Search, rows: Complex[Tensor, "b s e"], squared: Float[Tensor, "b f"], half: int) -> Float[Tensor, " b"]:
    """Probability that a particle is a pose of some average, and not noise alone.

    The likelihoods of all poses, over that of noise, are averaged over their prior: the best of many poses of nothing looks like something,
    their mean does not. The averages are those that the particle has no part in, for it always fits one that holds its own noise.
    """
    if search.crossed is None:
        return squared.new_ones(len(squared))
    scores = coarse_scores(search._replace(coarse=search.crossed[half]), rows, squared).flatten(1)
    poses = torch.logsumexp(search.grid.shift_prior, 0) + math.log(math.prod(search.turned))
    return torch.sigmoid(torch.logsumexp(scores, -1) - poses + math.log((1 - search.unexplained) / search.unexplained))


def coarse_scores(search: Search, rows: Complex[Tensor, "b s e"], squared: Float[Tensor, "b f"]) -> Float[Tensor, "b s kr"]:
    """Log-likelihoods over the coarse grid: two products for the cross terms, one for the norms.

    Half a turn makes a real image's spectrum its complex conjugate, so that its cross terms are the difference of the products of
    real and of imaginary parts whose sum are those without it.
    """
    classes, half_turn, points = search.coarse.shape
    bank = search.coarse.reshape(-1, points)
    norms = squared[:, :points] @ bank.abs().square().T
    even = (rows.real.contiguous() @ (2 * bank.real).T).sub_(norms[:, None]).add_(search.grid.shift_prior[:, None])
    odd = rows.imag.contiguous() @ (2 * bank.imag).T
    even, odd = (part.unflatten(-1, (classes, half_turn)) for part in (even, odd))
    scores = even.new_empty(*even.shape[:3], 2, half_turn)
    torch.add(even, odd, out=scores[..., 0, :])
    torch.sub(even, odd, out=scores[..., 1, :])
    return scores.flatten(2)


def _shifted(search: Search, weighted: Complex[Tensor, "b e"]) -> Complex[Tensor, "b s e"]:
    phases = shift_phases(search.points[: weighted.shape[-1]], -search.grid.shifts)
    return weighted[:, None] * phases


def _dense_match(search: Search, scores: Float[Tensor, "b s kr"], share: Float[Tensor, " b"]) -> tuple[Match, Float[Tensor, "b s kr"]]:
    count, shifts, _ = scores.shape
    classes, angles = search.turned
    split = scores.reshape(count, shifts, classes, angles)
    weights = _dense_posterior(search, split)
    probability = weights.sum(dim=(1, 3))
    own = split[torch.arange(count, device=scores.device), :, probability.argmax(-1)]
    gain, best = own.flatten(1).max(-1)
    match = Match(probability, search.grid.angles[best % angles], search.grid.shifts[best // angles], gain, share)
    return match, weights.reshape(scores.shape)


def _dense_posterior(search: Search, split: Float[Tensor, "b s k r"]) -> Float[Tensor, "b s k r"]:
    if not search.force_max:
        return torch.softmax(split.flatten(1) * search.temper, dim=-1).reshape(split.shape)
    by_class = split.transpose(1, 2).flatten(2)
    best, pose = by_class.max(dim=-1)
    weights = torch.zeros_like(by_class).scatter_(-1, pose[..., None], torch.softmax(best * search.temper, dim=-1)[..., None])
    return weights.reshape(split.transpose(1, 2).shape).transpose(1, 2)


def _add_dense(sums_: Sums, weights: Float[Tensor, "b s kr"], rows: Complex[Tensor, "b s e"], half: int) -> None:
    data = torch.view_as_real(rows).flatten(-2).flatten(0, 1)
    total = weights.flatten(0, 1).T @ data
    target = sums_.numerator[:, half]
    target += torch.view_as_complex(total.reshape(*target.shape, 2))


class _Found(NamedTuple):
    """Significant (particle, class, coarse angle) triples with the posterior of their local poses."""

    particle: Int[Tensor, " t"]
    row: Int[Tensor, " t"]
    """Class times coarse angles, plus coarse angle."""
    centred: Complex[Tensor, "t f"]
    """The weighted particle, moved back by the coarse shift."""
    weights: Float[Tensor, "t d l"]


def _fine_match(search: Search, batch: Batch, scores: Float[Tensor, "b s kr"], share: Float[Tensor, " b"]) -> tuple[Match, _Found]:
    count = len(scores)
    particle, slot, row, coarse_shift = _candidates(search, scores)
    phases = shift_phases(search.points, -search.grid.shifts)
    centred = batch.weighted[particle] * phases[coarse_shift]
    local = _local_scores(search, centred, batch.squared[particle], row) + search.grid.shift_prior[coarse_shift][:, None, None]
    table = local.new_full((count, search.candidates, *local.shape[1:]), LOWEST)
    table[particle, slot] = local
    posterior = _fine_posterior(search, table, particle, slot, row)
    weights = posterior[particle, slot]
    match = _best_local(search, table, posterior, (particle, slot, row, coarse_shift), share)
    return match, _Found(particle, row, centred, weights)


def _fine_posterior(search: Search, table: Float[Tensor, "b c d l"], particle: Tensor, slot: Tensor, row: Tensor) -> Tensor:
    """Probabilities of the candidates' local poses; row is the candidate's class times coarse angles, plus coarse angle."""
    if not search.force_max:
        return torch.softmax(table.flatten(1) * search.temper, dim=-1).reshape(table.shape)
    classes, angles = search.turned
    number = torch.full(table.shape[:2], classes, device=table.device)
    number[particle, slot] = row // angles
    peak, pose = table.flatten(2).max(dim=-1)
    best = table.new_full((len(table), classes + 1), LOWEST).scatter_reduce_(1, number, peak, "amax")
    probability = torch.softmax(best * search.temper, dim=-1).gather(1, number)
    winners = probability * _first_of_class(peak == best.gather(1, number), number, classes)
    return torch.zeros_like(table.flatten(2)).scatter_(-1, pose[..., None], winners[..., None]).reshape(table.shape)


def _first_of_class(winning: Bool[Tensor, "b c"], number: Int[Tensor, "b c"], classes: int) -> Bool[Tensor, "b c"]:
    """The first winning slot of each class, so that equal poses do not count twice; slots of class `classes` are empty."""
    slots = torch.arange(winning.shape[1], device=winning.device).expand(winning.shape)
    place = torch.where(winning, slots, winning.shape[1])
    first = torch.full((len(winning), classes + 1), winning.shape[1], device=winning.device).scatter_reduce_(1, number, place, "amin")
    return winning & (slots == first.gather(1, number)) & (number < classes)


def _candidates(search: Search, scores: Float[Tensor, "b s kr"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    best, shift = scores.max(dim=1)
    tempered = scores if search.temper == 1 else scores * search.temper
    marginal = torch.softmax(torch.logsumexp(tempered, dim=1), dim=-1)
    top, row = marginal.topk(min(search.candidates, best.shape[-1]), dim=-1)
    alive = (top.cumsum(dim=-1) - top < COVERED) & (top > 1e-5 * top[:, :1])
    particle, slot = alive.nonzero(as_tuple=True)
    row = row[particle, slot]
    return particle, slot, row, shift[particle, row]


def _local_scores(search: Search, centred: Complex[Tensor, "t f"], squared: Float[Tensor, "t f"], row: Int[Tensor, " t"]) -> Tensor:
    divisions, points = search.grid.divisions, search.points
    phases = shift_phases(points, -search.grid.local_shifts)
    wave = torch.view_as_real(phases.conj().resolve_conj()).flatten(-2).T.contiguous()
    bank = search.fine.reshape(-1, divisions, len(points))
    seen, place = row.unique(return_inverse=True)
    power = torch.view_as_real(bank[seen]).square().sum(-1)
    out = []
    for part in torch.arange(len(row), device=row.device).split(max(1, ELEMENTS_AT_ONCE // (8 * divisions * len(points)))):
        product = centred[part, None] * bank[row[part]].conj()
        cross = torch.view_as_real(product).flatten(-2) @ wave
        norm = power[place[part]] @ squared[part, :, None]
        out.append(2 * cross - norm)
    return torch.cat(out)


def _best_local(search: Search, table: Tensor, posterior: Tensor, triples: tuple[Tensor, Tensor, Tensor, Tensor], share: Tensor) -> Match:
    particle, slot, row, coarse_shift = triples
    classes, angles = search.turned
    count = len(table)
    own = table.new_zeros(count, classes).index_put_((particle, row // angles), posterior.sum((-2, -1))[particle, slot], accumulate=True)
    rows = torch.zeros(count, search.candidates, dtype=torch.long, device=row.device)
    shifts = torch.zeros_like(rows)
    rows[particle, slot], shifts[particle, slot] = row, coarse_shift
    inside = (rows // angles) == own.argmax(-1, keepdim=True)
    masked = torch.where(inside[..., None, None], table, LOWEST).flatten(1)
    gain, best = masked.max(-1)
    steps, local = search.grid.divisions, len(search.grid.local_shifts)
    each = torch.arange(count, device=row.device)
    pick = best // (steps * local)
    fine = (rows[each, pick] % angles) * steps + (best // local) % steps
    shift = search.grid.shifts[shifts[each, pick]] + search.grid.local_shifts[best % local]
    return Match(own, search.grid.fine_angles[fine].remainder(360), shift, gain, share)


def _add_fine(sums_: Sums, search: Search, batch: Batch, found: _Found, half: int) -> None:
    steps = search.grid.divisions
    phases = shift_phases(search.points, -search.grid.local_shifts)
    wave = torch.view_as_real(phases).flatten(-2)
    significant = found.weights.sum(-1) > 1e-3
    triple, step = significant.nonzero(as_tuple=True)
    target = sums_.numerator[:, half]
    flat = torch.view_as_real(sums_.numerator).reshape(-1, 2 * target.shape[-1])
    angle = (found.row[triple] % len(search.grid.angles)) * steps + step
    row = ((found.row[triple] // len(search.grid.angles)) * 2 + half) * target.shape[1] + angle
    for part in torch.arange(len(triple), device=row.device).split(max(1, ELEMENTS_AT_ONCE // (4 * target.shape[-1]))):
        blend = torch.view_as_complex((found.weights[triple[part], step[part]] @ wave).unflatten(-1, (-1, 2)))
        values = torch.view_as_real(found.centred[triple[part]] * blend).flatten(-2)
        flat.index_add_(0, row[part], values)
