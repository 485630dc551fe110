"""The simulator's microscope: its phases agree with the engine's formulae, which were written apart, and rings look as its defocus says."""

import numpy as np
import pytest
import torch

from firn.formats.aberrations import coefficients
from firn.jobs.simulate_particles import Params, _aberration_columns
from firn.kernels.aberrations import aberrated_phase, image_frequencies, odd_phase, stretched, turned_phases
from firn.simulate.aberrations import Aberrations, aberrated, magnified, observed_defocus
from firn.simulate.aberrations import odd_phase as simulated_odd_phase
from firn.simulate.ctf import Optics, contrast_transfer
from firn.simulate.phantom import phantom_projection, random_phantom

SIDE, PIXEL = 64, 1.4


def grid() -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(SIDE, PIXEL)[:, None], np.fft.rfftfreq(SIDE, PIXEL)[None]


def test_tilt_and_trefoil_have_the_phases_that_the_truth_table_says() -> None:
    params = Params(beam_tilt=(0.8, -0.5), trefoil=(2e4, 35.0))
    columns, optics = _aberration_columns(params), Optics(300, 2.7)
    theirs = simulated_odd_phase(*grid(), optics.wavelength, 2.7, Aberrations(params.beam_tilt, params.trefoil))
    zernike = torch.tensor(coefficients(str(columns["odd_zernike"])))
    ours = odd_phase(image_frequencies(SIDE, PIXEL), (0.8, -0.5), 300.0, 2.7, zernike)
    assert np.abs(theirs).max() > 2
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.01)


def test_tetrafoil_changes_the_ctf_as_the_truth_table_says() -> None:
    params = Params(tetrafoil=(5e6, 12.0))
    even = torch.tensor(coefficients(str(_aberration_columns(params)["even_zernike"])))[None]
    optics = Optics(300, 2.7, 0.1, PIXEL, aberrations=Aberrations(tetrafoil=params.tetrafoil))
    given = {"defocus_u": 9000.0, "defocus_v": 8500.0, "defocus_angle": 20.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    values = {name: torch.tensor(value) for name, value in given.items()}
    ours = torch.sin(aberrated_phase(image_frequencies(SIDE, PIXEL), even, **values))[0]
    theirs = contrast_transfer((SIDE, SIDE), optics, 9000.0, 8500.0, 20.0)
    assert np.abs(theirs - contrast_transfer((SIDE, SIDE), Optics(300, 2.7, 0.1, PIXEL), 9000.0, 8500.0, 20.0)).max() > 0.5
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.01)


def test_the_engine_takes_away_what_the_simulator_does() -> None:
    image = phantom_projection(random_phantom(40, 28.0, seed=3, widths=(1.2, 2.0)), np.eye(3), SIDE, PIXEL)
    wrong = Aberrations((0.8, -0.5), (2e4, 35.0), magnification=(1.03, 0.02, -0.01, 0.98))
    seen = torch.tensor(aberrated(image, PIXEL, Optics(300).wavelength, 2.7, wrong)).float()[None]
    zernike = torch.tensor(coefficients(str(_aberration_columns(Params(trefoil=(2e4, 35.0)))["odd_zernike"])))
    phase = odd_phase(image_frequencies(SIDE, PIXEL), (0.8, -0.5), 300.0, 2.7, zernike)
    mended = turned_phases(stretched(seen, torch.tensor(wrong.matrix)), -phase)[0].numpy()
    assert np.linalg.norm(seen[0].numpy() - image) > 0.1 * np.linalg.norm(image)
    assert np.linalg.norm(mended - image) < 0.01 * np.linalg.norm(image)


@pytest.mark.parametrize("side", [64, 65])
def test_magnification_by_a_multiple_of_one_only_scales(side: int) -> None:
    axis = np.arange(side) - side // 2
    blob = np.exp(-(axis[:, None] ** 2 + (axis[None] - 4) ** 2) / 40)
    wider = np.exp(-((axis[:, None] / 1.25) ** 2 + (axis[None] / 1.25 - 4) ** 2) / 40) / 1.25**2
    np.testing.assert_allclose(magnified(blob, 1.25 * np.eye(2)), wider, atol=1e-4)


def test_the_observed_defocus_explains_rings_of_stretched_images() -> None:
    matrix = np.array([[1.02, 0.01], [0.004, 0.985]])
    true = np.array([[15000.0, 14000.0, 25.0]])
    u, v, angle = observed_defocus(true, matrix)[0]
    fy, fx = 0.03, -0.11

    def path(defocus: tuple[float, float, float], at: np.ndarray) -> float:
        turned = np.deg2rad(2 * (np.degrees(np.arctan2(at[1], at[0])) - defocus[2]))
        return float(((defocus[0] + defocus[1]) / 2 + (defocus[0] - defocus[1]) / 2 * np.cos(turned)) * (at @ at))

    assert path((u, v, angle), np.array([fx, fy])) == pytest.approx(path(tuple(true[0]), matrix @ np.array([fx, fy])), rel=1e-9)
