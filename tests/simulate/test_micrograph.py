"""Scenes: where particles lie, and how they and the ice are imaged."""

import numpy as np
import pytest

from firn.simulate.ctf import Optics, contrast_transfer
from firn.simulate.micrograph import Canvas, Scene, ice_contrast, place_particles, protein_contrast
from firn.simulate.phantom import Phantom

OPTICS = Optics(300, 2.7, 0.1, 3.0)


def scene(centres: np.ndarray, defocus: float = 12000.0, slope: tuple[float, float] = (0.0, 0.0)) -> Scene:
    count = len(centres)
    rows = np.tile([defocus, defocus, 0.0], (count, 1))
    return Scene(centres, np.zeros((count, 3)), rows, np.ones(count, dtype=int), (defocus, defocus, 0.0), slope)


def test_particles_keep_their_distance_and_stay_inside() -> None:
    centres = place_particles(40, 400, 300, 35.0, 20.0, np.random.default_rng(1))
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e9 * np.eye(len(centres))
    assert len(centres) == 40
    assert apart.min() >= 35
    assert centres.min() >= 20
    assert (centres.max(axis=0) <= [279, 379]).all()


def test_more_particles_than_fit_are_not_placed() -> None:
    assert 4 <= len(place_particles(1000, 100, 100, 45.0, 5.0, np.random.default_rng(1))) <= 9


def test_a_particle_between_pixels_is_the_same_image_shifted() -> None:
    ball = Phantom(np.array([[4.0, 0.0, 0.0], [-9.0, 5.0, 0.0]]), np.array([9.0, 12.0]), np.array([1e4, 1e4]))
    canvas = Canvas(112, 112, margin=8)
    still, moved = (protein_contrast(scene(np.array([centre])), [ball], canvas, OPTICS, 8.0) for centre in ((50.0, 60.0), (50.4, 59.3)))
    fy, fx = np.fft.fftfreq(canvas.shape[0])[:, None], np.fft.rfftfreq(canvas.shape[1])[None]
    expected = np.fft.irfft2(np.fft.rfft2(still) * np.exp(-2j * np.pi * (0.4 * fx - 0.7 * fy)), s=still.shape)
    assert still[68, 58] < 0
    np.testing.assert_allclose(moved, expected, atol=0.01 * np.abs(still).max())


def test_the_ice_shows_the_rings_of_its_defocus() -> None:
    canvas = Canvas(256, 256, margin=0)
    power = np.abs(np.fft.rfft2(ice_contrast(scene(np.zeros((0, 2))), canvas, OPTICS, 300.0, 1.0, np.random.default_rng(2)))) ** 2
    rings = contrast_transfer((256, 256), OPTICS, 12000, 12000, 0) ** 2
    other = contrast_transfer((256, 256), OPTICS, 13000, 13000, 0) ** 2
    assert power[rings < 0.02].mean() < 0.1 * power[rings > 0.9].mean()
    assert np.corrcoef(power.ravel(), rings.ravel())[0, 1] > np.corrcoef(power.ravel(), other.ravel())[0, 1] + 0.1


def test_tilted_ice_is_more_defocused_where_the_slope_rises() -> None:
    canvas = Canvas(512, 512, margin=0)
    image = ice_contrast(scene(np.zeros((0, 2)), slope=(2000.0, 0.0)), canvas, OPTICS, 300.0, 1.0, np.random.default_rng(3))
    power = np.abs(np.fft.rfft2(image[:, 400:] * np.hanning(512)[:, None] * np.hanning(112)[None])) ** 2
    shape = (512, 112)
    fits = [np.corrcoef(power.ravel(), contrast_transfer(shape, OPTICS, z, z, 0).ravel() ** 2)[0, 1] for z in (10200, 12000, 13500)]
    assert int(np.argmax(fits)) == 2


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_grain_of_the_ice_grows_with_its_strength(strength: float) -> None:
    canvas, empty = Canvas(64, 64, margin=0), scene(np.zeros((0, 2)))
    one, other = (ice_contrast(empty, canvas, OPTICS, 300.0, s, np.random.default_rng(4)) for s in (1.0, strength))
    np.testing.assert_allclose(other, strength * one, rtol=1e-3, atol=1e-6)
