"""One pose out of a posterior: the mean around its peak, which lies between the nodes of the grid.

The mean rotation maximises the trace against the weighted sum of rotation matrices (Moakher, SIAM J. Matrix Anal. Appl. 24, 1, 2002).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.pose_grid import grid_step, node_rotations
from firn.refine.expectation import Posterior
from firn.refine.state import Poses

NODES = 24
REACH_STEPS = 2.5
"""Nodes farther than this many grid steps from the best are another mode."""


def remember(poses_: Poses, rows: Tensor, posterior: Posterior, everywhere: bool) -> None:
    """Update the poses of some particles from their posterior; after a search everywhere, how sure the coarse level was, too."""
    rotations, shifts = mean_pose(posterior)
    poses_.rotations[rows] = rotations.cpu()
    poses_.shifts[rows] += shifts.cpu()
    poses_.peak[rows] = posterior.probability.amax(dim=(1, 2)).cpu()
    poses_.detail[rows] = (1 / posterior.probability.sum(1).square().sum(-1)).cpu()
    if everywhere:
        poses_.spread[rows] = posterior.spread.cpu()


def mean_pose(posterior: Posterior) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 2"]]:
    """(rotations, shifts yx in pixels) of a batch: means over the posterior near its peak."""
    probability = posterior.probability
    marginal = probability.sum(1)
    weights, picked = marginal.topk(min(NODES, marginal.shape[1]), dim=1)
    rotations = node_rotations(posterior.candidates.nodes.gather(1, picked), posterior.order)
    cosine = (torch.einsum("bcij,bij->bc", rotations, rotations[:, 0]) - 1) / 2
    near = cosine >= math.cos(math.radians(REACH_STEPS * grid_step(posterior.order)))
    mean = torch.einsum("bc,bcij->bij", weights * near, rotations)
    conditional = torch.einsum("btc,bc->bt", probability.gather(2, picked[:, None].expand(-1, probability.shape[1], -1)), near.float())
    shifts = torch.einsum("bt,bti->bi", conditional / conditional.sum(1, keepdim=True), posterior.candidates.shifts)
    return nearest_rotations(mean), shifts


def nearest_rotations(matrices: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """The rotations that have the largest trace against matrices."""
    left, _, right = torch.linalg.svd(matrices)
    sign = torch.det(left @ right).sign()
    return torch.cat((left[:, :, :2], left[:, :, 2:] * sign[:, None, None]), dim=2) @ right
