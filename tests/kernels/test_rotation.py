"""Rotation conventions."""

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from firn.kernels.rotation import euler_matrices, matrix_angles, random_rotations, rotation_distance


def angles(count: int) -> torch.Tensor:
    low, high = torch.tensor([-180.0, 0.0, -180.0]), torch.tensor([180.0, 180.0, 180.0])
    return low + (high - low) * torch.rand(count, 3, generator=torch.Generator().manual_seed(4))


def test_matrices_are_scipys_intrinsic_zyz_in_reversed_axis_order() -> None:
    given = angles(20)
    expected = Rotation.from_euler("ZYZ", given.numpy(), degrees=True).as_matrix()[:, ::-1, ::-1]
    np.testing.assert_allclose(euler_matrices(given).numpy(), expected, atol=1e-6)


def test_tilt_carries_the_image_normal_towards_rot() -> None:
    normal = euler_matrices(torch.tensor([30.0, 90.0, 50.0])) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(normal, torch.tensor([0.0, math.sin(math.radians(30)), math.cos(math.radians(30))]), atol=1e-6, rtol=0)


def test_angles_and_matrices_are_inverse_even_at_the_poles() -> None:
    special = torch.tensor([[0.0, 0.0, 40.0], [25.0, 0.0, 40.0], [25.0, 180.0, 40.0], [10.0, 90.0, 0.0]])
    matrices = euler_matrices(torch.cat([angles(50), special]).double())
    assert float(rotation_distance(euler_matrices(matrix_angles(matrices)), matrices).max()) < 1e-3


def test_random_rotations_are_proper_and_spread_evenly() -> None:
    matrices = random_rotations(4000, torch.Generator().manual_seed(5))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(4000), atol=1e-5, rtol=0)
    assert float(matrices.mean(dim=0).abs().max()) < 5 / math.sqrt(4000)


def test_the_distance_between_rotations_is_the_angle_between_them() -> None:
    first = euler_matrices(torch.tensor([10.0, 20.0, 30.0]).double())
    second = first @ euler_matrices(torch.tensor([25.0, 0.0, 0.0]).double())
    assert abs(float(rotation_distance(first, second)) - 25) < 1e-6
