"""How finely to search at a given resolution: orders of the rotation grid, Fourier radii and shift steps of each level.

Convention: radii in units of 1/n, lengths in pixels. A level finer in angle reads further out in Fourier space: the rim of
a particle of diameter D moves by D * step / 2 between neighbouring orientations, which must stay below the finest detail used.
"""

import math
from dataclasses import dataclass

from firn.kernels.pose_grid import grid_step

MIN_FINEST_ORDER, MAX_ORDER = 4, 7
LOCAL_DEPTH = 2
RIM_FRACTION = 0.8
FINEST_STEP = 0.9
MARGIN = 5


@dataclass(frozen=True)
class Level:
    """One level of the pose search."""

    order: int
    radius: float
    shift_step: float


def search_levels(side: int, diameter: float, radius: float, coarsest: int | None, most: int = MAX_ORDER) -> list[Level]:
    """Levels from coarse to fine, at most to an order, for scoring up to a Fourier radius.

    coarsest: order to start from; None for a local search, which needs the last few only.
    """
    finest = min(finest_order(side, diameter, radius), most)
    coarsest = max(2, finest - LOCAL_DEPTH) if coarsest is None else coarsest
    levels: list[Level] = []
    for order in range(coarsest, finest + 1):
        reach = radius if order == finest else min(radius, coarse_radius(side, diameter, order))
        step = max(side / (4 * reach), 0.5) if not levels else levels[-1].shift_step / 2
        levels.append(Level(order, reach, max(step, side / (10 * radius))))
    return levels


def finest_order(side: int, diameter: float, radius: float) -> int:
    """Smallest order whose step is at most FINEST_STEP of the resolution over the diameter: poses are then averages of several nodes."""
    wanted = FINEST_STEP * math.degrees(side / radius / diameter)
    order = MIN_FINEST_ORDER
    while grid_step(order) > wanted and order < MAX_ORDER:
        order += 1
    return order


def coarse_radius(side: int, diameter: float, order: int) -> float:
    """Fourier radius up to which orientations a grid step apart still look alike."""
    return side / (RIM_FRACTION * diameter * math.radians(grid_step(order)))


def next_radius(curve: list[float], side: int, initial: float) -> float:
    """Radius of the next reconstruction: some shells beyond where the correlation of the half-maps falls below 0.143."""
    return float(min(max(first_below(curve, 0.143) + beyond(side), initial), side / 2 - 1))


def beyond(side: int) -> int:
    """Shells beyond the resolution that still help to find poses, little as the Wiener filter leaves there, and let it grow."""
    return max(MARGIN, side // 16)


def first_below(curve: list[float], threshold: float) -> int:
    """First shell from 1 on below a threshold; the number of shells when there is none."""
    return next((shell for shell in range(1, len(curve)) if curve[shell] < threshold), len(curve))


def crossing(values: list[float]) -> float:
    """Where a curve falls below 0.143, in shells, linear between them."""
    shell = first_below(values, 0.143)
    if shell >= len(values):
        return float(len(values) - 1)
    above, below = (1.0 if shell == 1 else values[shell - 1]), values[shell]
    return shell - 1 + (above - 0.143) / max(above - below, 1e-6)
