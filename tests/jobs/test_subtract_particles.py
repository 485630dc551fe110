"""Subtraction leaves the rest of the particle, keeps half-sets apart, and agrees with RELION."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.particles import load_images
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_volume
from firn.jobs import subtract_particles
from firn.kernels.mask import soften
from firn.runtime.entry import open_job
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import Phantom, phantom_projection, phantom_volume, random_phantom
from posed_particles import ctf_images, random_angles, write_particles

BOX, PIXEL = 32, 5.0
PART, REST = (random_phantom(20, 24.0, seed=seed, widths=(4.0, 5.0)) for seed in (1, 2))
PART = Phantom(PART.positions + np.array([0.0, 0.0, 30.0]), PART.widths, PART.weights)
REST = Phantom(REST.positions - np.array([0.0, 0.0, 30.0]), REST.widths, REST.weights)
WHOLE = Phantom(*(np.concatenate((getattr(PART, name), getattr(REST, name))) for name in ("positions", "widths", "weights")))


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noiseless particles of the whole, its maps on three times the images' grey scale, and a mask of the part."""
    monkeypatch.chdir(tmp_path)
    angles = random_angles(60)
    whole = write_particles("posed", WHOLE, angles, BOX, PIXEL)
    rest = write_particles("rest", REST, angles, BOX, PIXEL)
    scales = [unit_scale(phantom, table["defocus_u"].to_numpy(), angles) for phantom, table in ((WHOLE, whole), (REST, rest))]
    np.save("rest_scale.npy", scales[1] / scales[0])
    volume = phantom_volume(WHOLE, BOX, PIXEL) / scales[0]
    for name in ("map", "half1", "half2"):
        write_volume(f"map/{name}.mrc", 3 * volume, PIXEL)
    mask = soften(torch.tensor(phantom_volume(PART, BOX, PIXEL)) > 1e-3 * float(volume.max()), 2.0, 2.0)
    write_volume("mask/mask.mrc", mask.numpy(), PIXEL)


def unit_scale(phantom: Phantom, defocus: np.ndarray, angles: np.ndarray) -> float:
    """What write_particles divided the images by: the standard deviation of the noiseless images at unit density."""
    chance = np.random.default_rng(1)
    origins = chance.normal(0, PIXEL, (len(angles), 2))
    clean = np.stack(
        [phantom_projection(phantom, r, BOX, PIXEL, tuple(-o)) for r, o in zip(euler_to_matrix(*angles.T), origins, strict=True)]
    )
    return float(np.fft.irfft2(np.fft.rfft2(clean) * ctf_images(defocus, BOX, PIXEL), s=(BOX, BOX)).std())


def subtract(**settings: Any) -> dict[str, Any]:
    slots = {"particles": "posed", "volume": "map", "mask": "mask"}
    inputs = {name: [folder] for name, folder in slots.items()}
    given = {**slots, "fsc_filter": False, **settings}
    with open_job(subtract_particles.Params, given, inputs, Path("results/less"), "less", threads=1) as job:
        subtract_particles.run(job)
    return json.loads(Path("results/less/job.json").read_text(encoding="utf-8"))


def images(folder: str) -> np.ndarray:
    return load_images(read_table(f"{folder}/particles.star", "particles"))


def test_what_remains_are_images_of_the_rest_whatever_the_maps_grey_scale():
    record = subtract()
    expected = images("rest") * np.load("rest_scale.npy")
    error = images("results/less") - expected
    assert error.std() < 0.06 * expected.std()
    assert record["metrics"]["grey_factor_half1"]["value"] == pytest.approx(1 / 3, rel=0.02)
    table = read_table("results/less/particles.star", "particles")
    assert table["unsubtracted_image"].tolist() == read_table("posed/particles.star", "particles")["image"].tolist()


def test_each_particle_is_treated_with_the_map_of_its_own_half_set():
    subtract()
    before = images("results/less")
    write_volume("map/half2.mrc", np.roll(read_volume("map/half2.mrc")[0], 3, 0), PIXEL)
    subtract()
    after, half = images("results/less"), read_table("posed/particles.star", "particles")["half"].to_numpy()
    np.testing.assert_array_equal(after[half == 1], before[half == 1])
    assert np.abs(after[half == 2] - before[half == 2]).max() > 0.1


def test_noise_in_half_maps_is_subtracted_less_when_weighted_by_the_fsc():
    chance = np.random.default_rng(3)
    spoilt = read_volume("map/half1.mrc")[0]
    for name in ("half1", "half2"):
        noise = 2.0 * spoilt.std() * chance.normal(size=spoilt.shape)
        write_volume(f"map/{name}.mrc", (spoilt + noise).astype(np.float32), PIXEL)
    expected = images("rest") * np.load("rest_scale.npy")
    errors = []
    for weighted in (False, True):
        subtract(fsc_filter=weighted)
        errors.append(float((images("results/less") - expected).std()))
    assert errors[1] < 0.95 * errors[0]


def test_the_particles_own_scale_multiplies_what_is_subtracted():
    table = read_table("posed/particles.star", "particles")
    subtract(fit_scale=False)
    once = images("posed") - images("results/less")
    write_table("posed/particles.star", table.assign(scale=0.5), "particles")
    subtract(fit_scale=False)
    np.testing.assert_allclose(images("posed") - images("results/less"), 0.5 * once, atol=1e-3)


def test_an_empty_mask_and_maps_of_another_box_are_refused():
    write_volume("mask/mask.mrc", np.zeros((BOX,) * 3, np.float32), PIXEL)
    with pytest.raises(InputError, match="mask is empty"):
        subtract()
    for name in ("half1", "half2"):
        write_volume(f"map/{name}.mrc", np.ones((16,) * 3, np.float32), PIXEL)
    with pytest.raises(InputError, match="16 px"):
        subtract()


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="needs relion_project")
def test_relion_subtracts_the_same():
    subtract(fit_scale=False)
    volume, mask = read_volume("map/half1.mrc")[0], read_volume("mask/mask.mrc")[0]
    write_volume("part.mrc", volume * mask, PIXEL)
    command = ["relion_project", "--i", "part.mrc", "--o", "theirs", "--ang", "posed/particles.star", "--ctf", "--subtract_exp"]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = (images("posed") - stack for stack in (images("results/less"), load_images(read_table("theirs.star", "particles"))))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert (ours * theirs).sum() / (theirs * theirs).sum() == pytest.approx(1, abs=0.03)
