"""Templates: blobs of the right size, rotations in the right sense, filters that pass what they should."""

import math

import pytest
import torch

from firn.kernels.templates import (
    disc_mask,
    draw_blobs,
    draw_lines,
    filter_images,
    high_pass_filter,
    low_pass_filter,
    recentre,
    rotate_rescale,
)


def _spot(n: int, y: float, x: float, width: float = 2.0) -> torch.Tensor:
    line = torch.arange(n).float() - n // 2
    return torch.exp(-((line[:, None] - y) ** 2 + (line[None, :] - x) ** 2) / (2 * width**2))


def _centre_of_mass(image: torch.Tensor) -> tuple[float, float]:
    line = torch.arange(image.shape[-1]).float() - image.shape[-1] // 2
    return float((image.sum(1) @ line) / image.sum()), float((image.sum(0) @ line) / image.sum())


@pytest.mark.parametrize("n", [48, 49])
def test_a_blob_is_the_projection_of_a_ball(n):
    blob = draw_blobs("circle", 100.0, 100.0, torch.zeros(1), n, 4.0)[0]
    assert float(blob.sum()) * 16 == pytest.approx(2 / 3 * math.pi * 50**2, rel=0.02)
    assert float(blob[n // 2, n // 2 + 10]) == pytest.approx(math.sqrt(1 - (40 / 50) ** 2), abs=1e-5)


@pytest.mark.parametrize("n", [48, 49])
def test_a_mask_has_the_area_of_its_diameter(n):
    assert float(disc_mask(100.0, n, 4.0).sum()) * 16 == pytest.approx(math.pi * 50**2, rel=0.05)


def test_a_ring_has_the_area_of_its_disc_less_its_hole():
    ring = draw_blobs("ring", 100.0, 100.0, torch.zeros(1), 64, 2.0)[0]
    assert float(ring.sum()) * 4 == pytest.approx(0.75 * math.pi * 50**2, rel=0.02)
    assert float(ring[32, 32]) == 0


def test_lines_lie_along_their_angles_and_steps_change_sign_across():
    flat, upright, step, _ = draw_lines(62.0, 6.0, torch.tensor([0.0, 90.0]), 33, 3.0)
    assert float(flat[16].sum()) == pytest.approx(21)
    torch.testing.assert_close(upright, flat.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(step, -step.flip(0))
    assert float(flat[16, 2]) == 0


def test_an_ellipse_at_ninety_degrees_is_long_in_y():
    flat, upright = draw_blobs("ellipse", 120.0, 60.0, torch.tensor([0.0, 90.0]), 64, 4.0)
    torch.testing.assert_close(upright, flat.T, atol=1e-3, rtol=0)
    assert float(flat[32].sum()) > float(flat[:, 32].sum())


def test_a_rotation_by_ninety_degrees_moves_x_to_y():
    turned = rotate_rescale(_spot(33, 0, 6)[None], torch.tensor([0.0, 90.0]), 1.0, 33)[0]
    assert _centre_of_mass(turned[0]) == pytest.approx((0, 6), abs=0.05)
    assert _centre_of_mass(turned[1]) == pytest.approx((6, 0), abs=0.05)


@pytest.mark.parametrize("n", [32, 33])
def test_rescaling_keeps_the_origin_and_halves_distances(n):
    turned = rotate_rescale(_spot(n, 0, 6, 3.0)[None], torch.zeros(1), 2.0, 24)[0, 0]
    assert _centre_of_mass(turned) == pytest.approx((0, 3), abs=0.05)


def test_recentring_moves_the_particle_to_the_origin():
    centred = recentre(torch.stack((_spot(40, 5, -7), _spot(40, 0, 0))))
    for image in centred:
        assert _centre_of_mass(image) == pytest.approx((0, 0), abs=0.51)


def test_low_pass_and_high_pass_are_one_half_and_small_at_their_limits():
    assert float(low_pass_filter(torch.tensor(1 / 20), 20.0)) == pytest.approx(0.5)
    assert float(low_pass_filter(torch.tensor(1 / 40), 20.0)) > 0.999
    assert float(high_pass_filter(torch.tensor(0.0), 300.0)) == 0
    assert float(high_pass_filter(torch.tensor(1 / 50), 300.0)) > 0.999


def test_a_factor_of_one_changes_nothing():
    images = torch.randn(2, 20, 21, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(filter_images(images, torch.ones(20, 11)), images)
