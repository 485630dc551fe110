"""How a refinement searches from one iteration to the next: where, how finely, and up to which resolution.

Convention: Fourier radii in units of 1/n, shifts in pixels, angles in degrees. A particle strays when a search everywhere turns it
further than a search nearby, about its former pose, would have reached.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.pose_grid import grid_step
from firn.refine.schedule import LOCAL_DEPTH, MIN_FINEST_ORDER, beyond

NEAR = 9, 3
"""Directions and in-plane angles that a search nearby looks at: those within one and a half steps of their grid."""
FIRST_LOCAL = 3
WIDE_EVERY = 5
RESOLVED_DETAIL, BROAD_DETAIL = 6.0, 96.0
"""Orientations that share a particle's probability: few, and so many that of a grid one order coarser, an eighth, twice those few still do."""
CHILDREN = 8
"""Nodes of a grid's next order per node."""
MANY_OPERATORS = 6
SHELLS_BEYOND = 2
"""Shells beyond a resolution that grows no more that still help to find poses."""
GAIN = 0.5
"""Shells by which a resolution must grow to count as growing."""
SETTLED = 0.25
"""Part of their likely error that orientations still change by when they have settled: what is left to go adds less than a hundredth to it.

Expectation-maximisation closes a fixed part of the distance in each iteration: where half is closed, as much as the last change is left
before the last iteration and half as much after; errors add in squares.
"""
MEDIAN_ANGLE = 1.538
"""Median length of a vector of three independent normal numbers."""


def wide_iteration(number: int) -> bool:
    """Whether all particles are searched everywhere in an iteration, whatever they did before."""
    return number < FIRST_LOCAL or number % WIDE_EVERY == 0


def coarsest_order(everywhere: bool, operators: int) -> int | None:
    """Order that a search starts from: a finer one where symmetry leaves few directions; None nearby."""
    return coarsest_everywhere(operators) if everywhere else None


def coarsest_everywhere(operators: int) -> int:
    """Order that a search everywhere starts from."""
    return 3 if operators >= MANY_OPERATORS else 2


def finest_wanted(finest: int, detail: Float[Tensor, " n"], least: int) -> int:
    """Largest order worth trying: one more than before if few of that grid's orientations shared most particles' probability.

    One less, but not below `least`, if so many did that a coarser grid tells them apart as well, and looks at more of them; back from
    there once they would no longer be so many. Infinite detail is unknown.
    """
    median = float(detail.median())
    if BROAD_DETAIL < median < math.inf:
        return max(finest - 1, min(finest, least))
    return finest + int(median < (RESOLVED_DETAIL if finest >= MIN_FINEST_ORDER else BROAD_DETAIL / CHILDREN))


def next_searched(side: int, best: float, resolved: float) -> float:
    """Fourier radius to find poses with, given the best resolution so far and that of now."""
    return resolved + (beyond(side) if resolved > best + GAIN else SHELLS_BEYOND)


def likely_error(orientations: float, step: float) -> float:
    """Median error in degrees of orientations of which so many of a grid share the probability, a step in degrees apart.

    A Gaussian of standard deviation s about each of three axes has 1 / sum p^2 = (2 sqrt(pi) s / step)^3.
    """
    return MEDIAN_ANGLE * step * orientations ** (1 / 3) / (2 * math.sqrt(math.pi))


def strays(turned: Float[Tensor, " n"], order: int) -> Bool[Tensor, " n"]:
    """Which particles were turned further than a search nearby reaches whose finest grid has an order."""
    return turned > 1.5 * grid_step(max(2, order - LOCAL_DEPTH))


def shift_reach_after(moved: Float[Tensor, "n 2"], most: float) -> float:
    """How far to look for shifts of particles that have moved by so much."""
    return min(most, max(1.0, 3 * float(moved.square().sum(-1).mean().sqrt())))


def orientation_change(
    first: Float[Tensor, "n 3 3"], second: Float[Tensor, "n 3 3"], operators: Float[Tensor, "g 3 3"]
) -> Float[Tensor, " n"]:
    """Degrees between rotations, the nearest among equivalent ones."""
    relative = torch.einsum("nij,nkj->nik", first, second)
    traces = torch.einsum("gij,nij->ng", operators, relative).amax(1)
    return torch.rad2deg(torch.acos(((traces - 1) / 2).clamp(-1, 1)))
