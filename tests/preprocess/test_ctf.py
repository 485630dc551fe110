"""CTF estimation of simulated micrographs, whose CTF comes from another formula, against their truth."""

import numpy as np
import pytest
import torch

from ctf_images import noisy_micrograph
from firn.kernels.ctf_fit import Optics
from firn.preprocess.ctf import CtfEstimate, estimate_ctf
from firn.preprocess.ctf_spectrum import CtfSettings


def estimate(image: np.ndarray, pixel_size: float = 1.3, kv: float = 300.0, cs: float = 2.7, ac: float = 0.1, **settings) -> CtfEstimate:
    with torch.inference_mode():
        return estimate_ctf(torch.from_numpy(image).float(), pixel_size, Optics(kv, cs, ac), CtfSettings(**settings))


def angle_between(first: float, second: float) -> float:
    return abs((first - second + 90) % 180 - 90)


@pytest.mark.parametrize(
    ("kv", "cs", "ac", "u", "v", "angle", "shape"),
    [
        (300.0, 2.7, 0.1, 15400, 14600, 20.0, (800, 900)),
        (300.0, 0.001, 0.07, 22500, 21900, 125.0, (801, 901)),
        (200.0, 2.0, 0.1, 9400, 8600, 170.0, (900, 800)),
    ],
)
def test_defocus_and_astigmatism_are_found_within_a_percent_and_five_degrees(kv, cs, ac, u, v, angle, shape):
    found = estimate(noisy_micrograph(shape, 1.3, u, v, angle, kv, cs, ac, signal=1.5, b_factor=60, seed=1), kv=kv, cs=cs, ac=ac)
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx((u + v) / 2, rel=0.005)
    assert found.defocus_u - found.defocus_v == pytest.approx(u - v, abs=200)
    assert angle_between(found.defocus_angle, angle) < 5.0


def test_the_angle_is_that_of_defocus_u_from_x_towards_increasing_rows():
    """Along +x and +y at 30 degrees defocus is greatest; a transposed image has it at 60 degrees."""
    image = noisy_micrograph((800, 800), 1.3, 16000, 15000, 30.0, signal=1.5, b_factor=60, seed=2)
    assert angle_between(estimate(image).defocus_angle, 30.0) < 5.0
    assert angle_between(estimate(image.T.copy()).defocus_angle, 60.0) < 5.0
    assert angle_between(estimate(image[::-1].copy()).defocus_angle, 150.0) < 5.0


@pytest.mark.parametrize("cut", [6.0, 9.0])
def test_the_fit_resolution_is_where_the_signal_ends(cut):
    found = estimate(noisy_micrograph((900, 900), 1.3, 17800, 17600, 60.0, signal=1.0, cut=cut, seed=3))
    assert cut * 0.85 < found.fit_resolution < cut * 1.25


def test_the_fit_resolution_and_score_fall_as_the_b_factor_rises():
    found = [estimate(noisy_micrograph((900, 900), 1.3, 17800, 17600, 60.0, b_factor=b, signal=0.8, seed=4)) for b in (50, 400, 1200)]
    resolutions = [one.fit_resolution for one in found]
    assert resolutions == sorted(resolutions)
    assert resolutions[-1] > 1.5 * resolutions[0]
    assert found[0].score > found[1].score > found[2].score


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_of_resampled_frames_has_no_rings(seed):
    """Linear interpolation leaves 2/3 + cos(w)/3 of white noise's power along an axis when all shifts occur; the other axis hardly moved."""
    wy, wx = 2 * np.pi * np.fft.fftfreq(900)[:, None], 2 * np.pi * np.fft.rfftfreq(900)
    left = (2 / 3 + np.cos(wy) / 3) * (0.95 + 0.05 * np.cos(wx))
    noise = np.random.default_rng(seed).normal(size=(900, 900))
    found = estimate(np.fft.irfft2(np.fft.rfft2(noise) * np.sqrt(left), s=(900, 900)), pixel_size=2.0)
    assert found.fit_resolution == 25.0
    assert found.score < 0.12


