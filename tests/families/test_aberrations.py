"""Particles with aberrations that their table names look, to every reader, like particles of a perfect microscope."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from firn.families.aberrations import correct_, iterate_corrected, load_corrected, record_
from firn.families.classification import ParticleDiscs
from firn.families.posed_particles import given_poses, load_posed, read_posed
from firn.families.refinement import particles_of
from firn.formats.mrc import read_mrc, write_stack
from firn.formats.tables import read_table, write_table
from firn.jobs import simulate_particles, subtract_particles
from firn.kernels.grid import fourier_disc
from firn.kernels.rotate2d import half_disc
from firn.runtime.entry import open_job

BOX, PIXEL = 64, 1.6
WRONG = {"beam_tilt": (1.5, -1.0), "trefoil": (3e4, 20.0), "tetrafoil": (6e6, 10.0)}


def simulate(name: str, **microscope) -> pd.DataFrame:
    """A noise-free stack whose particle table is its truth; poses and molecule do not depend on the microscope."""
    settings = {"particles": 12, "box_px": BOX, "pixel_size": PIXEL, "phantom_radius": 24, "resolution": 3.2, "snr": 1e8, "seed": 6}
    settings |= {"defocus_min": 5000, "defocus_max": 6000, "shift_sd": 1.0}
    with open_job(simulate_particles.Params, settings | microscope, {}, Path(f"results/{name}"), "stack", threads=1) as job:
        simulate_particles.run(job)
    table = read_table(f"results/{name}/truth/particles.star", "particles")
    images, pixel_size = read_mrc(f"results/{name}/particles.mrcs")
    write_stack(f"results/{name}/particles.mrcs", 1e-4 * images, pixel_size)
    write_table(f"results/{name}/particles.star", table, "particles")
    return read_posed(Path(f"results/{name}/particles.star"))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    return simulate("perfect"), simulate("wrong", **{name: value for name, value in WRONG.items() if name != "tetrafoil"})


def test_the_images_differ_as_recorded_and_agree_as_read(pair):
    perfect, wrong = (load_corrected(table) for table in pair)
    recorded = torch.tensor(read_mrc("results/wrong/particles.mrcs")[0])
    assert distance(recorded, perfect) > 0.05
    assert distance(wrong, perfect) < 0.01


@pytest.mark.parametrize("batch", [5, 12])
def test_reading_in_batches_changes_nothing(pair, batch):
    parts = [images for _, images in iterate_corrected(pair[1], batch)]
    torch.testing.assert_close(torch.cat(parts), load_corrected(pair[1]))


def test_every_engine_reads_the_same_images_and_ctfs(pair):
    discs = [ParticleDiscs(table, half_disc(BOX, 28, torch.device("cpu")), BOX, PIXEL, 28, 3, torch.device("cpu")) for table in pair]
    spectra = [torch.nn.functional.normalize(torch.view_as_real(part.take(torch.arange(12))[0]).flatten(1)) for part in discs]
    assert distance(spectra[1], spectra[0]) < 0.01
    assert distance(*(particles_of(table, PIXEL, False).images for table in pair[::-1])) < 0.01
    disc = fourier_disc(BOX, 28)
    posed = [load_posed(table, given_poses(table, PIXEL), np.arange(12), disc, torch.device("cpu")) for table in pair]
    assert distance(posed[1].images, posed[0].images) < 0.01


def test_tetrafoil_is_in_the_ctf_of_every_engine():
    perfect, wrong = simulate("perfect"), simulate("wrong", tetrafoil=WRONG["tetrafoil"])
    disc = half_disc(BOX, 28, torch.device("cpu"))
    plain, changed = (
        ParticleDiscs(table, disc, BOX, PIXEL, 28, 3, torch.device("cpu")).take(torch.arange(12))[1] for table in (perfect, wrong)
    )
    assert distance(changed, plain) > 0.1
    points = fourier_disc(BOX, 28).points
    ours = particles_of(wrong, PIXEL, False).optics.at(torch.arange(12), points, PIXEL, BOX)
    theirs = given_poses(wrong, PIXEL).optics.at(torch.arange(12), points, PIXEL, BOX)
    torch.testing.assert_close(ours, theirs)
    sharper = load_posed(wrong, given_poses(wrong, PIXEL), np.arange(12), fourier_disc(BOX, 28), torch.device("cpu"))
    torch.testing.assert_close(sharper.ctf, ours)


def test_taking_away_and_giving_back_are_inverse():
    table = simulate("wrong", **WRONG, magnification=(1.01, 0.004, 0.002, 0.99))
    recorded = torch.tensor(read_mrc("results/wrong/particles.mrcs")[0])
    mended = correct_(recorded.clone(), table)
    assert distance(mended, recorded) > 0.05
    assert distance(record_(mended.clone(), table), recorded) < 0.02


def test_a_map_is_subtracted_from_images_as_they_were_recorded():
    table = simulate("wrong", **WRONG)
    volume, pixel_size = read_mrc("results/wrong/truth/model.mrc")
    Path("results/map").mkdir()
    for half in (1, 2):
        write_stack(f"results/map/half{half}.mrc", volume, pixel_size)
    write_stack("results/map/mask.mrc", np.ones_like(volume), pixel_size)
    settings = {"particles": "wrong", "volume": "map", "mask": "map", "fsc_filter": False}
    inputs = {"particles": ["results/wrong"], "volume": ["results/map"], "mask": ["results/map"]}
    with open_job(subtract_particles.Params, settings, inputs, Path("results/rest"), "rest", threads=1) as job:
        subtract_particles.run(job)
    before, after = (read_mrc(f"results/{name}")[0] for name in ("wrong/particles.mrcs", "rest/particles_0001.mrcs"))
    assert len(table) == 12
    assert np.linalg.norm(after) < 0.1 * np.linalg.norm(before)
