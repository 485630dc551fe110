"""Statements about half maps: masked noise does not pass for signal, and a known decay is found again."""

import math

import numpy as np
import pytest
import torch

from firn.kernels.filter import b_factor_decay, filter_volumes, radial_frequencies
from firn.kernels.fsc import resolution_at
from firn.kernels.mask import centre_distance, soft_sphere
from firn.refine.validation import automatic_mask, corrected_curves, fsc_weights, guinier_fit, log_amplitudes, molecule_mask, spherical_mask
from half_maps import atoms_map, noisy_halves


def tensors(*volumes: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(volume) for volume in volumes)


def test_noise_under_a_hard_tight_mask_has_no_resolution_once_corrected():
    n, generator = 48, torch.Generator().manual_seed(0)
    blob = 30 * soft_sphere(n, 6.0, 12.0)
    first, second = (blob + torch.randn(n, n, n, generator=generator) for _ in range(2))
    mask = soft_sphere(n, 8.0, 0.0)
    curves = corrected_curves(first, second, mask, generator)
    tight, corrected = (resolution_at(curves[name], 0.143, 1.0, n) for name in ("tight", "corrected"))
    assert corrected > 1.3 * tight
    assert curves["corrected"][-8:].abs().mean() < 0.1


def test_the_corrected_curve_of_a_good_map_lies_between_unmasked_and_one():
    halves = tensors(*noisy_halves(atoms_map(48, 1.5), 1.0))
    mask = automatic_mask(*halves, 1.5, 6.0, 12.0)
    curves = corrected_curves(*halves, mask, torch.Generator().manual_seed(1))
    assert (curves["corrected"][1:12] >= curves["unmasked"][1:12] - 0.05).all()
    assert curves["corrected"].max() <= 1.0001


def test_the_corrected_curve_is_that_of_the_signal_inside_the_mask():
    n, pixel_size, noise = 64, 1.5, 1.5
    signal = atoms_map(n, pixel_size, b_factor=120.0)
    halves = tensors(*noisy_halves(signal, noise))
    mask = automatic_mask(*halves, pixel_size, 6.0, 12.0)
    corrected = corrected_curves(*halves, mask, torch.Generator().manual_seed(1))["corrected"]
    power = np.exp(2 * log_amplitudes(torch.from_numpy(signal)).numpy())
    noise_power = (noise * signal.std()) ** 2 * n**3 * (mask**2).mean().item()
    expected = power / (power + noise_power)
    np.testing.assert_allclose(corrected.numpy()[4:24], expected[4:24], atol=0.12)


def test_the_molecule_mask_holds_the_molecule_and_leaves_the_corners():
    n, pixel_size = 48, 1.5
    volume = torch.from_numpy(atoms_map(n, pixel_size))
    mask = molecule_mask(volume, pixel_size, near=6.0, far=12.0)
    distance = centre_distance((n, n, n)) * pixel_size
    assert (mask[distance < 12] > 0.99).all()
    assert mask[distance > 18 + 12 + 12].sum() == 0
    assert (molecule_mask(volume, pixel_size, near=10.0, far=16.0) >= mask).all()


@pytest.mark.parametrize("n", [32, 33])
def test_the_spherical_mask_vanishes_before_the_faces_of_the_box(n: int):
    mask = spherical_mask(n, 2.0)
    assert mask[n // 2, n // 2, n // 2] == 1
    assert mask[0].max() == mask[:, -1].max() == 0


@pytest.mark.parametrize("n", [48, 49])
def test_the_guinier_fit_finds_the_b_factor_that_was_applied(n: int):
    pixel_size, b_factor = 1.4, 150.0
    point = torch.zeros(n, n, n)
    point[n // 2, n // 2, n // 2] = 1.0
    blurred = filter_volumes(point, b_factor_decay(radial_frequencies((n, n, n)), b_factor, pixel_size))
    fit = guinier_fit(log_amplitudes(blurred), pixel_size, n, 10.0, 3.5)
    assert fit is not None
    assert fit[0] == pytest.approx(-b_factor, rel=0.02)
    assert fit[1] == pytest.approx(0.0, abs=0.05)


def test_too_few_shells_give_no_guinier_fit():
    assert guinier_fit(torch.zeros(25), 1.4, 48, 10.0, 9.0) is None
    assert guinier_fit(torch.zeros(25), 1.4, 48, 10.0, 12.0) is None


def test_fsc_weights_are_the_correlation_of_the_mean_map_with_the_truth():
    n, generator = 40, torch.Generator().manual_seed(2)
    truth = torch.randn(n, n, n, generator=generator)
    first, second = (truth + torch.randn(n, n, n, generator=generator) for _ in range(2))
    half_fsc = torch.corrcoef(torch.stack((first, second)).reshape(2, -1))[0, 1]
    to_truth = torch.corrcoef(torch.stack((truth, (first + second) / 2)).reshape(2, -1))[0, 1]
    assert fsc_weights(half_fsc[None]).item() == pytest.approx(to_truth.item(), abs=0.01)
    assert fsc_weights(torch.tensor([1.0, -0.3])).tolist() == [1.0, 0.0]
    assert math.isclose(fsc_weights(torch.tensor([0.143])).item(), 0.5, abs_tol=1e-3)
