"""Expectation: the posterior of each particle's pose, from coarse to fine on nested grids of rotations and shifts.

The coarsest level scores all orientations of the asymmetric unit (or those around the previous pose) with all shifts as a
matrix product; each next level looks only into the cells that hold nearly all of the probability.
Source: adaptive expectation, Tagare et al., J. Struct. Biol. 171, 197 (2010); Scheres, J. Struct. Biol. 180, 519 (2012).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from firn.kernels.fourier import shift_phases
from firn.kernels.grid import FourierDisc, fourier_disc
from firn.kernels.half_precision import HalfLines, half_columns, half_rows, split_points
from firn.kernels.pose_grid import all_nodes, child_nodes, finer_nodes, nearby_nodes, node_rotations
from firn.kernels.project import prepare_volume, project_table
from firn.kernels.sampling import shift_grid
from firn.kernels.score import (
    fast_marginals,
    log_likelihoods,
    marginals_,
    marginals_are_fast,
    score_poses,
    score_scale_free,
    shifted_rows,
    weigh_projections,
)
from firn.kernels.spectrum import cropped_side, is_host, resize_spectrum3, slice_products, spectrum_table
from firn.refine.schedule import Level
from firn.refine.state import HalfModel, on_disc

KEPT_MASS = (0.999, 0.99, 0.97)
"""Probability kept at the coarsest level of a search everywhere, of a search nearby, and at the other levels.

