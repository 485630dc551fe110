"""Reconstruction from known poses gives the truth, RELION's map, and the other hand on request; halves stay apart."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.particles import read_particles
from firn.formats.tables import write_table
from firn.formats.volumes import read_volume
from firn.jobs import reconstruct
from firn.kernels.box import mirror
from firn.kernels.fsc import fsc
from firn.kernels.mask import soft_sphere
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from firn.simulate.symmetry import symmetry_operators
from posed_particles import random_angles, write_particles

BOX, PIXEL, COUNT = 32, 5.0, 300
PHANTOM = random_phantom(60, 45.0, seed=4, widths=(3.5, 5.0))
BALL = soft_sphere(BOX, 11.0, 4.0)
"""RELION empties the corners of its box; the molecule is compared."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rebuild(name: str = "map", particles: str = "posed", **settings: Any) -> dict[str, Any]:
    given = {"type": "reconstruct", "particles": particles, **settings}
    with open_job(reconstruct.Params, given, {"particles": [particles]}, Path(f"results/{name}"), name, threads=1) as job:
        reconstruct.run(job)
    return json.loads(Path(f"results/{name}/job.json").read_text(encoding="utf-8"))


def volume(path: str) -> torch.Tensor:
    return torch.tensor(read_volume(path)[0])


def test_particles_in_their_true_poses_give_the_truth_and_the_scale_of_each_is_heeded():
    table = write_particles("posed", PHANTOM, random_angles(COUNT), BOX, PIXEL, snr=2.0)
    record = rebuild()
    truth = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))
    assert float(fsc(volume("results/map/map.mrc") * BALL, truth * BALL)[1:13].min()) > 0.9
    assert record["metrics"]["resolution_corrected"]["value"] < 13
    for name in ("half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star"):
        assert (Path("results/map") / name).exists()
    write_table("posed/particles.star", table.assign(scale=2.0), "particles")
    rebuild("scaled")
    np.testing.assert_allclose(2 * volume("results/scaled/half1.mrc"), volume("results/map/half1.mrc"), atol=1e-4)


def test_one_half_map_depends_on_no_particle_of_the_other_half():
    table = write_particles("posed", PHANTOM, random_angles(COUNT), BOX, PIXEL, snr=2.0)
    rebuild()
    spoilt = table["psi"].where(table["half"] == 1, table["psi"] + 90)
    write_table("posed/particles.star", table.assign(psi=spoilt), "particles")
    rebuild("spoilt")
    np.testing.assert_array_equal(volume("results/spoilt/half1.mrc"), volume("results/map/half1.mrc"))
    assert not np.allclose(volume("results/spoilt/half2.mrc"), volume("results/map/half2.mrc"), atol=1e-3)


def test_the_other_hand_is_the_mirrored_map_and_its_poses_give_it_again():
    write_particles("posed", PHANTOM, random_angles(COUNT), BOX, PIXEL)
    rebuild()
    rebuild("other", flip_hand=True)
    rebuild("again", particles="results/other")
    flipped = volume("results/other/half1.mrc")
    np.testing.assert_allclose(flipped, mirror(volume("results/map/half1.mrc")), atol=1e-5)
    assert float(fsc(volume("results/again/half1.mrc"), flipped)[1:14].min()) > 0.998


def test_symmetry_makes_up_for_particles():
    symmetric = random_phantom(20, 45.0, 4, symmetry_operators("C3"), (3.5, 5.0))
    write_particles("posed", symmetric, random_angles(60), BOX, PIXEL, snr=0.5)
    truth = torch.tensor(phantom_volume(symmetric, BOX, PIXEL))
    plain, symmetrised = rebuild(), rebuild("c3", symmetry="C3")
    curves = [fsc(volume(f"results/{name}/half1.mrc"), truth)[4:12].mean() for name in ("map", "c3")]
    assert curves[1] > curves[0] + 0.05
    assert symmetrised["metrics"]["resolution_unmasked"]["value"] < plain["metrics"]["resolution_unmasked"]["value"]


def test_pure_noise_has_no_resolution():
    write_particles("posed", PHANTOM, random_angles(COUNT), BOX, PIXEL, snr=0.0)
    assert rebuild()["metrics"]["resolution_corrected"]["value"] > 40


def test_particles_without_poses_are_refused():
    table = write_particles("posed", PHANTOM, random_angles(20), BOX, PIXEL)
    write_table("posed/particles.star", table.drop(columns=["rot", "tilt"]), "particles")
    with pytest.raises(InputError, match="_rlnAngleRot"):
        rebuild()
    write_table("posed/particles.star", table.assign(half=1), "particles")
    with pytest.raises(InputError, match="20 and 0 of 20"):
        rebuild()


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="needs relion_reconstruct")
def test_relion_reconstruct_makes_the_same_half_maps_and_none_closer_to_the_truth():
    write_particles("posed", PHANTOM, random_angles(4 * COUNT), BOX, PIXEL, snr=0.5)
    rebuild()
    assert len(read_particles("results/map/particles.star")) == 4 * COUNT
    truth = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL)) * BALL
    for half in (1, 2):
        command = ["relion_reconstruct", "--i", "results/map/particles.star", "--o", "theirs.mrc", "--ctf", "--subset", str(half)]
        subprocess.run(command, check=True, capture_output=True)
        ours, theirs = volume(f"results/map/half{half}.mrc") * BALL, volume("theirs.mrc") * BALL
        assert float(fsc(ours, theirs)[1:15].min()) > 0.95
        assert float(fsc(ours, truth)[1:15].mean()) > float(fsc(theirs, truth)[1:15].mean()) - 0.003
