"""From half-map sums to the references of the next iteration: what is kept of each frequency, and where.

A regulariser takes the completed sums of both half-sets, their unfiltered maps and the half-map correlation; it returns the two
references and the map from all particles. Source: Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.fsc import fsc
from firn.refine.maximisation import falling, filtered_map, full_correlation

Sums = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class HalfMaps:
    """Completed sums of both half-sets up to a Fourier radius (units of 1/n), their unfiltered maps `(n, n, n)`, and the correlation."""

    sums: tuple[Sums, Sums]
    maps: tuple[Tensor, Tensor]
    radius: float
    curve: Tensor

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return self.maps[0].shape[-1]


Regulariser = Callable[[HalfMaps], tuple[tuple[Tensor, Tensor], Tensor]]


def wiener(halves: HalfMaps) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The same filter everywhere, from the correlation of the half-maps."""
    calm = falling(halves.curve)
    first, second = (filtered_map(sums, halves.side, halves.radius, calm) for sums in halves.sums)
    return (first, second), combined_map(halves)


def combined_map(halves: HalfMaps) -> Tensor:
    """Wiener-filtered map from all particles."""
    (first, first_weight), (second, second_weight) = halves.sums
    total = first + second, first_weight + second_weight
    return filtered_map(total, halves.side, halves.radius, full_correlation(falling(halves.curve)))


def correlation_within(halves: tuple[Tensor, Tensor], mask: Tensor, radius: float) -> Tensor:
    """Correlation of masked half-maps; 0 beyond the radius, where nothing but the mask's leakage is."""
    return within(fsc(halves[0] * mask, halves[1] * mask), radius)


def within(curve: Tensor, radius: float) -> Tensor:
    """The curve, 0 beyond a radius in shells."""
    return torch.where(torch.arange(len(curve), device=curve.device) <= radius, curve, 0.0)
