"""RELION reads our poses as we mean them, and we read RELION's."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.particles import load_images
from firn.formats.tables import image_names, read_table, write_table
from firn.kernels.backproject import completed, empty_sums, insert_points_, reconstruct
from firn.kernels.fourier import frequencies2, rfft2, shift_phases
from firn.kernels.fsc import fsc
from firn.kernels.grid import fourier_disc
from firn.kernels.rotation import euler_matrices
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import phantom_projection, phantom_volume, random_phantom

BOX, PIXEL, COUNT = 32, 4.0, 400
PHANTOM = random_phantom(40, 38.0, seed=2, widths=(4.0, 6.0))


def true_table() -> pd.DataFrame:
    """Random poses with shifts."""
    chance = np.random.default_rng(3)
    angles = chance.uniform(-180, 180, (COUNT, 3))
    angles[:, 1] = np.degrees(np.arccos(chance.uniform(-1, 1, COUNT)))
    shifts = chance.normal(0, 8, (COUNT, 2))
    table = pd.DataFrame(
        {"rot": angles[:, 0], "tilt": angles[:, 1], "psi": angles[:, 2], "origin_x": shifts[:, 0], "origin_y": shifts[:, 1]}
    )
    return table.assign(
        image_pixel_size=PIXEL, voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, box_px=BOX, dimensionality=2, optics_name="a"
    )


def backprojected(images: torch.Tensor, table: pd.DataFrame) -> torch.Tensor:
    """Our map from images and the poses of a table."""
    shifts = torch.tensor(table[["origin_y", "origin_x"]].to_numpy(np.float32)) / PIXEL
    spectra = rfft2(images) * shift_phases(frequencies2((BOX, BOX)), shifts)
    disc = fourier_disc(BOX, BOX / 2 - 1)
    rotations = euler_matrices(torch.tensor(table[["rot", "tilt", "psi"]].to_numpy(np.float64))).float()
    sums, weights = empty_sums(2 * BOX)
    half = disc.weights / 2
    insert_points_(
        sums, weights, spectra.flatten(1)[:, disc.index] * half, half.expand(len(images), -1).contiguous(), rotations, disc.points
    )
    return reconstruct(*completed(sums, weights), BOX)


def write_projections(folder, table: pd.DataFrame) -> np.ndarray:
    """Analytic projections, displaced against the origins, as stack and table; returns the images."""
    matrices = euler_to_matrix(*table[["rot", "tilt", "psi"]].to_numpy().T)
    displaced = -table[["origin_x", "origin_y"]].to_numpy()
    images = np.stack([phantom_projection(PHANTOM, r, BOX, PIXEL, tuple(d)) for r, d in zip(matrices, displaced, strict=True)])
    write_stack(folder / "particles.mrcs", images, PIXEL)
    write_table(folder / "particles.star", table.assign(image=image_names("particles.mrcs", COUNT)), "particles")
    return images


def test_our_backprojection_of_analytic_projections_is_the_phantom(tmp_path):
    table = true_table()
    found = backprojected(torch.tensor(write_projections(tmp_path, table)), table)
    assert float(fsc(found, torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL)))[1:11].min()) > 0.95


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="needs relion_reconstruct")
def test_relion_reconstructs_our_particles_to_our_map(tmp_path):
    table = true_table()
    found = backprojected(torch.tensor(write_projections(tmp_path, table)), table)
    subprocess.run(["relion_reconstruct", "--i", "particles.star", "--o", "out.mrc"], cwd=tmp_path, check=True, capture_output=True)
    theirs = torch.tensor(read_mrc(tmp_path / "out.mrc")[0])
    assert float(fsc(found, theirs)[1:11].min()) > 0.9


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="needs relion_project")
def test_we_reconstruct_what_relion_projects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volume("truth.mrc", phantom_volume(PHANTOM, BOX, PIXEL), PIXEL)
    table = true_table().assign(origin_x=0.0, origin_y=0.0)
    write_table("angles.star", table.assign(image=image_names("none.mrcs", COUNT)), "particles")
    subprocess.run(["relion_project", "--i", "truth.mrc", "--o", "proj", "--ang", "angles.star"], check=True, capture_output=True)
    made = read_table("proj.star", "particles")
    found = backprojected(torch.tensor(load_images(made)), made)
    assert float(fsc(found, torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL)))[1:11].min()) > 0.9
