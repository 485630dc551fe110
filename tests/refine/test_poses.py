"""One pose out of a posterior."""

import torch

from firn.kernels.pose_grid import grid_step, nearby_nodes, node_rotations
from firn.kernels.rotation import random_rotations, rotation_distance
from firn.refine.expectation import Candidates, Posterior
from firn.refine.poses import mean_pose, nearest_rotations

ORDER = 4


def posterior_about(true: torch.Tensor, shift: torch.Tensor, sigma_steps: float) -> Posterior:
    """Gaussian posterior about rotations `(b, 3, 3)` and shifts `(b, 2)` on grids that do not hold them."""
    nodes = nearby_nodes(true, ORDER, 25, 7)
    turned = rotation_distance(node_rotations(nodes, ORDER), true[:, None]) / (sigma_steps * grid_step(ORDER))
    shifts = torch.cartesian_prod(torch.arange(-3, 4.0), torch.arange(-3, 4.0)).expand(len(true), -1, -1)
    moved = (shifts - shift[:, None]).norm(dim=-1)
    scores = -0.5 * (moved[:, :, None] ** 2 + turned[:, None] ** 2)
    probability = torch.softmax(scores.flatten(1), dim=1).reshape(scores.shape).float()
    every = torch.ones(1, dtype=torch.bool)
    return Posterior(Candidates(nodes, every, shifts, every), probability, ORDER, torch.zeros(0), torch.zeros(0))


def test_the_mean_lies_between_the_nodes_of_the_grid():
    generator = torch.Generator().manual_seed(0)
    true, shift = random_rotations(30, generator), torch.rand(30, 2, generator=generator) - 0.5
    rotations, shifts = mean_pose(posterior_about(true, shift, 0.6))
    assert float(rotation_distance(rotations, true).mean()) < 0.2 * grid_step(ORDER)
    assert float((shifts - shift).abs().max()) < 0.05


def test_another_mode_does_not_draw_the_mean_away():
    true = random_rotations(2, torch.Generator().manual_seed(3))
    both = posterior_about(true, torch.zeros(2, 2), 0.5)
    nodes = torch.cat((both.candidates.nodes[:1], both.candidates.nodes[1:]), dim=1)
    probability = torch.cat((0.6 * both.probability[:1], 0.4 * both.probability[1:]), dim=2)
    candidates = Candidates(nodes, both.candidates.node_ok, both.candidates.shifts[:1], both.candidates.shift_ok)
    rotations, _ = mean_pose(Posterior(candidates, probability, ORDER, torch.zeros(0), torch.zeros(0)))
    assert float(rotation_distance(rotations, true[:1])) < 0.4 * grid_step(ORDER)


def test_the_nearest_rotation_of_a_scaled_rotation_is_itself():
    rotations = random_rotations(5, torch.Generator().manual_seed(1))
    assert torch.allclose(nearest_rotations(0.3 * rotations), rotations, atol=1e-5)
