"""Rotated discs: closed forms, the adjoint, RELION's sign of psi."""

import math
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from firn.formats.mrc import write_volume
from firn.formats.star import write_star
from firn.kernels.fourier import rfft2
from firn.kernels.rotate2d import add_rotated, half_disc, prefix_length, read_rotated

BLOBS = [(5.0, 9.0, 2.0, 1.0), (-8.0, 3.0, 3.0, 0.6), (2.0, -11.0, 2.5, 0.8)]


def turned_blobs(n: int, psi: float) -> torch.Tensor:
    """Gaussians (y, x, sigma, weight) seen at psi: what lies at p in the reference lies at R^-1 p in the image."""
    axis = torch.arange(n) - n // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    c, s = math.cos(math.radians(psi)), math.sin(math.radians(psi))
    image = torch.zeros(n, n)
    for y0, x0, sigma, weight in BLOBS:
        x1, y1 = c * x0 + s * y0, -s * x0 + c * y0
        image += weight * torch.exp(-((y - y1) ** 2 + (x - x1) ** 2) / (2 * sigma**2))
    return image


@pytest.mark.parametrize("n", [64, 65])
@pytest.mark.parametrize("psi", [0.0, 37.0, 180.0, 291.5])
def test_a_turned_disc_is_the_transform_of_the_turned_image(n: int, psi: float) -> None:
    disc = half_disc(n, 20)
    found = read_rotated(turned_blobs(n, 0)[None], torch.tensor([psi]), disc.points)[0, 0]
    wanted = rfft2(turned_blobs(n, psi)).flatten()[disc.layout]
    assert (found - wanted).abs().max() < 0.025 * wanted.abs().max()


@pytest.mark.parametrize("n", [24, 25])
def test_adding_discs_is_the_adjoint_of_reading_them(n: int) -> None:
    chance = torch.Generator().manual_seed(n)
    disc, angles = half_disc(n, 9), torch.tensor([0.0, 33.0, 200.0])
    images = torch.randn(3, n, n, generator=chance)
    values = torch.randn(3, 3, len(disc.points), dtype=torch.complex64, generator=chance)
    forward = (values.conj() * read_rotated(images, angles, disc.points)).real.sum((1, 2))
    backward = (images * add_rotated(values, angles, disc.points, n)).sum((1, 2))
    assert torch.allclose(forward, backward, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [48, 49])
def test_turning_there_and_back_gives_the_image_without_its_mean(n: int) -> None:
    disc, angles = half_disc(n, (n - 1) // 2), torch.tensor([73.0])
    image = turned_blobs(n, 0)
    image = image - image.mean()
    back = add_rotated(read_rotated(image[None], angles, disc.points), angles, disc.points, n)[0] * 2 / n**2
    centre = slice(n // 4, -(n // 4))
    assert torch.corrcoef(torch.stack((back[centre, centre].flatten(), image[centre, centre].flatten())))[0, 1] > 0.995
    assert float((back * image).sum() / image.square().sum()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("n", [16, 17])
def test_a_half_disc_holds_each_friedel_pair_once_and_smaller_discs_are_prefixes(n: int) -> None:
    disc = half_disc(n, 6)
    both = torch.cat((disc.points, -disc.points))
    assert len(torch.unique(both, dim=0)) == 2 * len(disc.points)
    assert bool((disc.shells.diff() >= 0).all())
    assert prefix_length(disc, 4) == int((disc.points.norm(dim=-1).round() <= 4).sum())


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="needs relion_project")
def test_psi_turns_a_reference_as_relion_does(tmp_path: Path) -> None:
    n, psi = 64, 37.0
    depth = np.exp(-((np.arange(n) - n // 2) ** 2) / 8.0)
    write_volume(tmp_path / "volume.mrc", depth[:, None, None] * turned_blobs(n, 0).numpy(), 1.0)
    pandas = pytest.importorskip("pandas")
    angles = {"rlnAngleRot": [0.0], "rlnAngleTilt": [0.0], "rlnAnglePsi": [psi], "rlnOriginXAngst": [3.0], "rlnOriginYAngst": [-2.0]}
    optics = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["g"],
        "rlnImagePixelSize": [1.0],
        "rlnImageSize": [n],
        "rlnImageDimensionality": [2],
    }
    optics |= {"rlnVoltage": [300.0], "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1]}
    write_star(
        tmp_path / "angles.star", {"optics": pandas.DataFrame(optics), "particles": pandas.DataFrame(angles | {"rlnOpticsGroup": [1]})}
    )
    command = ["relion_project", "--i", "volume.mrc", "--ang", "angles.star", "--o", "out", "--angpix", "1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with mrcfile.open(tmp_path / "out.mrcs", permissive=True) as stack:
        seen = np.array(stack.data[0] if stack.data.ndim == 3 else stack.data)
    moved = np.roll(turned_blobs(n, psi).numpy(), (2, -3), axis=(0, 1))
    assert np.corrcoef(seen.ravel(), moved.ravel())[0, 1] > 0.99
