"""The nested grid of rotations covers all rotations evenly, and children lie in their parents' cells."""

import pytest
import torch

from firn.kernels.pose_grid import all_nodes, child_nodes, direction_angles, finer_nodes, grid_step, nearby_nodes, node_rotations
from firn.kernels.rotation import random_rotations, rotation_distance
from firn.kernels.sampling import healpix_angles


@pytest.mark.parametrize("order", [0, 1, 2])
def test_nested_directions_are_the_ring_directions_in_another_order(order):
    nested = direction_angles(torch.arange(12 * 4**order), order)
    ring = healpix_angles(order)
    assert torch.allclose(_sorted_vectors(nested), _sorted_vectors(ring), atol=1e-6)


def test_children_lie_within_a_step_of_their_parent():
    nodes = all_nodes(2)
    children = child_nodes(nodes, 2)
    distance = rotation_distance(node_rotations(children, 3), node_rotations(nodes, 2)[:, None].expand(-1, 8, -1, -1))
    assert float(distance.max()) < grid_step(2)
    assert sorted(children.flatten().tolist()) == all_nodes(3).tolist()


@pytest.mark.parametrize("order", [2, 4])
def test_the_nearest_nodes_include_one_within_a_step_of_any_rotation(order):
    rotations = random_rotations(200, torch.Generator().manual_seed(0))
    nodes = nearby_nodes(rotations, order)
    distance = rotation_distance(node_rotations(nodes, order), rotations[:, None].expand(-1, nodes.shape[1], -1, -1))
    assert float(distance.amin(dim=1).max()) < grid_step(order)
    assert float(distance.max()) < 4 * grid_step(order)
    assert all(len(set(row)) == nodes.shape[1] for row in nodes.tolist())


@pytest.mark.parametrize(("group", "order"), [("C4", 4), ("D2", 4), ("O", 24)])
def test_an_asymmetric_unit_holds_its_share_of_the_nodes(group, order):
    share = len(all_nodes(3, group)) / len(all_nodes(3))
    assert 1 / order <= share < 1.35 / order


def _sorted_vectors(angles: torch.Tensor) -> torch.Tensor:
    rot, tilt = torch.deg2rad(angles).unbind(-1)
    vectors = torch.stack((torch.cos(tilt), torch.sin(tilt) * torch.cos(rot), torch.sin(tilt) * torch.sin(rot)), dim=-1)
    keys = (vectors.round(decimals=6) * torch.tensor([1e6, 1e3, 1.0])).sum(-1)
    return vectors[keys.argsort()]


def test_finer_nodes_are_all_children_in_order():
    nodes = all_nodes(2, "D2")
    assert torch.equal(finer_nodes(nodes, 2), child_nodes(nodes, 2).flatten().sort().values)
