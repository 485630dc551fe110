"""Ab-initio reconstruction: volumes from particles alone, by online EM. One iteration; how they follow each other: ab_initio_course.

Orientations are always searched everywhere. One class sees random batches, whose sums fade. Several classes see the particles fold by
fold, each fold compared with volumes of recent folds other than itself: a volume of N particles holds a share of each one's noise in every
slice, which over a disc of Fourier radius R draws a particle of sharp pose back to its class by about 2 pi R³ / (3 N) in log-likelihood.
Sources: Punjani et al., Nat. Methods 14, 290 (2017); online EM: Cappé & Moulines, J. R. Stat. Soc. B 71, 593 (2009); incremental EM, whose
partial sums these are: Neal & Hinton, in Learning in Graphical Models (1998), 355.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from firn.kernels.grid import FourierDisc
from firn.kernels.project import prepare_volume
from firn.kernels.sampling import rotation_grid, shift_grid
from firn.kernels.spectrum import cropped_side, resize_spectrum3
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.initial_data import Geometry, Observations, shell_means, solvent_sphere
from firn.refine.initial_model import (
    Sums,
    added,
    agreement,
    blend,
    centring_move,
    free_axes,
    gather_slices,
    moved,
    random_volume,
    solve,
    with_random_hand,
)
from firn.refine.initial_search import Found, Outcome, Search, project_grid, rank_grid, search_grid, search_near

SHIFTS_PER_RESOLUTION = 3.5
"""Coarse shifts are this many to one length of the resolution."""
FEWEST_FOLDS = 5
"""Several classes: all particles are dealt into at least so many folds, and volumes are made of so many recent ones."""
Fold = tuple[int, int]
"""(number of this one, number of all)."""


@dataclass(frozen=True)
class Settings:
    """What does not change; resolutions, diameter and shifts in Å."""

    diameter: float
    classes: int = 1
    group: str = "C1"
    initial_resolution: float = 35.0
    max_resolution: float = 12.0
    initial_iterations: int = 30
    final_iterations: int = 24
    initial_minibatch: int = 90
    final_minibatch: int = 300
    class_similarity: float = 0.1
    starts: int = 5
    grown: int = 2
    max_shift: float = 15.0
    non_negative: bool = True
    rest_class: bool = True
    """Whether several classes come with one more, which takes the particles that fit none of them and is left out at the end."""

    @property
    def volumes(self) -> int:
        """Volumes reconstructed."""
        return self.classes + int(self.rest_class and self.classes > 1)

    @property
    def apart(self) -> bool:
        """Whether particles are kept apart from the volumes that they are compared with; else batches are drawn at random."""
        return self.classes > 1


@dataclass(frozen=True)
class Batch:
    """How one iteration is done; share counts for one class alone, collected for several."""

    resolution: float
    particles: int
    share: float
    """Weight of this batch in the running sums."""
    class_mixing: float
    collected: int = 1
    """Folds to see before the volumes are renewed."""
    heat: float = 1.0
    """Factor on the noise variance by which classes and poses are judged: above 1 they are less certain than the images make them."""

    @property
    def filtered(self) -> bool:
        """Whether volumes are of enough folds to filter each shell by how well they agree."""
        return self.collected >= FEWEST_FOLDS


@dataclass
class State:
    """Volumes, their running sums, and the noise variance per shell."""

    volumes: list[Tensor]
    noise: Tensor
    sums: list[Sums | None] = field(default_factory=list)
    fitted: bool = False
    """Whether the volumes have the grey scale of the images."""
    recent: list[tuple[Fold, list[Sums]]] = field(default_factory=list)
    """With several classes, in place of running sums: the last few folds and what each gave to every class."""

    def copy(self) -> "State":
        """A state that goes its own way."""
        return State(list(self.volumes), self.noise, list(self.sums), self.fitted, list(self.recent))


class AbInitio:
    """The engine: everything that stays the same between iterations."""

    def __init__(
        self, observations: Observations, solvent_noise: Tensor, geometry: Geometry, settings: Settings, generator: torch.Generator
    ):
        self.observations, self.geometry, self.settings, self.generator = observations, geometry, settings, generator
        device = observations.ctf.device
        self.floor = solvent_noise
        self.total_power = shell_means(observations.spectra.abs().square().mean(0), geometry.disc)
        self.operators = symmetry_matrices(settings.group).float().to(device)
        self.finest_order = 2 if len(self.operators) < 8 else 3
        self._grids: dict[int, Tensor] = {}
        self.dealt = self.draw(len(self)) if settings.apart else torch.arange(0)
        self.solvent = solvent_sphere(geometry.n, 0.55 * settings.diameter / geometry.pixel_size, device)

    def __len__(self) -> int:
        return len(self.observations.ctf)

    def grid(self, resolution: float) -> tuple[Tensor, float]:
        """Rotations of the coarsest grid that resolves the particle's rim at a resolution, or the finest one, and their step in degrees."""
        needed = math.ceil(math.log2(math.radians(60) * self.settings.diameter / 2 / resolution) - 0.15)
        order = min(max(needed, 1), self.finest_order)
        if order not in self._grids:
            self._grids[order] = rotation_grid(order, self.settings.group).to(self.floor.device)
        return self._grids[order], 60 / 2**order

    def fresh(self) -> State:
        """A random start."""
        volumes = [
            random_volume(self.geometry, self.solvent, self.settings.initial_resolution, self.settings.group, self.generator)
            for _ in range(self.settings.volumes)
        ]
        return State(volumes, self.total_power.clone(), [None] * self.settings.volumes)

    def draw(self, count: int) -> Tensor:
        """Random particles, none twice."""
        return torch.randperm(len(self), generator=self.generator)[: min(count, len(self))].to(self.floor.device)

    def iterate(self, state: State, batch: Batch, rows: Tensor) -> Found:
        """One expectation and maximisation over some particles; the state is updated."""
        disc, outcome = self._expect(state, batch, rows)
        radius = float(disc.points.norm(dim=-1).max())
        n = self.geometry.n
        for number in range(len(state.volumes)):
            new = gather_slices(outcome.slices, disc, number, n, self.operators)
            state.sums[number] = kept = blend(state.sums[number], new, batch.share)
            volume = solve(kept, n, radius, self.solvent, self.settings.non_negative)
            move = centring_move(volume, free_axes(self.settings.group))
            if any(move):
                state.sums[number] = moved(kept, n, move)
                volume = torch.roll(volume, move, dims=(0, 1, 2))
            state.volumes[number] = volume
        self._update_noise(state, outcome.residual / len(rows))
        return outcome.found

    def fold(self, number: int, particles: int) -> Fold:
        """One of the folds of at most so many particles that all are dealt into; they follow each other in turn."""
        count = max(-(-len(self) // particles), FEWEST_FOLDS)
        return number % count, count

    def rows(self, fold: Fold) -> Tensor:
        """The particles of a fold."""
        return self.dealt[fold[0] :: fold[1]]

    def iterate_apart(self, state: State, batch: Batch, number: int) -> Found:
        """One expectation over a fold, against volumes of recent folds other than this; the state is updated."""
        fold = self.fold(number, batch.particles)
        rows = self.rows(fold)
        state.recent = [kept for kept in state.recent if kept[0][1] == fold[1]]
        if len(state.recent) >= batch.collected:
            self.renew(state, batch.resolution, fold, filtered=batch.filtered)
        disc, outcome = self._expect(state, batch, rows)
        new = [gather_slices(outcome.slices, disc, k, self.geometry.n, self.operators) for k in range(len(state.volumes))]
        state.recent = [*[kept for kept in state.recent if kept[0] != fold][1 - FEWEST_FOLDS :], (fold, new)]
        self._update_noise(state, outcome.residual / len(rows))
        return outcome.found

    def renew(self, state: State, resolution: float, apart: Fold | None = None, centred: bool = True, filtered: bool = False) -> None:
        """New volumes from the sums of recent folds, of one fold apart; volumes and sums are centred; filtered: by how the folds agree."""
        n, radius, free = self.geometry.n, self.geometry.radius(resolution), free_axes(self.settings.group)
        chosen = [sums for fold, sums in state.recent if fold != apart]
        for number in range(len(state.volumes)):
            own = [sums[number] for sums in chosen]
            correlation = agreement((added(own[::2]), added(own[1::2])), n, radius, self.solvent) if filtered else None
            volume = solve(added(own), n, radius, self.solvent, self.settings.non_negative, correlation)
            move = centring_move(volume, free) if centred else (0, 0, 0)
            if any(move):
                state.recent = [(fold, _with(sums, number, moved(sums[number], n, move))) for fold, sums in state.recent]
                chosen = [sums for fold, sums in state.recent if fold != apart]
                volume = torch.roll(volume, move, dims=(0, 1, 2))
            state.volumes[number] = volume

    def class_evidence(self, state: State, rows: Tensor, resolution: float) -> Tensor:
        """Log-likelihood `(b, k)` of some particles under each class of a state, all states with the same noise."""
        fair = State(state.volumes, self.floor, fitted=True)
        points, disc = self._disc(resolution)
        rotations, _ = self.grid(resolution)
        projections = project_grid(self._cropped([prepare_volume(volume) for volume in state.volumes], disc), rotations, disc)
        search = self._search(fair, disc, self._shifts(resolution), 0.0)
        found = rank_grid(self.observations.pick(rows, points), projections, rotations, search)
        return found.log_likelihood[:, None] + (found.class_posterior.clamp(min=1e-30) * len(state.volumes)).log()

    def fine_evidence(self, state: State, rows: Tensor, resolution: float) -> float:
        """Mean log-likelihood of some particles, all states with the same noise, for resolutions beyond the coarse grid's too."""
        fair = State(state.volumes, self.floor, fitted=True)
        return float(self.assign(fair, rows, resolution).log_likelihood.mean())

    def assign(self, state: State, rows: Tensor, resolution: float) -> Found:
        """Class and pose of some particles under a state, which stays as it is."""
        return self._expect(state.copy(), Batch(resolution, len(rows), 1.0, 0.0), rows)[1].found

    def assign_apart(self, state: State, resolution: float) -> tuple[State, Found]:
        """The state with volumes of all recent folds, and class and pose of all particles, each under volumes without its own fold."""
        found = []
        for place in range(FEWEST_FOLDS):
            fold, apart = (place, FEWEST_FOLDS), state.copy()
            self.renew(apart, resolution, fold, centred=False, filtered=True)
            rows = self.rows(fold)
            found.append((rows, self.assign(apart, rows, resolution)))
        state = state.copy()
        self.renew(state, resolution, centred=False, filtered=True)
        return state, in_order(found)

    def restart(self, volume: Tensor, noise: Tensor) -> State:
        """A state of one class that begins with a volume."""
        volume = volume * self.solvent
        return State([volume.clamp(min=0) if self.settings.non_negative else volume], noise.clone(), [None], fitted=True)

    def with_hand(self, state: State) -> State:
        """A state of one class that begins with its volume at the initial resolution and a hand drawn at random."""
        settings, volume = self.settings, state.volumes[0]
        drawn = with_random_hand(volume, self.geometry, self.solvent, settings.initial_resolution, settings.group, self.generator)
        return self.restart(drawn, state.noise)

    def _expect(self, state: State, batch: Batch, rows: Tensor) -> tuple[FourierDisc, Outcome]:
        """Coarse search at what the grid resolves, then, where finer detail is asked for, the fine one."""
        rotations, rotation_step = self.grid(batch.resolution)
        coarse_resolution = max(batch.resolution, self.settings.diameter * math.radians(rotation_step) / 2)
        points, disc = self._disc(coarse_resolution)
        spectra = [prepare_volume(volume) for volume in state.volumes]
        projections = project_grid(self._cropped(spectra, disc), rotations, disc)
        observations = self.observations.pick(rows, points)
        if not state.fitted:
            projections = projections * self._grey_scale(projections, observations, disc)
            state.fitted = True
        search = self._search(state, disc, self._shifts(coarse_resolution), batch.class_mixing, batch.heat)
        if batch.resolution > 0.88 * coarse_resolution:
            return disc, search_grid(observations, projections, rotations, search)
        coarse = rank_grid(observations, projections, rotations, search)
        points, disc = self._disc(batch.resolution)
        step = self._shift_step(coarse_resolution)
        near = self._search(state, disc, shift_grid(0.75 * step, 0.5 * step), batch.class_mixing, batch.heat)
        observations = self.observations.pick(rows, points)
        return disc, search_near(observations, self._cropped(spectra, disc), coarse, rotations, rotation_step / 2, near)

    def _shift_step(self, resolution: float) -> float:
        return resolution / SHIFTS_PER_RESOLUTION / self.geometry.pixel_size

    def _shifts(self, resolution: float) -> Tensor:
        step = self._shift_step(resolution)
        return shift_grid(max(self._reach, step), step)

    @property
    def _reach(self) -> float:
        return self.settings.max_shift / self.geometry.pixel_size

    def _search(self, state: State, disc: FourierDisc, shifts: Tensor, class_mixing: float, heat: float = 1.0) -> Search:
        noise = heat * state.noise[disc.shells]
        return Search(self.geometry.n, disc, noise, shifts.to(noise.device), max(self._reach, 0.5), class_mixing)

    def _disc(self, resolution: float) -> tuple[Tensor, FourierDisc]:
        disc = self.geometry.disc
        points = (disc.points.norm(dim=-1) <= self.geometry.radius(resolution)).nonzero()[:, 0]
        return points, FourierDisc(disc.points[points], disc.index[points], disc.weights[points], disc.shells[points])

    def _cropped(self, spectra: list[Tensor], disc: FourierDisc) -> list[Tensor]:
        side = cropped_side(float(disc.points.norm(dim=-1).max()), 2, self.geometry.n)
        return [resize_spectrum3(spectrum, side) for spectrum in spectra]

    def _grey_scale(self, projections: Tensor, observations: Observations, disc: FourierDisc) -> Tensor:
        """Factor that gives random projections the power that the images have above the solvent's."""
        signal = (self.total_power - self.floor).clamp(min=0)[disc.shells].mean()
        return (signal / (observations.ctf.square().mean() * projections.abs().square().mean()).clamp(min=1e-30)).sqrt()

    def _update_noise(self, state: State, residual: Tensor) -> None:
        known = len(residual)
        noise = state.noise.clone()
        noise[:known] = torch.maximum((noise[:known] + residual) / 2, self.floor[:known])
        state.noise = noise


def _with(sums: list[Sums], number: int, new: Sums) -> list[Sums]:
    """Sums of all classes, those of one replaced."""
    return [*sums[:number], new, *sums[number + 1 :]]


def in_order(found: list[tuple[Tensor, Found]]) -> Found:
    """What was found for all particles, from (rows, found) of parts."""
    order = torch.argsort(torch.cat([rows for rows, _ in found]))
    return Found(*(torch.cat(column)[order] for column in zip(*(part for _, part in found), strict=True)))
