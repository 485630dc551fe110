"""Local refinement: a search about given poses, with Gaussian priors, of a part of the molecule that turns about a fulcrum.

The fulcrum is moved to the origin of the box, in the maps by whole pixels and in the images by their shifts, so that turning a pose
leaves the fulcrum where it is; results are moved back. Convention: fulcrum zyx in pixels from index n // 2.
Source: Punjani, Zhang & Fleet, Nat. Methods 17, 1214 (2020), supplement; Nakane et al., eLife 7, e36861 (2018) for the fulcrum.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.pose_grid import grid_step, node_rotations
from firn.refine.expectation import Candidates
from firn.refine.homogeneous import Iteration, Refinement
from firn.refine.schedule import MIN_FINEST_ORDER, Level, finest_order, search_levels
from firn.refine.state import Poses

STEPS_ACROSS = 2
"""The coarsest grid has at least this many steps from the middle of the search to its rim."""
COARSEST_ORDER = 2
STEEP = 1e3


@dataclass(frozen=True)
class Limits:
    """Standard deviations of the priors (infinite = none) and extents of the search about the given poses: degrees, pixels."""

    rotation_sigma: float
    shift_sigma: float
    rotation_extent: float
    shift_extent: float


class LocalPrior:
    """Prior about rotations `(b, 3, 3)`; offset `(b, 2)`: how far the shifts applied to the images are from the given ones."""

    def __init__(self, rotations: Tensor, offset: Tensor, limits: Limits):
        self._rotations, self._offset, self._limits = rotations, offset, limits

    def add_(self, scores_: Tensor, candidates: Candidates, order: int) -> None:
        """As expectation.Prior.add_."""
        limits = self._limits
        traces = torch.einsum("bcij,bij->bc", node_rotations(candidates.nodes, order), self._rotations)
        turned = torch.rad2deg(torch.acos(((traces - 1) / 2).clamp(-1, 1)))
        moved = (candidates.shifts + self._offset[:, None]).norm(dim=-1)
        scores_ -= _cost(turned, limits.rotation_sigma, limits.rotation_extent + grid_step(order) / 2)[:, None]
        scores_ -= _cost(moved, limits.shift_sigma, limits.shift_extent)[:, :, None]


class LocalRefinement(Refinement):
    """A refinement that never looks far from the poses it was given."""

    limits: Limits
    given: Poses

    def begin(self, rotations: Tensor, shifts: Tensor, limits: Limits) -> None:
        """Set the poses `(n, 3, 3)`, `(n, 2)` that the search is about."""
        self.limits, self.poses.rotations, self.poses.shifts = limits, rotations.clone(), shifts.clone()
        self.given = self.poses.copy()
        self.course.reach = limits.shift_extent

    def state(self) -> dict[str, Any]:
        """As Refinement.state, with the given poses."""
        return super().state() | {"given": vars(self.given)}

    def restore(self, state: dict[str, Any]) -> None:
        """As Refinement.restore."""
        super().restore(state)
        self.given = Poses(**state["given"])

    def _everywhere(self, number: int) -> bool:
        return False

    def _levels(self, everywhere: bool, last: bool) -> list[Level]:
        side, settings, course = self.particles.side, self.settings, self.course
        most = course.finest if last else self._finest(MIN_FINEST_ORDER)
        coarsest = max(COARSEST_ORDER, math.ceil(math.log2(60 * STEPS_ACROSS / self.limits.rotation_extent)))
        return search_levels(
            side, settings.diameter, course.searched, min(coarsest, finest_order(side, settings.diameter, course.searched), most), most
        )

    def _near(self, levels: list[Level]) -> tuple[int, int]:
        """As many directions as the cap of the extent holds, and some at its rim."""
        order, extent = levels[0].order, self.limits.rotation_extent
        directions = 12 * 4**order * (1 - math.cos(math.radians(extent + grid_step(order) / 2))) / 2
        return min(max(9, math.ceil(directions)), 12 * 4**order), 2 * math.ceil(extent / grid_step(order)) + 1

    def _of_two_hands(self, maps: tuple[Tensor, Tensor], searched: float) -> bool:
        return False

    def _prior(self, rows: Tensor) -> LocalPrior:
        device = self.settings.device
        offset = self.poses.shifts[rows] - self.given.shifts[rows]
        return LocalPrior(self.given.rotations[rows].to(device), offset.to(device), self.limits)


def to_fulcrum(shifts: Float[Tensor, "n 2"], rotations: Float[Tensor, "n 3 3"], fulcrum: tuple[int, int, int]) -> Float[Tensor, "n 2"]:
    """Shifts that centre the fulcrum, from those that centre the box's origin."""
    return shifts - _seen(rotations, fulcrum)


def from_fulcrum(shifts: Float[Tensor, "n 2"], rotations: Float[Tensor, "n 3 3"], fulcrum: tuple[int, int, int]) -> Float[Tensor, "n 2"]:
    """Inverse of to_fulcrum, in the given poses."""
    return shifts + _seen(rotations, fulcrum)


def moved_back(result: Iteration, fulcrum: tuple[int, int, int]) -> Iteration:
    """The maps and the mask of an iteration at their former place."""

    def back(volume: Tensor) -> Tensor:
        return torch.roll(volume, fulcrum, dims=(0, 1, 2))

    halves = back(result.half_maps[0]), back(result.half_maps[1])
    return replace(result, half_maps=halves, combined=back(result.combined), mask=back(result.mask))


def to_origin(volume: Float[Tensor, "n n n"], fulcrum: tuple[int, int, int]) -> Float[Tensor, "n n n"]:
    """The volume with the fulcrum at the origin; what leaves the box on one side comes in on the other."""
    return torch.roll(volume, tuple(-part for part in fulcrum), dims=(0, 1, 2))


def mask_centre(mask: Float[Tensor, "n n n"]) -> tuple[int, int, int]:
    """Nearest pixel zyx to a mask's centre of mass, from index n // 2."""
    axis = torch.arange(mask.shape[0], device=mask.device) - mask.shape[0] // 2
    z, y, x = (round(float((mask.sum(others) * axis).sum() / mask.sum())) for others in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def mask_reach(mask: Float[Tensor, "n n n"], fulcrum: tuple[int, int, int]) -> float:
    """Distance in pixels from the fulcrum to the farthest voxel that is at least half in the mask."""
    points = torch.nonzero(mask >= 0.5) - mask.shape[0] // 2
    return float((points - torch.tensor(fulcrum, device=mask.device)).float().norm(dim=-1).max())


def _seen(rotations: Tensor, fulcrum: tuple[int, int, int]) -> Tensor:
    """Where the fulcrum lies in the images: the yx part of R^T f."""
    return (rotations.mT @ torch.tensor(fulcrum, dtype=rotations.dtype, device=rotations.device))[:, 1:]


def _cost(distance: Tensor, sigma: float, extent: float) -> Tensor:
    return 0.5 * (distance / sigma) ** 2 + STEEP * (distance - extent).clamp(min=0)
