"""One refinement on several devices: the result of one, halves that never meet, a rank that fails, jobs that are killed or go on."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from firn.errors import InputError, MachineError
from firn.families.refinement import mask_maker, read_inputs
from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.particles import read_particles
from firn.formats.tables import image_names, write_table
from firn.formats.volumes import read_volume
from firn.jobs import refine_heterogeneous, refine_homogeneous, refine_local
from firn.kernels.filter import low_pass_volume
from firn.kernels.mask import soft_sphere
from firn.kernels.rotation import euler_matrices, rotation_distance
from firn.refine.homogeneous import Iteration, Refinement
from firn.runtime.entry import open_job
from refine_session import BOX, PIXEL, write_session

SETTINGS = {
    "particles": "keep", "volume": "start", "initial_lowpass": 40.0, "particle_diameter": 115.0, "iterations": 4,
    "max_resolution": 20.0, "dynamic_mask_from": 60.0, "particle_scale": True,
}  # fmt: skip
"""A mask is made and scales are estimated."""
DETAILED = {"initial_lowpass": 20.0}
"""A start that shows so much that no particle strays after the first iteration, so that the last ones search nearby."""
INPUTS = {"particles": ["keep"], "volume": ["start"]}
MAPS = ("map", "half1", "half2", "mask")


def refine(name: str, devices: int, module=refine_homogeneous, inputs: dict[str, list[str]] = INPUTS, **settings: object) -> Path:
    """Run a job in the working directory; returns its folder."""
    home = Path("results", name)
    with open_job(module.Params, SETTINGS | {"devices": devices} | settings, inputs, home, "map", threads=1) as job:
        module.run(job)
    return home


def maps_of(home: Path) -> dict[str, np.ndarray]:
    return {name: read_volume(home / f"{name}.mrc")[0] for name in MAPS}


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def rotations_of(table: pd.DataFrame) -> torch.Tensor:
    return euler_matrices(torch.tensor(table[["rot", "tilt", "psi"]].to_numpy(np.float64)))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder that also holds what ranks have in common while they work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    table, angles = "keep/particles.star", write_session(tmp_path, count=64, snr=1.0).angles
    write_table(table, read_particles(table).assign(rot=angles[:, 0], tilt=angles[:, 1], psi=angles[:, 2]), "particles")
    return tmp_path


def ranks_of(session: Path) -> list[int]:
    """Processes, other than rank 0, of jobs in a run folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"firn.runtime.rank" in words and any(word.startswith(str(session).encode()) for word in words):
                found.append(int(path.parent.name))
    return found


def assert_alike(alone: Path, together: Path) -> None:
    """Maps and poses differ as float32 sums in another order do; tables say the same of each particle."""
    ones, others = maps_of(alone), maps_of(together)
    assert max(distance(others[name], ones[name]) for name in MAPS) < 1e-3
    one, other = (read_particles(home / "particles.star") for home in (alone, together))
    assert list(one.columns) == list(other.columns)
    assert one["half"].equals(other["half"])
    assert one["image"].equals(other["image"])
    assert float(rotation_distance(rotations_of(one), rotations_of(other)).median()) < 0.01
    assert float((one[["origin_x", "origin_y"]] - other[["origin_x", "origin_y"]]).abs().median().max()) < 0.01
    assert float((one["scale"] - other["scale"]).abs().max()) < 0.01


