"""Statements about filters: waves pass or vanish, widths add as theory says."""

import math

import pytest
import torch

from firn.kernels.filter import (
    b_factor_decay,
    butterworth_low_pass,
    cosine_low_pass,
    filter_volumes,
    gaussian_low_pass,
    high_pass_images,
    low_pass_images,
    low_pass_volume,
    radial_frequencies,
)


def wave(n: int, cycles: int, dims: int) -> torch.Tensor:
    line = torch.cos(2 * torch.pi * cycles * torch.arange(n) / n)
    return line.expand(*([n] * dims)).contiguous()


@pytest.mark.parametrize("n", [30, 31])
def test_a_low_pass_keeps_coarse_waves_and_removes_fine_ones(n: int):
    coarse, fine = wave(n, 3, 3), wave(n, 11, 3)
    filtered = low_pass_volume(coarse + fine, pixel_size=2.0, resolution=2.0 * n / 7)
    torch.testing.assert_close(filtered, coarse, rtol=0, atol=1e-5)


def test_low_and_high_pass_images_add_up_and_a_mean_is_no_detail():
    images = wave(28, 2, 2) + wave(28, 9, 2) + 5.0
    low, high = low_pass_images(images, 1.0, 28 / 5), high_pass_images(images, 1.0, 28 / 5, edge_pixels=4.0)
    torch.testing.assert_close(low + high, images)
    torch.testing.assert_close(high, wave(28, 9, 2), rtol=0, atol=1e-5)


def test_images_that_are_not_square_are_filtered_by_true_frequency():
    image = torch.cos(2 * torch.pi * 0.25 * torch.arange(40)).expand(24, 40)
    assert low_pass_images(image, 1.0, 8.0).abs().max() < 1e-5
    torch.testing.assert_close(low_pass_images(image, 1.0, 2.8), image, rtol=0, atol=1e-5)


def test_edges_are_where_they_are_said_to_be():
    s = torch.tensor([0.10, 0.15, 0.20, 0.25, 0.30])
    torch.testing.assert_close(cosine_low_pass(s, 0.2, 0.1), torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine_low_pass(s, 0.2, 0.0), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))
    butterworth = butterworth_low_pass(s, 0.2, order=4)
    assert butterworth[2].item() == pytest.approx(1 / math.sqrt(2))
    assert (butterworth.diff() < 0).all()


@pytest.mark.parametrize("n", [32, 33])
def test_a_b_factor_and_the_gaussian_of_its_width_are_the_same_filter(n: int):
    b_factor, pixel_size = 80.0, 1.3
    s = radial_frequencies((n, n, n))
    sigma_px = math.sqrt(b_factor / (8 * math.pi**2)) / pixel_size
    torch.testing.assert_close(b_factor_decay(s, b_factor, pixel_size), gaussian_low_pass(s, sigma_px))


def test_a_blurred_point_is_a_normalised_gaussian():
    n, sigma = 31, 2.0
    point = torch.zeros(n, n, n)
    point[15, 15, 15] = 1.0
    blurred = filter_volumes(point, gaussian_low_pass(radial_frequencies((n, n, n)), sigma))
    peak = (2 * math.pi * sigma**2) ** -1.5
    assert blurred.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert blurred[15, 15, 15].item() == pytest.approx(peak, rel=1e-3)
    assert blurred[15, 18, 15].item() == pytest.approx(peak * math.exp(-9 / 8), rel=1e-3)
