"""Several processes, the ranks of one job, each with a device and a part of the particles.

Convention: rank 0 decides, keeps the state and writes. The others hold nothing but images: before each expectation rank 0 tells all they
need, and afterwards their sums are added to its own. Ranks differ in the order of additions only, so one number of ranks gives one result.
"""

from typing import Any

import torch
from torch import Tensor

Told = dict[str, Any]
"""Tensors, numbers, text, lists and dictionaries."""


class Ranks:
    """The ranks as one of them sees them; this one is alone: nobody to tell, nothing to add."""

    rank: int = 0
    size: int = 1

    def part(self, half: Tensor) -> Tensor:
        """Rows, in order, of the particles of this rank, given the half-sets `(n,)`, 1 or 2: of each half-set an equal run of rows."""
        runs = [torch.nonzero(half == number).squeeze(-1).tensor_split(self.size)[self.rank] for number in (1, 2)]
        return torch.cat(runs).sort().values

    def tell(self, told: Told | None = None) -> Told | None:
        """What rank 0 tells, in every rank, its tensors on the CPU in the others; None, when rank 0 has no more for them to do."""
        return told

    def add_(self, *totals_: Tensor) -> None:
        """Add the totals of all ranks up in rank 0, one shape in all; what the others have afterwards is no longer of use."""

    def gathered(self, here: Tensor, found: Tensor) -> Tensor:
        """Rows that belong to several ranks, whole in rank 0: those found here `(k, c)` are at the k places `here` `(n,)`."""
        rows_ = torch.zeros(len(here), found.shape[1])
        rows_[here] = found
        self.add_(rows_)
        return rows_

    def check(self) -> None:
        """Raise what another rank failed with, if one did."""


ALONE = Ranks()