def test_two_ranks_find_what_one_finds_and_go_on_after_a_stop_with_the_same_bits(session, monkeypatch):
    alone, together = refine("one", 1, **DETAILED), refine("two", 2, **DETAILED)
    assert_alike(alone, together)
    notes = [[json.loads(line) for line in Path(f"logs/{name}.jsonl").read_text().splitlines()] for name in ("one", "two")]
    told = [[(note["iteration"], note["everywhere"]) for note in lines if "iteration" in note] for lines in notes]
    assert told[0] == told[1]
    assert {everywhere for _, everywhere in told[0]} == {True, False}
    step, numbers = Refinement.step, []

    def interrupted(self: Refinement, number: int, last: bool) -> Iteration:
        numbers.append(number)
        if numbers == [1, 2, 3]:
            raise KeyboardInterrupt
        return step(self, number, last)

    monkeypatch.setattr(Refinement, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refine("cut", 2, **DETAILED)
    assert ranks_of(session) == []
    again = refine("cut", 2, **DETAILED)
    assert numbers == [1, 2, 3, 3, 4]
    assert all(np.array_equal(ours, maps_of(again)[name]) for name, ours in maps_of(together).items())
    assert read_particles(together / "particles.star").equals(read_particles(again / "particles.star"))


def test_a_local_refinement_shares_its_particles_too(session):
    Path("ball").mkdir()
    write_volume("ball/mask.mrc", soft_sphere(BOX, 10.0, 3.0).numpy(), PIXEL)
    settings, inputs = {"mask": "ball", "iterations": 2}, INPUTS | {"mask": ["ball"]}
    assert_alike(refine("one", 1, refine_local, inputs, **settings), refine("two", 2, refine_local, inputs, **settings))


def test_a_heterogeneous_refinement_draws_and_parts_the_same_particles_with_two_ranks(session):
    """Two copies of a map, which part by chance, and batches of two thirds of the particles.

    Rounding decides whether the least probable of the orientations that hold 0.97 of a particle's probability is back-projected too
    (with all of them, maps differ by 1e-5): one in a hundred in the weighted sums of a class of 16. Half maps are not weighted: where no
    other particle was, such a slice counts in full, so that they are compared at the resolution that all particles see.
    """
    settings = {name: value for name, value in SETTINGS.items() if name in refine_heterogeneous.Params.model_fields}
    settings |= {"volumes": ["start", "start"], "batch_per_class": 20, "iterations": 3, "final_passes": 1}
    for devices in (1, 2):
        home, inputs = Path(f"results/{devices}"), {"particles": ["keep"], "volumes": ["start", "start"]}
        with open_job(refine_heterogeneous.Params, settings | {"devices": devices}, inputs, home, "sorted", threads=1) as job:
            refine_heterogeneous.run(job)
    one, other = (read_particles(f"results/{devices}/all_particles.star") for devices in (1, 2))
    assert one["class_number"].nunique() == 2
    assert float((one["class_number"] == other["class_number"]).mean()) > 0.95
    assert float((one["class_probability"] - other["class_probability"]).abs().median()) < 0.01
    for group in ("class_1", "class_2"):
        assert distance(*(read_volume(f"results/{devices}/{group}/map.mrc")[0] for devices in (2, 1))) < 0.01
        for half in ("half1", "half2"):
            both = [
                low_pass_volume(torch.tensor(read_volume(f"results/{devices}/{group}/{half}.mrc")[0]), PIXEL, 40.0) for devices in (2, 1)
            ]
            assert distance(both[0].numpy(), both[1].numpy()) < 0.01


def test_images_of_one_half_set_never_reach_the_map_of_the_other(session):
    with open_job(refine_homogeneous.Params, SETTINGS | {"devices": 2}, INPUTS, Path("results/map"), "map", threads=1) as job:
        inputs = read_inputs(job)
        starts, chance = (inputs.start, inputs.start), job.generator("correlation")
        refinement = Refinement(inputs.particles, starts, inputs.settings, mask_maker(job, inputs), job.over, chance)
        beginning = copy.deepcopy(refinement.state())
        before = refinement.step(1, last=False).half_maps
        refinement.restore(beginning)
        second = inputs.particles.half[inputs.particles.held] == 2
        assert 0 < int(second.sum()) < len(inputs.table) / 2
        inputs.particles.images[second] = inputs.particles.images[second].flip(0)
        after = refinement.step(1, last=False).half_maps
    assert torch.equal(before[0], after[0])
    assert distance(after[1].numpy(), before[1].numpy()) > 0.05


def test_what_only_another_rank_meets_ends_the_job_with_its_sentence(session):
    """Rank 1 has the later rows of each half-set, here in a stack of their own."""
    table = read_particles("keep/particles.star")
    stack, pixel_size = read_mrc("keep/particles.mrcs")
    write_stack("keep/later.mrcs", stack[32:], pixel_size)
    table["image"] = [*table["image"][:32], *image_names("keep/later.mrcs", 32)]
    write_table("keep/particles.star", table, "particles")
    Path("keep/later.mrcs").write_bytes(Path("keep/later.mrcs").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"keep/later\.mrcs"):
        refine("broken", 2)
    assert not Path("results/broken").exists()
    assert ranks_of(session) == []


def test_a_rank_that_is_killed_ends_the_job_with_one_sentence(session, monkeypatch):
    step = Refinement.step

    def killing(self: Refinement, number: int, last: bool) -> Iteration:
        if number == 2:
            (rank,) = ranks_of(session)
            os.kill(rank, signal.SIGKILL)
        return step(self, number, last)

    monkeypatch.setattr(Refinement, "step", killing)
    with pytest.raises(MachineError, match="rank 1 of 2 was ended by signal 9"):
        refine("killed", 2)
    assert ranks_of(session) == []


KILLED = """
import sys, time
from pathlib import Path
from firn.jobs import refine_homogeneous
from firn.refine.homogeneous import Iteration, Refinement
from firn.runtime.entry import open_job

def stuck(self, number, last):
    Path("ready").touch()
    time.sleep(3600)

Refinement.step = stuck
settings = {"particles": "keep", "volume": "start", "devices": 2, "initial_lowpass": 40.0}
with open_job(refine_homogeneous.Params, settings, {"particles": ["keep"], "volume": ["start"]}, Path("results/map"), "map", threads=1) as job:
    refine_homogeneous.run(job)
"""


def test_a_job_that_is_killed_leaves_no_rank_behind(session):
    with subprocess.Popen([sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as job:
        while not Path("ready").exists():
            assert job.poll() is None
            time.sleep(0.05)
        assert len(ranks_of(session)) == 1
        job.kill()
    while ranks_of(session):
        time.sleep(0.05)
    assert list(session.glob("firn_ranks_*")) == []
