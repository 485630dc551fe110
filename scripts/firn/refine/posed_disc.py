"""Images in known poses as coefficients on a Fourier disc, and maps of any weighting of them.

Convention: as in refine/given_poses, at a working box of the same field of view: coefficients are those of the full images, so a map
of the working box has them too. Noise is the variance of one complex coefficient per shell. Half-sets are added up apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.fsc import fsc
from firn.kernels.grid import FourierDisc, shell_sums
from firn.kernels.project import project_points
from firn.refine.maximisation import falling, filtered_map, full_correlation, unfiltered_map
from firn.refine.shared_difference import filtered_by
from firn.refine.slice_sums import SliceSums

BATCH = 256
LEAST_WEIGHT = 0.01
NOISE_FLOOR = 1e-12

Batches = Callable[[list[Tensor], str], Iterator[Tensor]]


@dataclass(frozen=True)
class DiscImages:
    """Coefficients of centred images `(l, m)`, their CTF `(l, m)` and rotations `(l, 3, 3)`; on the host.

    `rows` are the images that count `(n,)`, all by default, and `half` the half-set of each of these `(n,)`.
    """

    coefficients: Tensor
    ctf: Tensor
    rotations: Tensor
    half: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.half)

    def only(self, half: int, chance: torch.Generator) -> "DiscImages":
        """The images of one half-set without copying them, dealt by chance into two half-sets of their own."""
        rows = torch.nonzero(self.half == half).squeeze(-1)
        return DiscImages(self.coefficients, self.ctf, self.rotations, 1 + torch.randperm(len(rows), generator=chance) % 2, rows)

    def of(self, numbers: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients and CTF at some points, and rotations, of some of the images that count."""
        rows = numbers if self.rows is None else self.rows[numbers]
        return self.coefficients[rows][:, points], self.ctf[rows][:, points], self.rotations[rows]


@dataclass(frozen=True)
class MapPair:
    """Unfiltered half maps, the filtered map of both, and the half maps' correlation under a mask."""

    halves: tuple[Tensor, Tensor]
    combined: Tensor
    curve: Tensor

    def judging(self, half: int) -> Tensor:
        """The map that particles of a half-set (1 or 2) are judged by: that of the other half-set, Wiener-filtered."""
        other = self.halves[2 - half]
        return filtered_by(other, falling(self.curve).clamp(0, 1))


@dataclass(frozen=True)
class Batch:
    """Some images within a radius: row numbers, coefficients and CTF `(b, m)`, rotations, half-sets."""

    rows: Tensor
    images: Tensor
    ctf: Tensor
    rotations: Tensor
    half: Tensor


class PosedDisc:
    """Images on a disc, the noise in them, and a working box of side `side`."""

    def __init__(self, data: DiscImages, disc: FourierDisc, side: int, batches: Batches):
        self.data, self.disc, self.side, self._batches = data, disc, side, batches
        self.device = disc.points.device
        self.radius = float(disc.points.norm(dim=-1).max())
        self.noise = torch.ones(int(disc.shells.max()) + 1, device=self.device)

    def only(self, half: int, chance: torch.Generator) -> "PosedDisc":
        """The images of one half-set, dealt by chance into two half-sets of their own, with the same noise."""
        part = PosedDisc(self.data.only(half, chance), self.disc, self.side, self._batches)
        part.noise = self.noise
        return part

    def within(self, radius: float) -> FourierDisc:
        """The part of the disc up to a radius; its index counts in the disc."""
        inside = torch.nonzero(self.disc.points.norm(dim=-1) <= radius + 1e-6).squeeze(-1)
        return FourierDisc(self.disc.points[inside], inside, self.disc.weights[inside], self.disc.shells[inside])

    def precision(self, part: FourierDisc) -> Tensor:
        """Weights over noise `(m,)`: a sum with them is twice the negative exponent of a likelihood."""
        return part.weights / self.noise[part.shells]

    def batches(self, part: FourierDisc, step: str) -> Iterator[Batch]:
        """All images, batch by batch."""
        chosen, data = part.index.cpu(), self.data
        for rows in self._batches(list(torch.arange(len(data)).split(BATCH)), step):
            images, ctf, rotations = data.of(rows, chosen)
            yield Batch(rows, images.to(self.device), ctf.to(self.device), rotations.to(self.device), data.half[rows].to(self.device))

    def maps(self, weights: Tensor, radius: float, mask: Tensor | None, step: str) -> list[MapPair]:
        """Maps of all columns of weights `(n, k)` of the particles; without a mask, the whole boxes are correlated."""
        part = self.within(radius)
        sums = [[SliceSums(self.side, radius, part.points) for _ in (1, 2)] for _ in range(weights.shape[1])]
        precision = self.precision(part) / 2
        for batch in self.batches(part, step):
            values, powers = batch.images * batch.ctf * precision, batch.ctf**2 * precision
            for number, pair in enumerate(sums):
                share = weights[batch.rows, number].to(self.device)
                for half, target in enumerate(pair, start=1):
                    chosen = torch.nonzero((batch.half == half) & (share > LEAST_WEIGHT)).squeeze(-1)
                    factor = share[chosen, None]
                    target.add(values[chosen] * factor, powers[chosen] * factor, batch.rotations[chosen])
        return [self._pair([target.completed() for target in pair], radius, mask) for pair in sums]

    def measure_noise(self, prepared: Tensor) -> None:
        """Set the noise to what a map leaves unexplained."""
        part = self.within(self.radius)
        power, count = torch.zeros_like(self.noise), torch.zeros_like(self.noise)
        for batch in self.batches(part, "particles, noise"):
            rest = batch.images - batch.ctf * project_points(prepared, batch.rotations, part.points)
            squares = (rest.real**2 + rest.imag**2) * part.weights
            power += shell_sums(squares, part.shells, len(self.noise)).sum(0)
            count += shell_sums(part.weights * len(batch.rows), part.shells, len(self.noise))
        self.noise = (power / count.clamp(min=1)).clamp(min=NOISE_FLOOR)

    def _pair(self, sums: list[tuple[Tensor, Tensor]], radius: float, mask: Tensor | None) -> MapPair:
        first, second = (unfiltered_map(part, self.side, radius) for part in sums)
        curve = fsc(first, second) if mask is None else fsc(first * mask, second * mask)
        curve = torch.where(torch.arange(len(curve), device=curve.device) <= radius, curve, 0.0)
        total = (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
        return MapPair((first, second), filtered_map(total, self.side, radius, full_correlation(falling(curve))), curve)