def test_rings_beyond_the_fitted_band_are_followed_where_they_are_and_not_where_they_are_not():
    """The fit sees nothing past 6 Å; rings end at 4.2 Å in one micrograph and at 8 Å in the other."""
    far, near = (
        estimate(noisy_micrograph((900, 900), 1.3, 17800, 17600, 60.0, signal=1.0, b_factor=30, cut=cut, seed=3), max_resolution=6.0)
        for cut in (4.2, 8.0)
    )
    assert 4.2 * 0.85 < far.fit_resolution < 4.2 * 1.25
    assert 8.0 * 0.85 < near.fit_resolution < 8.0 * 1.25


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_has_no_rings_and_a_flat_surface(seed):
    found = estimate(np.random.default_rng(seed).standard_normal((700, 700)))
    assert found.fit_resolution == 25.0
    assert found.surface == (0.0,) * 5
    assert found.score < 0.15


@pytest.mark.parametrize(("u", "v"), [(2600, 2400), (3700, 3500)])
def test_low_defocus_is_not_biased_by_the_decay_of_its_few_rings(u, v):
    found = estimate(noisy_micrograph((1000, 1000), 1.2, u, v, 30.0, signal=1.2, b_factor=90, seed=11), 1.2)
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx((u + v) / 2, abs=35)


def test_a_tilted_specimen_has_its_slope_found_and_a_flat_one_none():
    tilted = estimate(noisy_micrograph((1000, 1000), 1.5, 17800, 17600, 60.0, signal=1.0, slope=(900.0, -400.0), seed=5), 1.5)
    flat = estimate(noisy_micrograph((1000, 1000), 1.5, 17800, 17600, 60.0, signal=1.0, seed=5), 1.5)
    assert tilted.surface[0] == pytest.approx(900, abs=60)
    assert tilted.surface[1] == pytest.approx(-400, abs=60)
    assert (tilted.defocus_u + tilted.defocus_v) / 2 == pytest.approx(17700, rel=0.005)
    assert max(abs(value) for value in flat.surface) < 100


def test_a_bent_specimen_has_its_bend_found_along_the_right_axis():
    image = noisy_micrograph((1300, 1300), 1.5, 15300, 15100, 60.0, signal=1.2, b_factor=60, bend=350.0, seed=12)
    surface = estimate(image, 1.5).surface
    assert surface[2] == pytest.approx(350, abs=100)
    assert abs(surface[4]) < 80
    assert abs(surface[3]) < 80


def test_a_phase_shift_is_found_when_it_is_searched():
    image = noisy_micrograph((900, 900), 1.3, 12200, 12000, 60.0, signal=1.2, phase=70.0, seed=6)
    found = estimate(image, phase_shift=True, min_phase_shift=40.0, max_phase_shift=100.0)
    assert found.phase_shift == pytest.approx(70, abs=12)
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx(12100, rel=0.01)


def test_a_strip_of_gold_does_not_spoil_the_fit():
    image = noisy_micrograph((900, 900), 1.3, 15300, 14900, 20.0, signal=1.2, b_factor=60, seed=7)
    image[:, :120] += 60.0 + 20 * np.random.default_rng(1).standard_normal((900, 120))
    found = estimate(image)
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx(15100, rel=0.01)


def test_an_ice_ring_raises_its_score_and_a_coarse_pixel_has_none():
    shape, pixel = (700, 700), 1.0
    rng = np.random.default_rng(8)
    s = np.hypot(np.fft.fftfreq(700, pixel)[:, None], np.fft.rfftfreq(700, pixel)[None])
    icy = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * (1 + (np.abs(1 / np.maximum(s, 1e-3) - 3.7) < 0.06)), shape)
    assert estimate(rng.standard_normal(shape), 1.0).ice_ring == pytest.approx(1.0, abs=0.1)
    assert estimate(icy, 1.0).ice_ring > 1.5
    assert np.isnan(estimate(rng.standard_normal((400, 400)), 2.0).ice_ring)


def test_an_empty_border_does_not_spoil_the_fit():
    image = noisy_micrograph((900, 1400), 1.3, 15300, 14900, 20.0, signal=1.2, b_factor=60, seed=9)
    image[:, :700] = 0
    found = estimate(image)
    assert found.tiles_used < found.tiles
    assert (found.defocus_u + found.defocus_v) / 2 == pytest.approx(15100, rel=0.01)


def test_a_pixel_too_coarse_for_the_band_is_named():
    with pytest.raises(ValueError, match="spectrum pixels"):
        estimate(np.random.default_rng(0).standard_normal((400, 400)), 12.2)


def test_an_image_without_contrast_is_refused():
    with pytest.raises(ValueError, match="contrast"):
        estimate(np.ones((400, 400)))
