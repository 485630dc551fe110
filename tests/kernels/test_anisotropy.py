"""Directional correlation and sampling against closed forms."""

import math

import pytest
import torch

from firn.kernels.anisotropy import (
    area_under,
    conical_fsc,
    correlation_sums,
    half_sphere,
    planar_fsc,
    plane_counts,
    sampling_compensation,
    viewing_directions,
)
from firn.kernels.fourier import frequencies3, irfft3, rfft3
from firn.kernels.fsc import fsc
from firn.kernels.rotation import euler_matrices, random_rotations


def noisy_pair(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    signal, *noise = (torch.randn(n, n, n, generator=chance) for _ in range(3))
    return signal + noise[0], signal + noise[1]


@pytest.mark.parametrize("n", [24, 25])
def test_a_cone_of_ninety_degrees_is_the_whole_shell(n: int):
    pair = noisy_pair(n)
    curves = conical_fsc(correlation_sums(*pair), half_sphere(5)[1], 90.0)
    torch.testing.assert_close(curves.float(), fsc(*pair).expand(5, -1), atol=1e-5, rtol=0)


def test_noise_within_one_cone_spoils_the_fsc_there_and_nowhere_else():
    n, axis = 40, torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    signal = torch.randn(n, n, n, generator=torch.Generator().manual_seed(2))
    other = torch.randn(n, n, n, generator=torch.Generator().manual_seed(3))
    grid = frequencies3((n, n, n)).double()
    inside = (grid @ axis).abs() >= math.cos(math.radians(25)) * grid.norm(dim=-1)
    spoilt = irfft3(torch.where(inside, rfft3(other), rfft3(signal)), (n, n, n))
    axes = torch.stack((axis, -axis, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)))
    curves = conical_fsc(correlation_sums(signal, spoilt), axes, 20.0)[:, 5:]
    assert float(curves[0].abs().mean()) < 0.15
    torch.testing.assert_close(curves[0], curves[1])
    assert float(curves[2].min()) > 0.98
    planes = planar_fsc(correlation_sums(signal, spoilt), axes, 10.0)[:, 5:]
    assert float(planes[2].mean()) < float(planes[0].mean()) - 0.1


def test_the_area_ends_where_a_curve_first_falls_below_the_threshold():
    curves = torch.tensor([[1.0, 0.9, 0.5, 0.1, 0.8], [1.0, 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(area_under(curves, 0.143), torch.tensor([1.4, 4.0]))


def views(tilt: torch.Tensor) -> torch.Tensor:
    rot = torch.rand(len(tilt), generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 360
    return viewing_directions(euler_matrices(torch.stack((rot, tilt, torch.zeros_like(rot)), dim=-1)))


def test_sampling_is_perfect_when_uniform_eight_over_pi_squared_from_the_side_and_poor_from_the_top():
    _, points = half_sphere(1536)
    uniform = viewing_directions(random_rotations(10000, torch.Generator().manual_seed(5)).double())
    assert sampling_compensation(plane_counts(uniform, points, 23))[0] == pytest.approx(1.0, abs=0.02)
    side = sampling_compensation(plane_counts(views(torch.full((10000,), 90.0, dtype=torch.float64)), points, 23))
    assert side[0] == pytest.approx(8 / math.pi**2, abs=0.02)
    assert side[1] == 0
    top, missing = sampling_compensation(plane_counts(views(torch.full((10000,), 10.0, dtype=torch.float64)), points, 23))
    assert top < 0.05
    assert missing == pytest.approx(1 - math.sin(math.radians(10) + math.asin(0.5 / 23)), abs=0.01)
    assert sampling_compensation(torch.zeros(10)) == (0.0, 1.0)


def test_a_view_measures_the_plane_across_it():
    rotation = random_rotations(1, torch.Generator().manual_seed(6)).double()
    in_plane = (rotation @ torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)).reshape(1, 3)
    view = viewing_directions(rotation)
    assert plane_counts(view, torch.cat((in_plane, view)), 23).tolist() == [1.0, 0.0]
