"""Shifts of frames: the likelihood's gradient and curvature are derivatives, correlation finds the shift, rings tell signal from noise."""

import math

import pytest
import torch
from torch import Tensor

from firn.kernels import motion as kernel
from firn.kernels.fourier import plain_irfft2, plain_rfft2
from firn.kernels.spline import difference_penalty

SHAPE, LENGTHS, FRAMES = (48, 64), (60.0, 80.0), 6
BAND = kernel.make_band(SHAPE, LENGTHS)


def signal(seed: int = 0) -> Tensor:
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    return plain_rfft2(image) * torch.exp(-(BAND.radius**2) * 40)


def movie(shifts: Tensor, noise: float, seed: int = 1) -> Tensor:
    """Spectra of frames that the shifts would align."""
    still = signal().expand(len(shifts), -1, -1)
    noises = torch.randn(len(shifts), *SHAPE, generator=torch.Generator().manual_seed(seed)) * noise
    return kernel.move(still, -shifts, BAND) + plain_rfft2(noises)


def log_likelihood(spectra: Tensor, shifts: Tensor, weights: Tensor) -> float:
    total = kernel.move(spectra, shifts, BAND).sum(dim=0)
    return float((weights * BAND.share * kernel.power(total)).double().sum())


def test_frequencies_are_those_of_the_sides_in_angstrom() -> None:
    torch.testing.assert_close(BAND.ky[1], torch.tensor(1 / 60.0))
    torch.testing.assert_close(BAND.kx[-1], torch.tensor(32 / 80.0))
    assert float(BAND.ky[24:].max()) < 0


def test_a_positive_shift_moves_towards_larger_indices() -> None:
    image = torch.zeros(SHAPE)
    image[10, 20] = 1
    moved = plain_irfft2(kernel.move(plain_rfft2(image), torch.tensor([2 * 60 / 48, 3 * 80 / 64]), BAND), SHAPE)
    assert divmod(int(moved.argmax()), 64) == (12, 23)


def test_the_gradient_is_the_derivative_of_the_likelihood() -> None:
    shifts = torch.randn(FRAMES, 2, generator=torch.Generator().manual_seed(2))
    spectra, weights = movie(torch.zeros(FRAMES, 2), 0.1), torch.exp(-(BAND.radius**2) * 10) / 1000
    gradient, power = kernel.likelihood_gradient(spectra, shifts, weights, BAND)
    assert power.shape == BAND.radius.shape
    for frame, axis in ((0, 0), (3, 1)):
        step = torch.zeros_like(shifts)
        step[frame, axis] = 0.01
        slope = (log_likelihood(spectra, shifts + step, weights) - log_likelihood(spectra, shifts - step, weights)) / 0.02
        assert float(gradient[frame, axis]) == pytest.approx(slope, rel=0.02)


def test_shifting_all_frames_alike_changes_nothing() -> None:
    gradient, _ = kernel.likelihood_gradient(movie(torch.zeros(FRAMES, 2), 0.5), torch.rand(FRAMES, 2), torch.ones_like(BAND.radius), BAND)
    assert float(gradient.sum(dim=0).abs().max()) < 1e-3 * float(gradient.abs().max())


def test_the_expected_curvature_is_that_of_a_movie_without_noise() -> None:
    spectra = movie(torch.zeros(FRAMES, 2), 0.0)
    noise = 100.0
    ratio = kernel.power(signal()) / noise
    weights = kernel.likelihood_weights(ratio, FRAMES)
    h = float(kernel.expected_curvature(ratio, weights, BAND))
    step = torch.zeros(FRAMES, 2)
    step[2] = 0.02
    slopes = (
        kernel.likelihood_gradient(spectra, step, weights / noise, BAND)[0]
        - kernel.likelihood_gradient(spectra, -step, weights / noise, BAND)[0]
    ) / 0.04
    assert -float(slopes[2].mean()) == pytest.approx(2 * h * (FRAMES - 1), rel=0.05)
    assert float(slopes[0].mean()) == pytest.approx(2 * h, rel=0.05)


