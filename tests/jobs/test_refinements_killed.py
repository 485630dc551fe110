"""Refinements killed outright in their seventh iteration: the same command goes on there, and ends with the same bits."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from firn.formats.mrc import write_volume
from firn.formats.particles import read_particles
from firn.kernels.mask import soft_sphere
from firn.refine import homogeneous
from firn.refine.homogeneous import Refinement
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PIXEL, simulate, write_particles, write_start
from refine_session import PHANTOM as MOLECULE

KILLED_IN, ITERATIONS = 7, 8
COARSE = {"initial_lowpass": 40.0, "max_resolution": 20.0, "iterations": ITERATIONS}
SETTINGS = {
    "refine_nonuniform": COARSE | {"particle_diameter": 115.0},
    "refine_local": COARSE | {"mask": "start"},
}
DYING = f"""
import os, signal, sys
import test_refinements_killed as tests
step = tests.Refinement.step

def dying(self, number, last):
    if number == {KILLED_IN}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, last)

tests.Refinement.step = dying
tests.homogeneous.PATIENCE = {ITERATIONS}
tests.refine(sys.argv[1])
"""


def refine(job_type: str) -> None:
    """Run a refinement of what lies in the working directory."""
    module = importlib.import_module(f"firn.jobs.{job_type}")
    inputs = {"particles": ["keep"], "volume": ["start"]} | ({"mask": ["start"]} if job_type == "refine_local" else {})
    settings = {"particles": "keep", "volume": "start"} | SETTINGS[job_type]
    with open_job(module.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
        module.run(job)


def write_posed_session(folder: Path, count: int) -> None:
    """Particles with their poses in keep/, the map and a ball around it in start/."""
    truth = simulate(count, [MOLECULE], np.zeros(count, int))
    images = truth.clean + np.random.default_rng(7).normal(size=truth.clean.shape)
    rot, tilt, psi = truth.angles.T
    write_particles(folder, truth, images, rot=rot, tilt=tilt, psi=psi, origin_x=-truth.shifts[:, 0], origin_y=-truth.shifts[:, 1])
    write_start(folder, phantom_volume(MOLECULE, BOX, PIXEL))
    write_volume(folder / "start/mask.mrc", soft_sphere(BOX, 11.0, 3.0).numpy(), PIXEL)


@pytest.mark.parametrize("job_type", list(SETTINGS))
def test_kill_9_in_the_seventh_iteration_costs_that_iteration_only(tmp_path, monkeypatch, job_type):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(homogeneous, "PATIENCE", ITERATIONS)
    write_posed_session(tmp_path, count=48)
    refine(job_type)
    whole = {name: Path(f"results/map/{name}").read_bytes()[1024:] for name in ("map.mrc", "half1.mrc", "half2.mrc")}
    poses = read_particles("results/map/particles.star")
    last = round(json.loads(Path("results/map/job.json").read_text())["metrics"]["iterations"]["value"])
    assert last >= KILLED_IN
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", DYING, job_type], env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    step, numbers = Refinement.step, []

    def counted(self: Refinement, number: int, last: bool):
        numbers.append(number)
        return step(self, number, last)

    monkeypatch.setattr(Refinement, "step", counted)
    refine(job_type)
    assert numbers == list(range(KILLED_IN, last + 1))
    assert {name: Path(f"results/map/{name}").read_bytes()[1024:] for name in whole} == whole
    assert read_particles("results/map/particles.star").equals(poses)