A cell's centre may be far from the peak of the score, the farther the coarser the level.
"""
TEMPER = (0.5, 0.6, 0.75)
"""Factors on the log-likelihood at those levels, for the same reason."""
MAX_ORIENTATIONS = 96
MAX_SHIFTS = 8
HOST_BATCH, GPU_BATCH = (2**25, 64), (2**30, 512)
"""Bytes and particles of a batch at most: on a CPU it stays in the cache as far as it can, a GPU wants many at a time."""
SLICES_BYTES = 2**27
COMMON_ORIENTATIONS = 128
"""Candidates that few particles exceed, once many points are compared."""
TABLE_POINTS = 2**26
PROJECTED_POINTS, GPU_PROJECTED_POINTS = 2**16, 2**22


@dataclass(frozen=True)
class Candidates:
    """Orientations `(b, c)` (grid nodes) and shifts `(b, t, 2)` to try, with which of them are real and not padding."""

    nodes: Tensor
    node_ok: Tensor
    shifts: Tensor
    shift_ok: Tensor


@dataclass(frozen=True)
class Posterior:
    """Probabilities `(b, t, c)` of candidates at the finest level; effective number of coarse orientations `(b,)`; log evidence `(b,)`.

    slices: projections `(b, c, m)` of the candidates, unless the reference keeps its own.
    """

    candidates: Candidates
    probability: Tensor
    order: int
    spread: Tensor
    evidence: Tensor
    slices: Tensor | None = None


class KeptProjections:
    """A half-map's weighed projections `(g, 2 m)` at sorted grid nodes `(g,)` and their powers `(g, m)`, each made when first asked for."""

    def __init__(self, nodes: Tensor, points: int, project: Callable[[Tensor], tuple[Tensor, Tensor]]):
        self.nodes, self._project = nodes, project
        self._at_once = max(1, (PROJECTED_POINTS if is_host(nodes) else GPU_PROJECTED_POINTS) // points)
        self._columns_ = torch.empty(len(nodes), 2 * points, device=nodes.device)
        self._powers_ = torch.empty(len(nodes), points, device=nodes.device)
        self._made_ = torch.zeros(len(nodes), dtype=torch.bool, device=nodes.device)
        self._halves: tuple[HalfLines, Tensor] | None = None

    def everything(self) -> tuple[Tensor, Tensor]:
        """Projections and powers at all nodes."""
        self._make(torch.nonzero(~self._made_).squeeze(-1))
        return self._columns_, self._powers_

    def halves(self, noise: Tensor, weights: Tensor, scaled: bool) -> tuple[HalfLines, Tensor, Tensor]:
        """All projections in half precision, their split points (half_precision.split_points) and powers, made once."""
        if self._halves is None:
            columns, powers = self.everything()
            split = split_points(powers, noise, weights, scaled)
            self._halves = half_columns(columns, split), split
        return *self._halves, self._powers_

    def at(self, nodes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """As Reference.columns."""
        used, filled = _wanted_nodes(nodes, wanted)
        rows = torch.searchsorted(self.nodes, used)
        self._make(rows[~self._made_[rows]])
        where = torch.searchsorted(self.nodes, filled)
        return self._columns_[where], self._powers_[where]

    def _make(self, rows: Tensor) -> None:
        """Project a few at a time, so that all stays in a processor's cache, and on a GPU in little memory."""
        for part in rows.split(self._at_once):
            self._columns_[part], self._powers_[part] = self._project(self.nodes[part])
        self._made_[rows] = True


class Reference:
    """A half-map made ready for one level: its disc, cropped spectrum, and projections by grid node.

    nodes: all nodes of a search everywhere, sorted; where they are few enough, their projections are kept once made.
    """

    def __init__(self, spectrum: Tensor, level: Level, side: int, nodes: Tensor | None):
        self.level = level
        self.disc: FourierDisc = fourier_disc(side, level.radius, spectrum.device)
        self._table = spectrum_table(resize_spectrum3(spectrum, cropped_side(level.radius, 2, side)))
        self._project = partial(_projected, self._table, level.order, self.disc)
        points = len(self.disc.points)
        few = nodes is not None and len(nodes) * points <= TABLE_POINTS
        self.kept = KeptProjections(nodes, points, self._project) if nodes is not None and few else None

    @property
    def nodes(self) -> Tensor | None:
        """Nodes whose projections are kept."""
        return None if self.kept is None else self.kept.nodes

    def image_bytes(self, candidates: int) -> int:
        """Memory that scoring one image takes, given the most orientations that it may have to try."""
        points = len(self.disc.points)
        if self.kept is not None or not is_host(self._table):
            return 12 * candidates * points
        return 8 * (min(candidates, COMMON_ORIENTATIONS) + 4 * MAX_SHIFTS) * points

    def columns(self, nodes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Weighed projections `(b, c, 2 m)` and their powers `(b, c, m)` at grid nodes `(b, c)`, of which not all are wanted."""
        if self.kept is not None:
            return self.kept.at(nodes, wanted)
        used, filled = _wanted_nodes(nodes, wanted)
        columns, powers = self._project(used)
        where = torch.searchsorted(used, filled)
        return columns[where], powers[where]

    def products(self, candidates: Candidates, rows: Tensor, power: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cross terms `(b, t, c)` and norms `(b, 1, c)` of candidates (kernels/score); undefined for those that are padding.

        rows: images `(b, t, m)` moved by each shift; power: `(b, m)`. keep: give the projections `(b, c, m)` too, unless they are kept
        here or too many.
        """
        if self.kept is not None:
            columns, powers = self.kept.at(candidates.nodes, candidates.node_ok)
            return torch.view_as_real(rows).flatten(-2) @ columns.mT, (powers @ power[:, :, None]).mT, None
        frames, wanted = 2 * node_rotations(candidates.nodes, self.level.order), (candidates.node_ok, candidates.shift_ok)
        weights, fit = self.disc.weights, 8 * candidates.nodes.numel() * len(self.disc.points) <= SLICES_BYTES
        inputs = rows * weights, power * (weights / 2), wanted
        cross, norms, slices = slice_products(self._table, frames, self.disc.points, *inputs, keep=keep and fit)
        return cross, norms[:, None], slices


class Searcher:
    """Pose search against one half-map; built once per iteration. near: directions and in-plane angles around the former pose.

    fast: whether the search everywhere keeps no scores but their marginals, from a product in half precision (score.fast_marginals).
    """

    def __init__(
        self, model: HalfModel, levels: list[Level], group: str, shift_reach: float, everywhere: bool, near: tuple[int, int] = (9, 3)
    ):
        self.model, self.levels, self.side, self.everywhere, self.near = model, levels, model.volume.shape[0], everywhere, near
        spectrum = prepare_volume(model.volume)
        self.references: list[Reference] = []
        nodes = all_nodes(levels[0].order, group, spectrum.device) if everywhere else None
        for level in levels:
            self.references.append(Reference(spectrum, level, self.side, nodes))
            nodes = self.references[-1].nodes
            nodes = finer_nodes(nodes, level.order) if nodes is not None else None
        self.shifts = shift_grid(max(shift_reach, 1.5 * levels[0].shift_step), levels[0].shift_step).to(spectrum.device)
        self._score = score_poses if model.scaled else score_scale_free
        self.fast = marginals_are_fast(spectrum.device)

    def batch_size(self) -> int:
        """Particles at a time that keep memory bounded."""
        counts = [0 if self.everywhere else self.near[0] * self.near[1], *(8 * limit for limit in _limits(self.levels))]
        widest = max(reference.image_bytes(count) for count, reference in zip(counts, self.references, strict=True))
        room, most = HOST_BATCH if is_host(self.shifts) else GPU_BATCH
        return max(1, min(most, room // max(widest, self._dense_bytes())))

    def _dense_bytes(self) -> int:
        """Memory that an image takes in a search everywhere: scores and their copy, or shifted rows with their halves and marginals."""
        first, shifts = self.references[0], len(self.shifts)
        nodes = 0 if first.nodes is None else len(first.nodes)
        return 40 * shifts * len(first.disc.points) + (16 + shifts // 8) * nodes if self.fast else 8 * shifts * nodes

    def search(self, spectra: Tensor, ctf: list[Tensor], groups: Tensor, rotations: Tensor, prior: "Prior") -> Posterior:
        """Posterior of a batch: spectra `(b, n, n // 2 + 1)`, CTF of each level `(b, m_level)`, noise groups and former rotations."""
        data = [self._whitened(spectra, reference, values, groups) for reference, values in zip(self.references, ctf, strict=True)]
        candidates = self._first_candidates(len(spectra), rotations)
        fast = self.fast and self.references[0].kept is not None and len(self.levels) > 1
        scores, slices = (torch.zeros(0), None) if fast else self._coarse(data[0], candidates, prior)
        spread = torch.zeros(0)
        for depth, limit in enumerate(_limits(self.levels), start=1):
            if depth == 1 and fast:
                orientations, shifts = self._fast_marginals(data[0], candidates, prior)
            else:
                orientations, shifts, _ = marginals_(scores, self._caution(depth)[1])
            spread = 1 / (orientations**2).sum(-1) if depth == 1 else spread
            candidates = self._refined(candidates, orientations, shifts, depth, limit)
            scores, slices = self._sparse(data[depth], candidates, self.references[depth], prior)
        evidence = scores.logsumexp(dim=(1, 2)) if self.model.scaled else scores.amax(dim=(1, 2))
        return Posterior(candidates, self._probability(scores), self.levels[-1].order, spread, evidence, slices)

    def _caution(self, depth: int) -> tuple[float, float]:
        """(probability kept of the level before a depth, factor on its log-likelihood)."""
        which = 2 if depth > 1 else 0 if self.everywhere else 1
        return KEPT_MASS[which], TEMPER[which]

    def _probability(self, scores: Tensor) -> Tensor:
        """Posterior of scores `(b, t, c)`; all on the best pose while the grey scale of the reference is unknown."""
        flat = scores.flatten(1)
        if self.model.scaled:
            return torch.softmax(flat, dim=-1).reshape(scores.shape)
        return torch.zeros_like(flat).scatter(1, flat.argmax(dim=1, keepdim=True), 1.0).reshape(scores.shape)

    def _whitened(self, spectra: Tensor, reference: Reference, ctf: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.model.noise[groups][:, reference.disc.shells]
        return on_disc(spectra, reference.disc) * (ctf / noise), ctf**2 / noise

    def _first_candidates(self, count: int, rotations: Tensor) -> Candidates:
        reference, shifts = self.references[0], self.shifts.expand(count, -1, -1)
        shift_ok = torch.ones(shifts.shape[:2], dtype=torch.bool, device=shifts.device)
        nodes = reference.kept.nodes.expand(count, -1) if reference.kept else nearby_nodes(rotations, self.levels[0].order, *self.near)
        return Candidates(nodes, torch.ones_like(nodes, dtype=torch.bool), shifts, shift_ok)

    def _coarse(self, data: tuple[Tensor, Tensor], candidates: Candidates, prior: "Prior") -> tuple[Tensor, Tensor | None]:
        reference = self.references[0]
        if reference.kept is None:
            return self._sparse(data, candidates, reference, prior)
        rows = shifted_rows(data[0], self._phases(self.shifts, reference))
        scores = self._score(rows, data[1], *reference.kept.everything())
        prior.add_(scores, candidates, self.levels[0].order)
        return scores, None

    def _fast_marginals(self, data: tuple[Tensor, Tensor], candidates: Candidates, prior: "Prior") -> tuple[Tensor, Tensor]:
        """marginals_ of the scores that _coarse would give; the prior must be one of shifts alone."""
        reference, scaled = self.references[0], self.model.scaled
        assert reference.kept is not None
        noise = self.model.noise.amin(0)[reference.disc.shells]
        columns, split, powers = reference.kept.halves(noise, reference.disc.weights, scaled)
        rows = half_rows(shifted_rows(data[0], self._phases(self.shifts, reference)), split)
        likely = torch.zeros(*candidates.shifts.shape[:2], 1, device=noise.device)
        prior.add_(likely, candidates, self.levels[0].order)
        return fast_marginals(rows, columns, data[1] @ powers.T, likely[..., 0], self._caution(1)[1], scaled)[:2]

    def _phases(self, shifts: Tensor, reference: Reference) -> Tensor:
        return shift_phases(reference.disc.points / self.side, shifts)

    def _sparse(
        self, data: tuple[Tensor, Tensor], candidates: Candidates, reference: Reference, prior: "Prior"
    ) -> tuple[Tensor, Tensor | None]:
        """Scores `(b, t, c)` of each particle's own candidates, padding -inf, and projections as of Reference.products."""
        rows = data[0][:, None] * self._phases(candidates.shifts, reference)
        cross, norms, slices = reference.products(candidates, rows, data[1], keep=reference is self.references[-1])
        scores = log_likelihoods(cross, norms[:, 0], self.model.scaled)
        prior.add_(scores, candidates, reference.level.order)
        return scores.masked_fill(~(candidates.shift_ok[:, :, None] & candidates.node_ok[:, None]), -torch.inf), slices

    def _refined(self, candidates: Candidates, orientations: Tensor, shifts: Tensor, depth: int, limit: int) -> Candidates:
        """Children of the cells that hold nearly all of the marginal probabilities `(b, c)` and `(b, t)`."""
        picked, node_ok = _significant(orientations, limit, self._caution(depth)[0])
        nodes = child_nodes(candidates.nodes.gather(1, picked), self.levels[depth - 1].order).flatten(1)
        best, shift_ok = _significant(shifts, MAX_SHIFTS, self._caution(depth)[0])
        kept = candidates.shifts.gather(1, best[..., None].expand(-1, -1, 2))
        step, finer = self.levels[depth - 1].shift_step, self.levels[depth].shift_step
        if finer < 0.8 * step:
            corners = torch.cartesian_prod(*[torch.tensor([-step / 4, step / 4], device=kept.device)] * 2)
            kept = (kept[:, :, None] + corners).flatten(1, 2)
            shift_ok = shift_ok.repeat_interleave(4, dim=1)
        return Candidates(nodes, node_ok.repeat_interleave(8, dim=1), kept, shift_ok)


class Prior(Protocol):
    """What is known of the poses of a batch before its images are looked at."""

    def add_(self, scores_: Tensor, candidates: Candidates, order: int) -> None:
        """Add the log prior of candidates, whose nodes are of an order, to their scores `(b, t, c)`, or `(b, t, 1)` if it is one of shifts."""


class OffsetPrior:
    """Gaussian prior of the whole shift of a batch, the part already applied `(b, 2)` included; sigma in pixels."""

    def __init__(self, applied: Tensor, sigma: float):
        self._applied, self._sigma = applied, sigma

    def add_(self, scores_: Tensor, candidates: Candidates, order: int) -> None:
        """As Prior.add_; all orientations are alike."""
        scores_ -= (0.5 / self._sigma**2) * ((candidates.shifts + self._applied[:, None]) ** 2).sum(-1)[:, :, None]


def _projected(table: Tensor, order: int, disc: FourierDisc, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Weighed projections `(g, 2 m)` on a disc at grid nodes `(g,)` of an order, and their powers `(g, m)`."""
    return weigh_projections(project_table(table, node_rotations(nodes, order), disc.points), disc.weights)


def _wanted_nodes(nodes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The different ones, sorted, of wanted nodes, and nodes `(b, c)` with one of these in place of each that is not wanted."""
    used = torch.unique(nodes[wanted])
    return used, torch.where(wanted, nodes, used[0])


def _limits(levels: list[Level]) -> list[int]:
    """How many orientations may be split at each level but the last: more where cells are large and cheap."""
    return [2 * MAX_ORIENTATIONS if level.order == 2 else MAX_ORIENTATIONS for level in levels[:-1]]


def _significant(probability: Tensor, limit: int, mass: float) -> tuple[Tensor, Tensor]:
    """(indices `(b, k)`, whether needed) of the most probable entries that together hold a mass, at most `limit` of them."""
    values, indices = probability.topk(min(limit, probability.shape[1]), dim=1)
    needed = values.cumsum(1) - values < mass
    count = int(needed.sum(1).max())
    return indices[:, :count], needed[:, :count]
