"""Aberrations: RELION's order and signs, closed forms of stretching, and what an inverse must give back."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from firn.formats.mrc import read_mrc, write_volume
from firn.formats.star import write_star
from firn.kernels.aberrations import (
    aberrated_phase,
    coma_factor,
    image_frequencies,
    odd_phase,
    radial_terms,
    stretched,
    turned_phases,
    zernike_basis,
    zernike_mode,
)
from firn.kernels.fourier import rfft2
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import phantom_projection, phantom_volume, random_phantom


def test_modes_come_in_relions_order() -> None:
    assert [zernike_mode(index, odd=True) for index in range(7)] == [(1, -1), (1, 1), (3, -3), (3, -1), (3, 1), (3, 3), (5, -5)]
    assert [zernike_mode(index, odd=False) for index in range(6)] == [(0, 0), (2, -2), (2, 0), (2, 2), (4, -4), (4, -2)]


@pytest.mark.parametrize(("degree", "order"), [(2, 0), (3, 1), (4, 0), (4, 2), (5, 3), (6, 0)])
def test_radial_polynomials_are_one_at_the_rim(degree: int, order: int) -> None:
    assert sum(radial_terms(degree, order).values()) == 1


@pytest.mark.parametrize("odd", [True, False])
def test_polynomials_have_the_parity_of_their_list(odd: bool) -> None:
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    there, mirrored = (zernike_basis(sign * points, 12, odd) for sign in (1, -1))
    torch.testing.assert_close(mirrored, -there if odd else there, rtol=1e-4, atol=1e-4)


def test_coma_grows_with_the_cube_of_the_frequency_along_the_tilt() -> None:
    points = torch.tensor([[0.0, 0.1], [0.0, 0.2], [0.2, 0.0]])
    phase = odd_phase(points, (1.0, 0.0), 300.0, 2.7, torch.zeros(0))
    expected = -2 * math.pi * 2.7e7 * 0.0196875**2 * 1e-3 * 0.001
    assert phase[0] == pytest.approx(expected, rel=1e-3)
    assert phase[1] == pytest.approx(8 * expected, rel=1e-3)
    assert phase[2] == 0
    assert coma_factor(300.0, 2.7) == pytest.approx(-expected * 1000, rel=1e-3)


@pytest.mark.parametrize("side", [32, 33])
def test_phases_taken_away_and_given_back_leave_the_image(side: int) -> None:
    images = torch.randn(2, side, side, generator=torch.Generator().manual_seed(2))
    phase = odd_phase(image_frequencies(side, 1.5), (2.0, -1.0), 300.0, 2.7, torch.tensor([0.0, 0, 30, 0, 0, 20]))
    turned = turned_phases(images, phase)
    assert float((turned - images).abs().max()) > 0.1
    torch.testing.assert_close(turned_phases(turned, -phase), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [64, 65])
def test_a_stretched_gaussian_is_the_gaussian_of_the_stretched_plane(side: int) -> None:
    matrix = torch.tensor([[1.05, 0.03], [-0.02, 0.96]])
    y, x = torch.meshgrid(*[torch.arange(side).double() - side // 2] * 2, indexing="ij")

    def blob(at_x: torch.Tensor, at_y: torch.Tensor) -> torch.Tensor:
        return torch.exp(-((at_x - 5) ** 2) / 18 - (at_y + 3) ** 2 / 32)

    expected = torch.linalg.det(matrix) * blob(1.05 * x - 0.02 * y, 0.03 * x + 0.96 * y)
    torch.testing.assert_close(stretched(blob(x, y)[None].float(), matrix)[0], expected.float(), atol=2e-5, rtol=0)


def test_stretching_and_its_inverse_leave_what_is_fine_enough() -> None:
    image = torch.tensor(phantom_projection(random_phantom(40, 30.0, seed=5), np.eye(3), 64, 2.0)).float()[None]
    matrix = torch.tensor([[1.02, 0.01], [0.0, 0.99]])
    back = stretched(stretched(image, matrix), torch.linalg.inv(matrix))
    assert float((back - image).norm() / image.norm()) < 1e-3


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="relion_project is not installed")
def test_relion_gives_the_ctf_the_same_even_aberrations_in_stretched_frequencies(tmp_path: Path) -> None:
    side, pixel_size, even = 64, 1.5, [0.1, 5.0, -4.0, 6.0, 100.0, -60.0, 50.0, 40.0, 90.0]
    phantom = random_phantom(60, 30.0, seed=8, widths=(1.0, 1.6))
    write_volume(tmp_path / "map.mrc", phantom_volume(phantom, side, pixel_size), pixel_size)
    optics = {"rlnOpticsGroupName": "a", "rlnOpticsGroup": 1, "rlnVoltage": 300.0, "rlnSphericalAberration": 2.7}
    optics |= {"rlnAmplitudeContrast": 0.1, "rlnImagePixelSize": pixel_size, "rlnImageSize": side, "rlnImageDimensionality": 2}
    optics |= {"rlnEvenZernike": "[" + ",".join(map(str, even)) + "]"}
    optics |= {"rlnMagMat00": 1.03, "rlnMagMat01": 0.02, "rlnMagMat10": -0.01, "rlnMagMat11": 0.98}
    row = {"rlnAngleRot": 35.0, "rlnAngleTilt": 70.0, "rlnAnglePsi": -20.0, "rlnOriginXAngst": 0.0, "rlnOriginYAngst": 0.0}
    row |= {"rlnDefocusU": 9000.0, "rlnDefocusV": 8000.0, "rlnDefocusAngle": 30.0, "rlnOpticsGroup": 1}
    write_star(tmp_path / "in.star", {"optics": pd.DataFrame([optics]), "particles": pd.DataFrame([row])})
    command = ["relion_project", "--i", "map.mrc", "--o", "out", "--ctf", "--ang", "in.star", "--angpix", str(pixel_size)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = torch.tensor(np.squeeze(read_mrc(tmp_path / "out.mrcs")[0]))
    flat = torch.tensor(phantom_projection(phantom, euler_to_matrix(35, 70, -20), side, pixel_size)).float()
    frequencies = image_frequencies(side, pixel_size)
    there = (frequencies.flip(-1) @ torch.tensor([[1.03, 0.02], [-0.01, 0.98]]).T).flip(-1)
    one = {"defocus_u": 9000.0, "defocus_v": 8000.0, "defocus_angle": 30.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    phase = aberrated_phase(there, torch.tensor([even]), **{name: torch.tensor(value) for name, value in one.items()})[0]
    ours, theirs_spectrum = rfft2(flat) * torch.sin(phase), rfft2(theirs)
    inside = frequencies.norm(dim=-1) < 0.9 / (2 * pixel_size)
    product = (ours * theirs_spectrum.conj()).real[inside].sum()
    assert float(product / (ours[inside].norm() * theirs_spectrum[inside].norm())) > 0.999
