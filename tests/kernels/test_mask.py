"""Statements about masks: where they are one, where they are zero, and what they enclose."""

import math

import pytest
import torch

from firn.kernels.mask import centre_distance, largest_components, mask_from_map, soft_disc, soft_sphere, soften, solvent_threshold


@pytest.mark.parametrize("n", [24, 25])
def test_a_soft_sphere_is_one_inside_zero_outside_and_one_half_mid_edge(n: int):
    mask, distance = soft_sphere(n, 5.0, 4.0), centre_distance((n, n, n))
    assert mask[n // 2, n // 2, n // 2] == 1
    assert (mask[distance <= 5] == 1).all()
    assert (mask[distance >= 9] == 0).all()
    assert mask[n // 2, n // 2, n // 2 + 7] == pytest.approx(0.5, abs=1e-6)


def test_a_hard_disc_has_the_area_of_a_circle():
    assert soft_disc(101, 40.0, 0.0).sum().item() == pytest.approx(math.pi * 40**2, rel=0.01)


@pytest.mark.parametrize("n", [30, 31])
def test_softening_a_ball_gives_the_soft_ball(n: int):
    ball = centre_distance((n, n, n)) <= 6
    torch.testing.assert_close(soften(ball, 4.0, dilate_px=2.0), soft_sphere(n, 8.0, 4.0), rtol=0, atol=0.3)
    assert (soften(ball, 4.0) >= ball.float()).all()


def test_softening_nothing_gives_nothing_and_the_argument_stays():
    empty = torch.zeros(8, 8, 8, dtype=torch.bool)
    assert soften(empty, 3.0).sum() == 0
    assert not empty.any()


def test_the_distance_is_not_cut_short_at_the_box_or_far_from_it():
    point = torch.zeros(21, 21, dtype=torch.bool)
    point[2, 3] = True
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    distance = torch.hypot(rows - 2, columns - 3)
    expected = 0.5 + 0.5 * torch.cos(torch.pi * (distance / 5).clamp(0, 1))
    torch.testing.assert_close(soften(point, 5.0), expected)


def test_the_largest_piece_stays_and_its_holes_are_filled():
    volume = torch.zeros(32, 32, 32)
    distance = centre_distance((32, 32, 32))
    volume[(distance <= 9) & (distance >= 5)] = 1.0
    volume[1:3, 1:3, 1:3] = 1.0
    mask = mask_from_map(volume, 0.5, 0.0, 2.0)
    assert mask[16, 16, 16] == 1
    assert mask[:4, :4, :4].sum() == 0
    assert mask_from_map(volume, 0.5, 0.0, 2.0, components=None)[2, 2, 2] == 1


def test_asking_for_more_pieces_than_there_are_keeps_all():
    binary = torch.zeros(9, 9, dtype=torch.bool)
    binary[1, 1] = binary[5, 5:7] = True
    assert largest_components(binary, 1).sum() == 2
    assert torch.equal(largest_components(binary, 5), binary)


@pytest.mark.parametrize("level", [0.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_threshold_parts_a_ball_from_its_solvent_at_any_offset(level: float, noise: float):
    generator = torch.Generator().manual_seed(3)
    ball = soft_sphere(40, 8.0, 4.0)
    volume = level + ball + noise * torch.randn(40, 40, 40, generator=generator)
    threshold = solvent_threshold(volume)
    assert level + 4 * noise <= threshold <= level + 0.7
    assert ((volume > threshold) & (ball == 0)).float().mean() < 1e-3
    assert (volume > threshold)[ball > 0.9].all()
