"""Pose grids: how many, how even, how far."""

import pytest
import torch

from firn.kernels.rotation import random_rotations, rotation_distance
from firn.kernels.sampling import (
    direction_grid,
    healpix_angles,
    local_rotations,
    rotation_grid,
    rotations_from_vectors,
    shift_grid,
    spiral_directions,
)


def unit_vectors(angles: torch.Tensor) -> torch.Tensor:
    """xyz directions of (rot, tilt) in degrees."""
    rot, tilt = torch.deg2rad(angles).unbind(-1)
    return torch.stack((torch.sin(tilt) * torch.cos(rot), torch.sin(tilt) * torch.sin(rot), torch.cos(tilt)), dim=-1)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_healpix_points_cover_the_sphere_evenly(order):
    points = unit_vectors(healpix_angles(order))
    assert len(points) == 12 * 4**order
    assert points.mean(0).abs().max() < 1e-9
    assert torch.allclose(points.T @ points / len(points), torch.eye(3, dtype=torch.float64) / 3, atol=0.04 / 4**order)
    spacing = (points @ points.T).fill_diagonal_(-1).amax(1).clamp(-1, 1).acos().rad2deg()
    assert spacing.min() > 0.6 * 58.6 / 2**order


def test_the_coarsest_healpix_points_are_those_of_the_paper():
    z = torch.cos(torch.deg2rad(healpix_angles(0)[:, 1]))
    assert torch.allclose(z, torch.tensor([2 / 3] * 4 + [0.0] * 4 + [-2 / 3] * 4, dtype=torch.float64))
    assert torch.allclose(
        healpix_angles(0)[:, 0], torch.tensor([45.0, 135, 225, 315, 0, 90, 180, 270, 45, 135, 225, 315], dtype=torch.float64)
    )


@pytest.mark.parametrize(("order", "step"), [(1, 30.0), (2, 15.0)])
def test_every_rotation_has_a_grid_rotation_nearby(order, step):
    grid = rotation_grid(order)
    assert len(grid) == 12 * 4**order * 6 * 2**order
    distance = rotation_distance(random_rotations(100, torch.Generator().manual_seed(1))[:, None], grid[None])
    assert distance.amin(1).max() < step


@pytest.mark.parametrize(("group", "order"), [("C4", 4), ("D2", 4), ("O", 24), ("I", 60)])
def test_symmetry_divides_the_directions_by_the_order_of_the_group(group, order):
    assert abs(len(direction_grid(4, group)) / (12 * 4**4 / order) - 1) < 0.15


def test_local_rotations_hold_the_identity_and_stay_within_the_radius():
    rotations = local_rotations(2.0, 4.0)
    angles = rotation_distance(rotations, torch.eye(3))
    assert len(rotations) == 33
    assert angles.max() < 4.01
    assert (angles < 1e-3).sum() == 1


def test_a_rotation_vector_along_z_turns_x_towards_y():
    turned = rotations_from_vectors(torch.tensor([90.0, 0, 0])) @ torch.tensor([0.0, 0, 1])
    assert torch.allclose(turned, torch.tensor([0.0, 1, 0]), atol=1e-6)


def test_shifts_fill_a_disc():
    shifts = shift_grid(2.0, 1.0)
    assert len(shifts) == 13
    assert (shifts == 0).all(-1).sum() == 1
    assert len(shift_grid(0.0, 1.0)) == 1


@pytest.mark.parametrize("count", [30, 101])
def test_spiral_directions_are_evenly_spread(count):
    angles = torch.deg2rad(spiral_directions(count))
    rot, tilt = angles.unbind(-1)
    points = torch.stack((torch.sin(tilt) * torch.cos(rot), torch.sin(tilt) * torch.sin(rot), torch.cos(tilt)), dim=-1)
    assert float(points.mean(0).norm()) < 0.05
    nearest = (torch.cdist(points, points) + 9 * torch.eye(count)).min(1).values
    assert float(nearest.min()) > 0.75 * float(nearest.median())
    assert len(spiral_directions(count)) == count


def test_one_direction_is_left_of_many_that_are_the_same():
    assert len(spiral_directions(1, "O")) == 1
