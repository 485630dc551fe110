"""Local resolution of stationary signals follows from their spectra; local filtering at one resolution is global filtering."""

import pytest
import torch

from firn.kernels.filter import butterworth_low_pass, filter_volumes, radial_frequencies
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import randomise_phases
from firn.kernels.local_resolution import band_frequencies, filter_locally, local_frequencies, local_fsc, resized, window_sigma

WINDOW = 4.0


def coloured_noise(n: int, cut: float, seed: int) -> torch.Tensor:
    """A random signal as strong as white noise of variance 1 at the frequency `cut`, so that half maps correlate by 0.5 there."""
    radii = radial_frequencies((n, n, n)).clamp(min=0.5 / n)
    return filter_volumes(torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed)), ((cut / radii) ** 3).clamp(max=30))


def measured(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    n = signal.shape[0]
    chance = torch.Generator().manual_seed(9)
    spectra = [rfft3(signal + torch.randn(n, n, n, generator=chance)) for _ in range(2)]
    bands = band_frequencies(4 / n, 0.5)
    return local_frequencies(((band, local_fsc(spectra[0], spectra[1], mask, band, window_sigma(band, WINDOW, n))) for band in bands), 0.5)


@pytest.mark.parametrize(("n", "cut"), [(48, 0.2), (49, 0.3)])
def test_a_uniform_signal_has_everywhere_the_resolution_of_its_spectrum(n: int, cut: float):
    found = measured(coloured_noise(n, cut, 1), torch.ones(24, 24, 24))
    assert float(found.median()) == pytest.approx(cut, rel=0.06)
    assert float(((found / cut - 1).abs() < 0.25).float().mean()) > 0.9


def test_two_halves_of_a_box_keep_their_own_resolution():
    n = 64
    left = (torch.arange(n) < n // 2).float()
    signal = coloured_noise(n, 0.16, 1) * left + coloured_noise(n, 0.32, 2) * (1 - left)
    found = measured(signal, torch.ones(32, 32, 32))
    assert 0.13 < float(found[..., 6:10].median()) < 0.21
    assert 0.28 < float(found[..., 22:26].median()) < 0.36


def test_random_phases_beyond_a_shell_correlate_nowhere():
    n, chance = 48, torch.Generator().manual_seed(3)
    signal = coloured_noise(n, 0.4, 1)
    spectra = [rfft3(randomise_phases(signal, 8, chance)) for _ in range(2)]
    ones = torch.ones(24, 24, 24)
    beyond = local_fsc(spectra[0], spectra[1], ones, 0.35, window_sigma(0.35, WINDOW, n))
    assert abs(float(beyond.mean())) < 0.03
    assert float(local_fsc(spectra[0], spectra[1], ones, 0.06, window_sigma(0.06, WINDOW, n)).mean()) > 0.95


def test_what_lies_outside_the_mask_does_not_count():
    n = 48
    signal = coloured_noise(n, 0.3, 1)
    inside = torch.zeros(n, n, n)
    inside[..., : n // 2] = 1
    mask = resized(inside, 24)
    whole, spoilt = (measured(part, mask) for part in (signal, signal * inside))
    torch.testing.assert_close(spoilt[..., 2:9], whole[..., 2:9], atol=0.05, rtol=0.1)


@pytest.mark.parametrize("n", [32, 33])
def test_one_resolution_everywhere_is_one_filter(n: int):
    volume = torch.randn(n, n, n, generator=torch.Generator().manual_seed(4))
    expected = filter_volumes(volume, butterworth_low_pass(radial_frequencies((n, n, n)), 0.2, 8))
    torch.testing.assert_close(filter_locally(volume, torch.full((n, n, n), 0.2)), expected, atol=1e-4, rtol=1e-4)


def test_each_voxel_is_filtered_by_its_own_resolution():
    n = 32
    volume = torch.randn(n, n, n, generator=torch.Generator().manual_seed(5))
    frequencies = torch.full((n, n, n), 0.45)
    frequencies[..., n // 2 :] = 0.1
    out = filter_locally(volume, frequencies)
    radii = radial_frequencies((n, n, n))
    for columns, cut in ((slice(0, 16), 0.45), (slice(16, 32), 0.1)):
        expected = filter_volumes(volume, butterworth_low_pass(radii, cut, 8))
        torch.testing.assert_close(out[..., columns], expected[..., columns], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("n", "side"), [(16, 8), (8, 16), (15, 31), (16, 9)])
def test_a_slope_stays_a_slope_on_another_grid(n: int, side: int):
    ramp = ((torch.arange(n) - n // 2) / n).expand(n, n, n)
    expected = ((torch.arange(side) - side // 2) / side).clamp(float(ramp.min()), float(ramp.max()))
    torch.testing.assert_close(resized(ramp, side)[3, 3], expected, atol=1e-5, rtol=0)
