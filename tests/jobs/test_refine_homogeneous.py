"""Homogeneous refinement as a job: simulated particles come back to the truth, noise gives no map, a killed run continues."""

from pathlib import Path

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.families.refinement import mask_maker, read_inputs
from firn.formats.fsc import read_fsc
from firn.formats.particles import read_particles
from firn.formats.volumes import read_volume
from firn.jobs import refine_homogeneous
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.rotation import euler_matrices, rotation_distance
from firn.refine.class_hands import inverted
from firn.refine.homogeneous import Refinement
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, write_session

COARSE = {"initial_lowpass": 40.0, "particle_diameter": 115.0}


def refine(**settings) -> None:
    """Run the job in the working directory."""
    inputs = {"particles": ["keep"], "volume": ["start"]}
    settings = {"particles": "keep", "volume": "start", **settings}
    with open_job(refine_homogeneous.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
        refine_homogeneous.run(job)


def test_poses_and_map_come_back_to_the_truth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = write_session(tmp_path, count=240, snr=0.5, scale_sd=0.3)
    refine(**COARSE, iterations=6)
    table = read_particles("results/map/particles.star")
    found = euler_matrices(torch.tensor(table[["rot", "tilt", "psi"]].to_numpy(np.float64)))
    assert float((rotation_distance(found, truth.rotations) < 8).double().mean()) > 0.85
    assert np.corrcoef(table["scale"], truth.scale)[0, 1] > 0.9
    volume, pixel_size = read_volume("results/map/map.mrc")
    expected = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))
    assert pixel_size == pytest.approx(PIXEL)
    assert resolution_at(fsc(torch.tensor(volume), expected), 0.5, PIXEL, BOX) < 14.0
    written = {path.name for path in Path("results/map").iterdir()}
    assert {"map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star", "job.json"} <= written
    assert {"unmasked", "tight", "corrected"} <= set(read_fsc("results/map/fsc.star").columns)
    assert len(list(Path("logs/map").glob("iteration_*.png"))) == 6


def test_pure_noise_gives_half_maps_that_disagree_beyond_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=160, snr=0.0)
    refine(**COARSE, iterations=3)
    first, second = (torch.tensor(read_volume(f"results/map/half{half}.mrc")[0]) for half in (1, 2))
    curve = fsc(first, second)
    start = round(BOX * PIXEL / 40.0) + 2
    assert float(curve[start:].mean()) < 0.1
    assert float(curve[start:].median()) < 0.143


def test_halves_that_begin_as_mirror_images_end_in_one_hand_with_their_poses(tmp_path, monkeypatch):
    """A start without a hand, such as a shell's at low resolution, lets each half find its own; here they are given two."""
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=240, snr=0.5)
    inputs, slots = {"particles": ["keep"], "volume": ["start"]}, {"particles": "keep", "volume": "start"}
    with open_job(refine_homogeneous.Params, slots | COARSE, inputs, Path("results/map"), "map", threads=1) as job:
        read = read_inputs(job)
        starts = read.start, inverted(read.start)
        refinement = Refinement(read.particles, starts, read.settings, mask_maker(job, read), job.over, job.generator("correlation"))
        first = refinement.step(1, last=False)
        poses = refinement.poses.rotations.clone()
        second = refinement.step(2, last=False)
    for iteration in (first, second):
        one, other = iteration.half_maps
        assert float(fsc(one, other)[2:5].mean()) > float(fsc(one, inverted(other))[2:5].mean()) + 0.1
    stayed = (rotation_distance(refinement.poses.rotations, poses) < 20).double()
    of_half = [float(stayed[read.particles.half == half].mean()) for half in (1, 2)]
    assert of_half[1] == pytest.approx(of_half[0], abs=0.2), of_half


def test_a_run_killed_in_an_iteration_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=60, snr=1.0)
    settings = COARSE | {"iterations": 4, "max_resolution": 20.0, "dynamic_mask_from": 60.0}
    refine(**settings)
    whole = {name: Path(f"results/map/{name}").read_bytes()[1024:] for name in ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc")}
    poses = read_particles("results/map/particles.star")
    step, numbers = Refinement.step, []

    def interrupted(self: Refinement, number: int, last: bool):
        numbers.append(number)
        if numbers.count(3) == 1 and number == 3:
            raise KeyboardInterrupt
        return step(self, number, last)

    monkeypatch.setattr(Refinement, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refine(**settings)
    refine(**settings)
    assert numbers == [1, 2, 3, 3, 4]
    assert read_particles("results/map/particles.star").equals(poses)
    assert {name: Path(f"results/map/{name}").read_bytes()[1024:] for name in whole} == whole


def test_too_few_particles_are_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=10, snr=1.0)
    with pytest.raises(InputError, match="half-sets hold 5 and 5 of 10 particles"):
        refine()


def test_a_diameter_larger_than_the_box_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=60, snr=1.0)
    with pytest.raises(InputError, match="larger than the box"):
        refine(particle_diameter=500.0)
