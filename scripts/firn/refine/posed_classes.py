"""Classes of particles whose poses are fixed: expectation-maximisation over classes alone, started from principal components or maps.

A particle is judged by maps it is no part of, those of the other half-set (as in refine/posed_components), so that no image pulls a
class towards its own noise. These maps are those of all particles and, within the focus mask, what the half-sets agree on in how a class
differs from them (refine/shared_difference).
Source: Scheres, J. Struct. Biol. 180, 519 (2012); Nat. Methods 13, 387 (2016) (focused classification at fixed poses).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.project import prepare_volume, project_points
from firn.refine.posed_components import class_fractions, components, first_shares
from firn.refine.posed_disc import MapPair, PosedDisc
from firn.refine.shared_difference import shared_differences

SETTLED = 0.002


@dataclass(frozen=True)
class Step:
    """One iteration: Fourier radius, part of the particles that changed class, and the size of each class as a part of all."""

    number: int
    radius: float
    changed: float
    fractions: tuple[float, ...]


class PosedClasses:
    """State of a classification; `mask_of(map)` gives the solvent mask at the working box, `focus` where classes may differ."""

    def __init__(self, disc: PosedDisc, mask_of: Callable[[Tensor], Tensor], focus: Tensor | None):
        self.disc = disc
        ones = torch.ones(len(disc.data), 1)
        whole = disc.maps(ones, disc.radius, None, "particles, consensus")[0].combined
        self.mask = mask_of(whole)
        self.focus = self.mask if focus is None else focus * self.mask
        disc.measure_noise(prepare_volume(whole * self.mask))
        self.consensus = disc.maps(ones, disc.radius, self.mask, "particles, weighted consensus")[0]
        self.shares = torch.empty(len(disc.data), 0)

    def start_from_components(self, classes: int, radius: float, chance: torch.Generator) -> Tensor:
        """First shares by the likeliest points among the particles' principal components; returns the coordinates `(n, q)` there."""
        common = prepare_volume(self.consensus.judging(1) * self.mask), prepare_volume(self.consensus.judging(2) * self.mask)
        found = components(self.disc, common, self.focus, min(classes - 1, 3), radius, chance)
        self.shares = first_shares(found, classes, chance)
        return found.coordinates

    def start_from_maps(self, maps: list[Tensor], radius: float) -> None:
        """First shares by the particles' likelihood under given maps at the working box, on the images' grey scale."""
        references = [prepare_volume(volume * self.mask) for volume in maps]
        even = torch.full((len(maps),), 1 / len(maps))
        self.shares = self._posterior([(reference, reference) for reference in references], even, radius, "particles, given maps")

    def run(self, iterations: int, first_radius: float, hard: bool, last: Step | None = None) -> Iterator[Step]:
        """Iterate with growing radius until hardly a particle changes its class; after `last`, if shares are those of that step."""
        growing = max(2, iterations // 3)
        if last is not None and self._settled(last):
            return
        for number in range(1 if last is None else last.number + 1, iterations + 1):
            radius = min(self.disc.radius, first_radius + (self.disc.radius - first_radius) * (number - 1) / growing)
            before = self.shares.argmax(1)
            maps = self.disc.maps(self.shares, radius, self.mask, f"particles, iteration {number}, maps")
            fractions = class_fractions(self.shares)
            references = [self._references(pair, radius) for pair in maps]
            shares = self._posterior(references, fractions, radius, f"particles, iteration {number}, classes")
            self.shares = torch.nn.functional.one_hot(shares.argmax(1), shares.shape[1]).float() if hard else shares
            changed = float((self.shares.argmax(1) != before).float().mean())
            step = Step(number, radius, changed, tuple(self.shares.mean(0).tolist()))
            yield step
            if self._settled(step):
                return

    def final_maps(self) -> list[MapPair]:
        """Maps of all classes at the full radius, not masked."""
        return self.disc.maps(self.shares, self.disc.radius, self.mask, "particles, final maps")

    def _settled(self, step: Step) -> bool:
        return step.radius >= self.disc.radius and step.changed < SETTLED

    def differences(self) -> list[Tensor]:
        """How the map of each class differs from that of all particles, at the full radius."""
        return [sum(self._shared(pair, self.disc.radius), torch.zeros_like(self.mask)) / 2 for pair in self.final_maps()]

    def _shared(self, pair: MapPair, radius: float) -> tuple[Tensor, Tensor]:
        """Difference of both half-sets' maps from those of all particles, as far as the half-sets agree on it."""
        parts = [(own - common) * self.focus for own, common in zip(pair.halves, self.consensus.halves, strict=True)]
        first, second = shared_differences(parts[0], parts[1], radius)
        return first * self.focus, second * self.focus

    def _references(self, pair: MapPair, radius: float) -> tuple[Tensor, Tensor]:
        """Prepared spectra that judge particles of half-set 1 and 2: made from the other one's images."""
        differences = self._shared(pair, radius)
        first, second = (prepare_volume(self.mask * self.consensus.judging(half) + differences[2 - half]) for half in (1, 2))
        return first, second

    def _posterior(self, references: list[tuple[Tensor, Tensor]], fractions: Tensor, radius: float, step: str) -> Tensor:
        """Shares `(n, k)` of the classes in every particle."""
        part = self.disc.within(radius)
        precision = self.disc.precision(part)
        logs = torch.zeros(len(self.disc.data), len(references))
        for batch in self.disc.batches(part, step):
            for half in (1, 2):
                chosen = batch.half == half
                rows = batch.rows[chosen.cpu()]
                for number, pair in enumerate(references):
                    model = project_points(pair[half - 1], batch.rotations[chosen], part.points)
                    rest = batch.images[chosen] - batch.ctf[chosen] * model
                    logs[rows, number] = (-0.5 * ((rest.real**2 + rest.imag**2) * precision).sum(1)).cpu()
        return torch.softmax(logs + fractions.log(), dim=1)
