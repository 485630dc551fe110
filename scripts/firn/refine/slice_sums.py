"""Fourier sums of slices in given poses, spread in runs: long enough that the cube is worth going through, short enough to wait in memory.

Convention: as in kernels/backproject.
"""

import torch
from torch import Tensor

from firn.kernels.backproject import completed, empty_sums, insert_points_
from firn.kernels.spectrum import cropped_side

SHORTEST_RUN, LONGEST_RUN = 2**20, 2**23
RUN = 0.5
"""Points of a run, as a part of the numbers of the half spectrum that it is spread in."""


class SliceSums:
    """Sums and weights of a volume of side n up to a radius (units of 1/n), of slices at `points` `(m, 2)`."""

    def __init__(self, side: int, radius: float, points: Tensor):
        d = cropped_side(radius, 2, side)
        self.sum_, self.weight_ = empty_sums(d, points.device)
        self._points, self._run = points, run_points(d)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, values: Tensor, weights: Tensor, rotations: Tensor) -> None:
        """Take slices `(b, m)` with their weights, in rotations `(b, 3, 3)`."""
        self._pending.append((values, weights, rotations))
        if sum(len(entry[2]) for entry in self._pending) * len(self._points) > self._run:
            self._spread()

    def completed(self) -> tuple[Tensor, Tensor]:
        """Sums and weights with Friedel mates."""
        self._spread()
        return completed(self.sum_, self.weight_)

    def _spread(self) -> None:
        if self._pending:
            values, weights, rotations = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
            self._pending = []
            insert_points_(self.sum_, self.weight_, values, weights, rotations, self._points)


def run_points(d: int) -> int:
    """Points that wait before they are spread in a half spectrum of side d."""
    return int(min(max(RUN * d * d * (d // 2 + 1), SHORTEST_RUN), LONGEST_RUN))
