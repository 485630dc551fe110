"""Angular orders: turning is a phase, noise has the covariance of the mask, and the best turn is the true one."""

import math

import pytest
import torch
from torch import Tensor

from firn.kernels.fourier import rfft2, ring_orders, ring_values
from firn.kernels.rotate2d import half_disc, read_rotated
from firn.kernels.steerable import EDGE, angles_for, angular_orders, best_turns, noise_covariance, turned_by
from firn.refine.class2d_average import soft_circle

N, RADIUS = 48, 9
EXTENT = 2 * math.pi * 16 / N


def blobs() -> Tensor:
    """An image without symmetry, well within radius 16, of mean zero: half discs leave the mean out."""
    axis = torch.arange(N) - N // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    spots = ((0, 8, 2.5, 1.0), (-6, -5, 3.0, 0.7), (7, -2, 2.0, -3.1375))
    return sum((weight * torch.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * s**2)) for y0, x0, s, weight in spots), torch.zeros(N, N))


def orders_of(spectra: Tensor) -> Tensor:
    disc = half_disc(N, RADIUS + EDGE)
    return angular_orders(spectra, disc.points, RADIUS, angles_for(RADIUS, EXTENT))


def test_orders_of_a_wave_around_a_ring_are_its_amplitude_and_phase() -> None:
    angles = torch.arange(32) * (2 * math.pi / 32)
    orders = ring_orders(3.0 * torch.exp(1j * (5 * angles + 0.4)))
    assert abs(orders[5] - 3.0 * torch.exp(torch.tensor(0.4j))) < 1e-5
    assert float(orders.abs().sum()) == pytest.approx(3.0, abs=1e-4)
    assert torch.allclose(ring_values(orders, 32), 3.0 * torch.cos(5 * angles + 0.4), atol=1e-5)


def test_turning_an_image_multiplies_order_k_by_k_times_the_angle() -> None:
    disc = half_disc(N, RADIUS + EDGE)
    straight, turned = orders_of(read_rotated(blobs()[None], torch.tensor([0.0, 37.0]), disc.points)[0])
    phase = torch.exp(1j * math.radians(37.0) * torch.arange(len(straight)))[:, None]
    assert float((turned - straight * phase).norm() / straight.norm()) < 0.04
    assert torch.allclose(turned_by(straight[None], torch.tensor([37.0]))[0], straight * phase, atol=1e-3)


def test_noise_within_a_mask_has_the_foretold_covariance() -> None:
    mask = soft_circle(N, 16.0, 4.0)
    noise = torch.randn(1500, N, N, generator=torch.Generator().manual_seed(3)) * mask
    disc = half_disc(N, RADIUS + EDGE)
    orders = orders_of(rfft2(noise).flatten(1)[:, disc.layout] / N)
    found = torch.einsum("bkr,bks->krs", orders, orders.conj()).real / len(orders)
    wanted = noise_covariance(mask, RADIUS, angles_for(RADIUS, EXTENT))
    assert wanted.shape == found.shape
    most = float(wanted.amax())
    assert float((found - wanted).abs().amax()) < 0.2 * most
    assert float((found - wanted).square().mean().sqrt()) < 0.03 * most


def test_the_best_turn_of_a_reference_is_that_of_the_image() -> None:
    chance = torch.Generator().manual_seed(1)
    references = torch.complex(*torch.randn(2, 3, 12, 4, generator=chance))
    references[:, 0] = references[:, 0].real + 0j
    angles = torch.tensor([45.0, 180.0, 315.0])
    product, turn = best_turns(references, turned_by(references, angles), 64)
    assert (turn.diagonal() * 360 / 64).tolist() == angles.tolist()
    assert torch.allclose(product.diagonal(), references.flatten(1).norm(dim=1).square(), rtol=1e-4)
    assert product.argmax(-1).tolist() == [0, 1, 2]
