"""The defocus surface: what its terms mean, and that they do not move the mean."""

import math

import pytest
import torch

from firn.kernels.defocus_surface import normalised_points, specimen_tilt, surface_offset


def test_corners_of_the_micrograph_are_the_corners_of_the_unit_square():
    points = normalised_points(torch.tensor([0.0, 99.0, 49.5]), torch.tensor([0.0, 49.0, 24.5]), width=100, height=50)
    assert torch.equal(points, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]))


def test_slope_x_rises_along_columns_and_slope_y_along_rows():
    points = normalised_points(torch.tensor([99.0, 0.0]), torch.tensor([0.0, 49.0]), 100, 50)
    assert torch.allclose(surface_offset(torch.tensor([100.0, 0, 0, 0, 0]), points), torch.tensor([100.0, -100.0]))
    assert torch.allclose(surface_offset(torch.tensor([0, 30.0, 0, 0, 0]), points), torch.tensor([-30.0, 30.0]))


def test_every_term_has_mean_zero_over_the_micrograph():
    axis = (torch.arange(400, dtype=torch.float64) + 0.5) / 200 - 1
    points = torch.cartesian_prod(axis, axis)
    assert surface_offset(torch.eye(5, dtype=torch.float64), points).mean(dim=-1).abs().max() < 1e-4


def test_a_batch_of_coefficients_gives_one_row_of_offsets_each():
    coefficients = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    points = torch.rand(7, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    rows = torch.stack([surface_offset(row, points) for row in coefficients])
    assert surface_offset(coefficients, points).shape == (3, 7)
    assert torch.allclose(surface_offset(coefficients, points), rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tilt", "axis"), [(25.0, 0.0), (10.0, 90.0), (40.0, -135.0), (5.0, 170.0)])
def test_the_tilt_is_that_of_a_plane_rising_at_right_angles_to_its_axis(tilt, axis):
    """On a plane turned about an axis through the centre, defocus is the tangent times the distance from the axis, positive on its +90 degree side."""
    width, height, pixel = 400, 300, 2.0
    rise, direction = math.tan(math.radians(tilt)) * pixel / 2, math.radians(axis + 90)
    slope = (rise * (width - 1) * math.cos(direction), rise * (height - 1) * math.sin(direction), 0.0, 0.0, 0.0)
    assert specimen_tilt(slope, (height, width), pixel) == pytest.approx((tilt, axis), abs=1e-6)


def test_a_surface_without_slope_has_no_tilt():
    assert specimen_tilt((0.0, 0.0, 50.0, 0.0, 0.0), (100, 100), 1.0) == (0.0, 0.0)
