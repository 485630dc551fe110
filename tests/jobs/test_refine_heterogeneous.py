"""Heterogeneous refinement as a job: species and junk are told apart, a killed run continues, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.particles import read_particles
from firn.formats.volumes import read_volume
from firn.jobs import refine_heterogeneous
from firn.kernels.fsc import fsc
from firn.kernels.mask import soften
from firn.refine.heterogeneous import Heterogeneous
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from refine_session import BOX, PIXEL, simulate, write_particles, write_start

SPECIES = [random_phantom(50, 42.0, seed=seed, widths=(4.0, 6.0)) for seed in (4, 11)]
QUICK = {"particle_diameter": 115.0, "initial_lowpass": 30.0, "max_resolution": 13.0}


def write_mixture(folder: Path, count: int, snr: float, kinds: int, junk: int) -> np.ndarray:
    """Particles in keep/ (kind of each returned, junk last), a start per species, and a ball for the junk, in start/class_*."""
    chance = np.random.default_rng(5)
    of = np.concatenate(((np.arange(count) // 2) % kinds, np.full(junk, kinds)))
    truth = simulate(count + junk, SPECIES[:kinds], of)
    write_particles(folder, truth, truth.clean * np.sqrt(snr) + chance.normal(size=truth.clean.shape))
    volumes = [phantom_volume(phantom, BOX, PIXEL) for phantom in SPECIES[:kinds]]
    axis = np.arange(BOX) - BOX // 2
    ball = np.exp(-0.5 * (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2) / 3.0**2).astype(np.float32)
    for number, volume in enumerate([*volumes, ball * 0.3 * volumes[0].sum() / ball.sum()], start=1):
        (folder / "start").mkdir(exist_ok=True)
        write_start(folder, volume, f"start/class_{number}")
    return of


def sort(volumes: list[str], **settings) -> None:
    inputs = {"particles": ["keep"], "volumes": volumes}
    settings = {"particles": "keep", "volumes": volumes, **QUICK, **settings}
    with open_job(refine_heterogeneous.Params, settings, inputs, Path("results/sorted"), "sorted", threads=1) as job:
        refine_heterogeneous.run(job)


def test_species_and_junk_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = write_mixture(tmp_path, count=120, snr=0.5, kinds=2, junk=14)
    sort(["start"], iterations=4, final_passes=1)
    found = read_particles("results/sorted/all_particles.star")["class_number"].to_numpy() - 1
    assert np.mean(found == kinds) > 0.9
    for number, phantom in enumerate(SPECIES[:2], start=1):
        volume = torch.tensor(read_volume(f"results/sorted/class_{number}/map.mrc")[0])
        truth = torch.tensor(phantom_volume(phantom, BOX, PIXEL))
        mask = soften(truth > 0.05 * truth.max(), 3.0, 1.0)
        assert float(fsc(volume * mask, truth * mask)[2:8].mean()) > 0.8
        own = read_particles(f"results/sorted/class_{number}/particles.star")
        assert set(own["class_number"]) == {number}
    written = {path.name for path in Path("results/sorted/class_1").iterdir()}
    assert written == {"map.mrc", "half1.mrc", "half2.mrc", "fsc.star", "particles.star"}
    assert Path("results/sorted/map.mrc").exists()


def test_no_class_has_detail_that_came_from_noise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mixture(tmp_path, count=120, snr=0.0, kinds=2, junk=0)
    sort(["start/class_1", "start/class_2"], iterations=3, final_passes=1)
    for number in (1, 2):
        first, second = (torch.tensor(read_volume(f"results/sorted/class_{number}/half{half}.mrc")[0]) for half in (1, 2))
        assert float(fsc(first, second)[round(BOX * PIXEL / QUICK["initial_lowpass"]) + 2 :].mean()) < 0.1


def test_a_run_killed_in_an_iteration_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mixture(tmp_path, count=60, snr=1.0, kinds=2, junk=0)
    settings = {"iterations": 4, "final_passes": 1, "max_resolution": 25.0, "batch_per_class": 20}
    volumes = ["start/class_1", "start/class_2"]
    sort(volumes, **settings)
    whole = {name: Path(f"results/sorted/{name}").read_bytes()[1024:] for name in ("class_1/map.mrc", "class_2/half1.mrc")}
    step, numbers = Heterogeneous.step, []

    def interrupted(self: Heterogeneous, iterations: int):
        numbers.append(iterations)
        if len(numbers) == 3:
            raise KeyboardInterrupt
        return step(self, iterations)

    monkeypatch.setattr(Heterogeneous, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sort(volumes, **settings)
    sort(volumes, **settings)
    assert len(numbers) == 5
    assert {name: Path(f"results/sorted/{name}").read_bytes()[1024:] for name in whole} == whole


def test_a_single_volume_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mixture(tmp_path, count=60, snr=1.0, kinds=2, junk=0)
    with pytest.raises(InputError, match="one volume sorts nothing"):
        sort(["start/class_1"])


def test_copies_of_one_map_part_into_the_species_in_both_half_sets_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = write_mixture(tmp_path, count=120, snr=1.5, kinds=2, junk=0)
    sort(["start/class_1", "start/class_1"], iterations=9, final_passes=1, max_resolution=20.0)
    table = read_particles("results/sorted/all_particles.star")
    same = table["class_number"].to_numpy() - 1 == kinds
    halves = [np.mean(same[table["half"] == half]) for half in (1, 2)]
    assert min(halves) > 0.75 or max(halves) < 0.25
