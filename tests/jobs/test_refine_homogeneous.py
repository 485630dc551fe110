"""Homogeneous refinement as a job: simulated particles come back to the truth, noise gives no map, files are complete."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from firn.errors import InputError
from firn.formats.fsc import read_fsc
from firn.formats.mrc import write_stack, write_volume
from firn.formats.particles import read_particles
from firn.formats.tables import image_names, write_table
from firn.formats.volumes import read_volume
from firn.jobs import refine_homogeneous
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.rotation import euler_matrices, rotation_distance
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_projection, phantom_volume, random_phantom

BOX, PIXEL = 32, 5.0
PHANTOM = random_phantom(60, 45.0, seed=4, widths=(3.5, 5.0))


def write_session(folder: Path, count: int, snr: float, half: bool = True) -> np.ndarray:
    """Particles and a starting map below a folder; SNR 0 is pure noise. Returns the true angles."""
    chance = np.random.default_rng(1)
    angles = np.stack(
        (chance.uniform(-180, 180, count), np.degrees(np.arccos(chance.uniform(-1, 1, count))), chance.uniform(-180, 180, count)), -1
    )
    rotations = torch.flip(euler_matrices(torch.tensor(angles)), (-2, -1)).numpy()
    shifts = chance.normal(0, 4.0, (count, 2))
    clean = np.stack(
        [phantom_projection(PHANTOM, rotation, BOX, PIXEL, tuple(shift)) for rotation, shift in zip(rotations, shifts, strict=True)]
    )
    defocus = chance.uniform(10000, 25000, count)
    images = np.fft.irfft2(np.fft.rfft2(clean) * ctf(defocus), s=(BOX, BOX))
    images = images / images.std() * np.sqrt(snr) + chance.normal(size=images.shape)
    (folder / "keep").mkdir()
    (folder / "start").mkdir()
    write_stack(folder / "keep/particles.mrcs", images.astype(np.float32), PIXEL)
    table = pd.DataFrame(
        {"image": image_names("keep/particles.mrcs", count), "defocus_u": defocus, "defocus_v": defocus, "defocus_angle": 0.0}
    )
    table = table.assign(
        voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, image_pixel_size=PIXEL, box_px=BOX, dimensionality=2, optics_name="a"
    )
    write_table(folder / "keep/particles.star", table.assign(half=1 + np.arange(count) % 2) if half else table, "particles")
    write_volume(folder / "start/map.mrc", 7.0 * phantom_volume(PHANTOM, BOX, PIXEL), PIXEL)
    return angles


def ctf(defocus: np.ndarray) -> np.ndarray:
    """sin(chi) at 300 kV, 2.7 mm, amplitude contrast 0.1, in the rfft layout."""
    s2 = np.fft.fftfreq(BOX, PIXEL)[:, None] ** 2 + np.fft.rfftfreq(BOX, PIXEL)[None] ** 2
    chi = np.pi * 0.019687 * defocus[:, None, None] * s2 - np.pi / 2 * 2.7e7 * 0.019687**3 * s2**2
    return np.sin(chi + np.arcsin(0.1))


def refine(**settings) -> None:
    """Run the job in the working directory."""
    inputs = {"particles": ["keep"], "volume": ["start"]}
    with open_job(
        refine_homogeneous.Params, {"particles": "keep", "volume": "start", **settings}, inputs, Path("results/map"), "map", threads=1
    ) as job:
        refine_homogeneous.run(job)


def test_poses_and_map_come_back_to_the_truth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    angles = write_session(tmp_path, count=240, snr=0.5)
    refine(initial_lowpass=40.0, particle_diameter=115.0, iterations=6)
    table = read_particles("results/map/particles.star")
    found = euler_matrices(torch.tensor(table[["rot", "tilt", "psi"]].to_numpy(np.float64)))
    errors = rotation_distance(found, euler_matrices(torch.tensor(angles)))
    assert float((errors < 8).double().mean()) > 0.85
    volume, pixel_size = read_volume("results/map/map.mrc")
    truth = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))
    assert pixel_size == pytest.approx(PIXEL)
    assert resolution_at(fsc(torch.tensor(volume), truth), 0.5, PIXEL, BOX) < 14.0
    written = {path.name for path in Path("results/map").iterdir()}
    assert {"map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star", "job.json"} <= written
    assert {"unmasked", "tight", "corrected"} <= set(read_fsc("results/map/fsc.star").columns)


def test_pure_noise_gives_half_maps_that_disagree_beyond_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=160, snr=0.0)
    refine(initial_lowpass=40.0, particle_diameter=115.0, iterations=4)
    first, second = (torch.tensor(read_volume(f"results/map/half{half}.mrc")[0]) for half in (1, 2))
    curve = fsc(first, second)
    start = round(BOX * PIXEL / 40.0) + 2
    assert float(curve[start:].mean()) < 0.1
    assert float(curve[start:].median()) < 0.143


def test_too_few_particles_are_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=10, snr=1.0)
    with pytest.raises(InputError, match="half-sets hold 5 and 5 of 10 particles"):
        refine()


def test_a_diameter_larger_than_the_box_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=60, snr=1.0, half=False)
    with pytest.raises(InputError, match="larger than the box"):
        refine(particle_diameter=500.0)
