"""Statements about shell correlations: what must be one, minus one, SNR / (1 + SNR), and what RELION finds."""

import math
import shutil
import subprocess

import numpy as np
import pytest
import torch

from firn.formats.mrc import write_volume
from firn.formats.star import read_star
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import first_shell_below, frc, fsc, randomise_phases, resolution_at, shell_average, shell_indices, shell_sum, true_fsc

SIDES = (24, 25)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", SIDES)
def test_a_map_correlates_fully_with_itself_and_with_its_multiple(n: int):
    volume = noise(n, n, n)
    assert fsc(volume, volume).shape == (n // 2 + 1,)
    torch.testing.assert_close(fsc(volume, 3 * volume), torch.ones(n // 2 + 1))


@pytest.mark.parametrize("n", SIDES)
def test_a_flipped_sign_flips_the_correlation(n: int):
    first, second = noise(n, n, n), noise(n, n, n, seed=1)
    torch.testing.assert_close(fsc(first, -second)[1:], -fsc(first, second)[1:])


@pytest.mark.parametrize("n", [40, 41])
@pytest.mark.parametrize("snr", [0.25, 1.0, 4.0])
def test_two_noisy_copies_correlate_as_their_signal_to_noise_ratio_says(n: int, snr: float):
    signal = math.sqrt(snr) * noise(n, n, n)
    curve = fsc(signal + noise(n, n, n, seed=1), signal + noise(n, n, n, seed=2))
    assert curve[8:].mean().item() == pytest.approx(snr / (1 + snr), abs=0.02)


def test_ring_correlation_treats_every_image_of_a_batch_alone():
    first, second = noise(3, 30, 30), noise(3, 30, 30, seed=1)
    second[1] = first[1]
    curves = frc(first, second)
    torch.testing.assert_close(curves[1], torch.ones(16))
    torch.testing.assert_close(curves[2:], frc(first[2:], second[2:]))
    assert curves[0, 5:].abs().max() < 0.5


@pytest.mark.parametrize("n", SIDES)
def test_shell_sums_count_every_voxel_of_the_full_transform_once(n: int):
    indices = shell_indices((n, n, n))
    counted = shell_sum(torch.ones(indices.shape), indices, n)
    axis = np.minimum(np.arange(n), n - np.arange(n))
    radius = np.rint(np.sqrt((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).astype(float))).astype(int)
    np.testing.assert_array_equal(counted.numpy(), np.bincount(radius.reshape(-1))[: n // 2 + 1])


def test_the_shell_average_of_white_noise_is_flat():
    n = 32
    spectrum = rfft3(noise(n, n, n))
    power = shell_average(spectrum.abs() ** 2, shell_indices((n, n, n)), n)
    torch.testing.assert_close(power[4:], torch.full((n // 2 - 3,), float(n**3)), rtol=0.2, atol=0)


def test_shells_of_a_box_that_is_not_a_cube_are_refused():
    with pytest.raises(ValueError, match="square or a cube"):
        shell_indices((8, 8, 10))


def test_empty_spectra_correlate_to_nothing():
    volume = low_pass_volume(noise(24, 24, 24), 1.0, 6.0, edge_shells=0.0)
    curve = fsc(volume, torch.zeros_like(volume))
    torch.testing.assert_close(curve[1:], torch.zeros(12))


def test_resolution_is_read_where_a_straight_line_between_shells_crosses():
    curve = torch.tensor([1.0, 1.0, 0.8, 0.2, 0.5, 0.0])
    assert resolution_at(curve, 0.5, 2.0, 10) == pytest.approx(20 / 2.5)
    assert resolution_at(curve, 0.2, 2.0, 10) == pytest.approx(20 / 4.6)


def test_a_curve_that_never_falls_has_the_resolution_of_its_last_shell():
    assert resolution_at(torch.ones(17), 0.143, 1.5, 32) == pytest.approx(3.0)
    assert first_shell_below(torch.ones(17), 0.8) == 17


def test_a_curve_that_is_nothing_from_the_first_shell_is_coarser_than_the_box():
    assert resolution_at(torch.zeros(17), 0.143, 1.5, 32) > 48


@pytest.mark.parametrize("n", SIDES)
def test_randomised_phases_keep_amplitudes_and_the_inner_shells_and_lose_the_rest(n: int):
    volume = noise(n, n, n)
    randomised = randomise_phases(volume, 7, torch.Generator().manual_seed(1))
    torch.testing.assert_close(rfft3(randomised).abs(), rfft3(volume).abs(), rtol=1e-3, atol=1e-3 * n)
    curve = fsc(volume, randomised)
    torch.testing.assert_close(curve[:7], torch.ones(7), rtol=0, atol=1e-4)
    assert curve[7:].abs().max() < 0.3


def test_the_true_fsc_undoes_what_the_mask_adds():
    true, added = torch.linspace(1, 0, 11), torch.full((11,), 0.3)
    masked = true + added - true * added
    corrected = true_fsc(masked, added, start=4)
    torch.testing.assert_close(corrected[4:], true[4:])
    torch.testing.assert_close(corrected[:4], masked[:4])
    assert true_fsc(torch.tensor([0.2]), torch.tensor([0.4]), 0).item() == 0


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_image_handler") is None, reason="RELION is not installed")
def test_relion_finds_the_same_curve(tmp_path):
    n = 36
    signal = low_pass_volume(noise(n, n, n), 1.0, 5.0)
    first, second = signal + 0.3 * noise(n, n, n, seed=1), signal + 0.3 * noise(n, n, n, seed=2)
    for name, volume in (("a.mrc", first), ("b.mrc", second)):
        write_volume(tmp_path / name, volume.numpy(), 1.0)
    command = ["relion_image_handler", "--i", "a.mrc", "--fsc", "b.mrc", "--angpix", "1"]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    (tmp_path / "fsc.star").write_text(printed[printed.index("data_") :], encoding="utf-8")
    theirs = read_star(tmp_path / "fsc.star")["fsc"]["rlnFourierShellCorrelation"].to_numpy()
    np.testing.assert_allclose(fsc(first, second).numpy()[3:], theirs[3 : n // 2 + 1], atol=0.06)
