"""The simulator's CTF: closed forms, agreement with the kernels' own formula, and RELION's sign."""

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from firn.formats.mrc import write_volume
from firn.formats.star import write_star
from firn.kernels.ctf import ctf_2d
from firn.simulate.ctf import Optics, contrast_transfer
from firn.simulate.euler import euler_to_matrix
from firn.simulate.micrograph import imaged
from firn.simulate.phantom import phantom_projection, phantom_volume, random_phantom


def test_the_wavelength_at_300_and_200_kv_is_that_of_the_tables() -> None:
    assert Optics(300).wavelength == pytest.approx(0.0196875, rel=1e-4)
    assert Optics(200).wavelength == pytest.approx(0.0250793, rel=1e-4)


def test_the_ctf_at_zero_frequency_is_the_amplitude_contrast() -> None:
    assert contrast_transfer((16, 16), Optics(300, 2.7, 0.07, 1.0), 1e4, 9e3, 30)[0, 0] == pytest.approx(0.07, abs=1e-6)


@pytest.mark.parametrize("shape", [(48, 48), (49, 36)])
@pytest.mark.parametrize(("voltage", "cs", "contrast"), [(300, 2.7, 0.1), (200, 0.001, 0.07)])
def test_two_formulae_written_apart_agree(shape: tuple[int, int], voltage: float, cs: float, contrast: float) -> None:
    optics = Optics(voltage, cs, contrast, 1.7)
    lines = np.meshgrid(np.fft.fftfreq(shape[0], 1.7), np.fft.rfftfreq(shape[1], 1.7), indexing="ij")
    grid = torch.from_numpy(np.stack(lines, axis=-1))
    theirs = ctf_2d(grid, 15000.0, 12500.0, 25.0, voltage, cs, 40.0, contrast)[0].numpy()
    np.testing.assert_allclose(contrast_transfer(shape, optics, 15000, 12500, 25, 40), theirs, atol=2e-3)


def test_protein_is_dark_in_a_micrograph() -> None:
    projection = phantom_projection(random_phantom(40, 30.0, seed=1), np.eye(3), 64, 3.0)
    assert imaged(projection, Optics(pixel_size=3.0), (12000.0, 12000.0, 0.0)).sum() < 0


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="relion_project is not installed")
def test_relion_gives_projections_the_same_ctf(tmp_path: Path) -> None:
    phantom, optics = random_phantom(50, 45.0, seed=8), Optics(300, 2.7, 0.1, 3.0)
    write_volume(tmp_path / "map.mrc", phantom_volume(phantom, 64, 3.0), 3.0)
    group = {
        "rlnOpticsGroupName": "a",
        "rlnOpticsGroup": 1,
        "rlnVoltage": 300.0,
        "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1,
    }
    group |= {"rlnImagePixelSize": 3.0, "rlnImageSize": 64, "rlnImageDimensionality": 2}
    pose = {"rlnAngleRot": 35.0, "rlnAngleTilt": 70.0, "rlnAnglePsi": -20.0, "rlnOriginXAngst": 0.0, "rlnOriginYAngst": 0.0}
    ctf = {"rlnDefocusU": 14000.0, "rlnDefocusV": 11000.0, "rlnDefocusAngle": 30.0, "rlnOpticsGroup": 1}
    write_star(tmp_path / "in.star", {"optics": pd.DataFrame([group]), "particles": pd.DataFrame([pose | ctf])})
    command = ["relion_project", "--i", "map.mrc", "--o", "out", "--ctf", "--ang", "in.star", "--angpix", "3"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with mrcfile.open(tmp_path / "out.mrcs", permissive=True) as mrc:
        image = np.squeeze(np.array(mrc.data, dtype=np.float64))
    ours = -imaged(phantom_projection(phantom, euler_to_matrix(35, 70, -20), 64, 3.0), optics, (14000.0, 11000.0, 30.0))
    assert np.corrcoef(image.ravel(), ours.ravel())[0, 1] > 0.999