def test_correlation_with_the_other_frames_finds_the_shifts() -> None:
    shifts = torch.tensor([[0.0, 0.0], [2.0, -3.0], [4.0, -5.0], [5.0, -6.0], [5.5, -7.0], [6.0, -7.5]])
    spectra = movie(shifts, 0.02)
    found = torch.zeros(FRAMES, 2)
    weights = torch.exp(-(BAND.radius**2) * 20)
    for _ in range(5):
        found = found + kernel.correlation_step(spectra, found, weights, BAND, (10, 10), 0)
    torch.testing.assert_close(found - found.mean(dim=0), shifts - shifts.mean(dim=0), rtol=0, atol=0.15)


def test_rings_tell_the_signal_from_noise_of_the_same_frames() -> None:
    spectra = movie(torch.zeros(FRAMES, 2), 1.0)
    summed, own = kernel.power(spectra.sum(dim=0)), kernel.power(spectra).sum(dim=0)
    step = 1 / 20
    found, noise, error = kernel.ring_signal(summed, own, 1, FRAMES, BAND, step)
    rings = (BAND.radius / step).round().long()
    true = (kernel.power(signal()) * BAND.share)[rings == 1].sum() / BAND.share[rings == 1].sum()
    assert float(found[1]) == pytest.approx(float(true), abs=4 * float(error[1]))
    assert float(noise[3]) == pytest.approx(math.prod(SHAPE), rel=0.2)


def test_noise_alone_has_no_signal_to_noise() -> None:
    spectra = plain_rfft2(torch.randn(FRAMES, *SHAPE, generator=torch.Generator().manual_seed(9)))
    rings = kernel.ring_signal(kernel.power(spectra.sum(dim=0)), kernel.power(spectra).sum(dim=0), 1, FRAMES, BAND, 1 / 60)
    assert float((kernel.signal_to_noise(*rings) > 0).float().mean()) < 0.15


def test_the_cropped_band_holds_all_frequencies_up_to_its_radius() -> None:
    rows, columns, band = kernel.crop_band(BAND, 0.2)
    assert int((band.radius <= 0.2).sum()) == int((BAND.radius <= 0.2).sum())
    torch.testing.assert_close(BAND.radius[rows, :columns], band.radius)


def test_a_posterior_step_solves_a_quadratic_likelihood_in_one_go() -> None:
    eye = torch.eye(FRAMES, dtype=torch.float64)
    truth = torch.randn(FRAMES, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    truth = truth - truth.mean(dim=0)
    loose = torch.tensor([1e-9], dtype=torch.float64)
    step, covariance = kernel.posterior_step(600 * eye, 600 * truth, 0 * truth, [difference_penalty(FRAMES, 2)], loose)
    torch.testing.assert_close(step, truth, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(covariance.diagonal(), torch.full((FRAMES,), 1 / 600, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_power_of_many_is_the_sum_of_their_powers() -> None:
    spectra = movie(torch.zeros(FRAMES, 2), 1.0)
    torch.testing.assert_close(kernel.power(spectra), spectra.abs().square())
    torch.testing.assert_close(kernel.total_power(spectra), spectra.abs().square().sum(dim=0))


def test_the_evidence_finds_the_precision_that_coefficients_were_drawn_with() -> None:
    count, true = 120, 25.0
    penalty = torch.eye(count, dtype=torch.float64)
    coefficients = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8)) / true**0.5
    precision = usual = torch.tensor([1.0], dtype=torch.float64)
    for _ in range(8):
        precision = kernel.evidence_precisions(coefficients, 1e-9 * penalty, [penalty], precision, usual)
    assert float(precision[0]) == pytest.approx(true, rel=0.3)


def test_data_that_tell_nothing_leave_the_precision_where_it_was_expected() -> None:
    penalty = torch.eye(5, dtype=torch.float64)
    usual = torch.tensor([3.0], dtype=torch.float64)
    found = kernel.evidence_precisions(torch.zeros(5, 2, dtype=torch.float64), penalty / 3, [penalty], usual, usual)
    assert float(found[0]) == pytest.approx(3.0, rel=0.01)
