"""Memory of particle jobs: how it grows, that jobs ask before they read, and that what is predicted is what is used."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from firn.errors import InputError
from firn.families import reconstruction, refinement
from firn.families.memory_needs import (
    TOUCHED,
    classification_2d_needs,
    classification_3d_needs,
    images_part,
    initial_needs,
    padded_numbers,
    posed_batches,
    reconstruction_needs,
    refinement_needs,
    search_tables,
)
from firn.jobs import reconstruct, refine_homogeneous
from firn.refine.ranks import ALONE, Ranks
from firn.refine.state import Settings
from firn.runtime import memory_room
from firn.runtime.entry import open_job
from firn.runtime.memory_room import GB, Part, Room
from firn.simulate.phantom import random_phantom
from posed_particles import random_angles, write_particles


def settings(side: int, group: str = "C1") -> Settings:
    return Settings(group, 0.8 * side, 0.4 * side, 3.0, side / 10, side / 2 - 1, 5.0)


def total(parts: list[Part]) -> float:
    return sum(part.size for part in parts)


def test_padded_half_spectra_have_about_four_numbers_per_voxel():
    assert padded_numbers(128) == pytest.approx(4 * 128**3, rel=0.02)
    assert padded_numbers(128, 16) < padded_numbers(128) / 20


@pytest.mark.parametrize("side", [64, 128])
def test_refinement_holds_every_image_as_float32(side):
    few, many = (total(refinement_needs(count, side, settings(side))) for count in (1000, 11_000))
    assert many - few == pytest.approx(10_000 * (4 * side**2 + 1500), rel=1e-6)


def test_ranks_hold_the_images_once_and_all_else_each():
    alone = settings(64)
    two, gpu = Ranks(), torch.device("cuda")
    two.size = 2
    images = images_part(1000, 64).size
    needs = {ranks.size: refinement_needs(1000, 64, replace(alone, ranks=ranks)) for ranks in (ALONE, two)}
    assert total(needs[2]) == pytest.approx(2 * total(needs[1]) - images)
    there = [
        sum(part.size for part in refinement_needs(1000, 64, replace(alone, ranks=ranks, device=gpu)) if part.on_device)
        for ranks in (ALONE, two)
    ]
    assert there[0] == there[1]


def test_each_structure_of_a_sorting_has_tables_of_its_own():
    one, three = (total(refinement_needs(1000, 64, settings(64), maps=maps)) for maps in (2, 6))
    assert three - one > 2 * TOUCHED * search_tables(64, settings(64))


def test_reconstruction_does_not_hold_images_and_grows_with_the_cube_of_the_box():
    assert total(reconstruction_needs(100_000, 128, 63.5)) - total(reconstruction_needs(10_000, 128, 63.5)) < 0.2 * GB
    growth = total(reconstruction_needs(100, 512, 255.5)) / total(reconstruction_needs(100, 256, 127.5))
    assert 7 < growth < 8


def test_symmetry_makes_tables_smaller_and_limits_bound_them():
    small = search_tables(64, settings(64, "D7")), search_tables(64, settings(64))
    assert small[0] < small[1]
    assert search_tables(256, settings(256)) < 3 * 12 * 2**26


def test_classification_keeps_spectra_only_while_they_fit_its_cache():
    kept, reread = (total(classification_2d_needs(count, 3000, 600_000, 50, 128, 4 * 2**30)) for count in (100_000, 1_000_000))
    assert kept > 2.4 * GB
    assert reread < kept


def test_2d_classes_need_what_they_are_when_turned_to_all_angles_and_their_two_sums():
    few, many = (total(classification_2d_needs(1000, 1500, 222 * 1500, classes, 64, 4 * 2**30)) for classes in (20, 60))
    assert many - few > 40 * 222 * 1500 * 24


def test_more_classes_need_more_maps():
    for needs in (
        lambda classes: classification_3d_needs(5000, 40, 20, classes, 96, 128),
        lambda classes: initial_needs(5000, 40, classes, 96),
    ):
        assert total(needs(4)) > total(needs(2)) + 3 * 12 * padded_numbers(96)


def test_slices_that_wait_are_bounded_however_many_particles_there_are():
    few, many, more = (posed_batches(count, 128, 60.0, 2, 128).size for count in (50, 100_000, 10_000_000))
    assert few < many == more


@pytest.fixture
def stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_particles("keep", random_phantom(30, 40.0, seed=2), random_angles(60), 48, 2.5, snr=1.0)
    monkeypatch.setattr(memory_room, "host_room", lambda: Room(0.3 * GB, 0.3 * GB, "the job's limit"))


@pytest.mark.parametrize(("module", "inputs"), [(reconstruct, ("particles",)), (refine_homogeneous, ("particles", "volume"))])
def test_jobs_that_cannot_fit_are_refused_before_an_image_is_read(stack, monkeypatch, module, inputs):
    def unread(*_: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(reconstruction, "load_posed", unread)
    monkeypatch.setattr(refinement, "images_in_memory", unread)
    slots = {name: ["keep"] for name in inputs}
    with (
        pytest.raises(InputError, match=r"needs about .* of memory \(.*\), but the job's limit has 0.3 GB"),
        open_job(module.Params, dict.fromkeys(inputs, "keep"), slots, Path("results/rec"), "rec", threads=1) as job,
    ):
        module.run(job)
    assert not Path("results/rec").exists()


MEASURED = """
import sys, json
from pathlib import Path
from firn.jobs import reconstruct
from firn.runtime.entry import open_job
with open_job(reconstruct.Params, {"particles": "keep"}, {"particles": ["keep"]}, Path("results/rec"), "rec", threads=1) as job:
    reconstruct.run(job)
"""


def test_a_reconstruction_uses_what_is_predicted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_particles("keep", random_phantom(30, 60.0, seed=2), random_angles(40), 80, 2.2, snr=1.0)
    subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, env={"PYTHONPATH": ":".join(sys.path)})
    used = json.loads(Path("results/rec/job.json").read_text())["peak_memory_mb"] * 2**20
    assert total(reconstruction_needs(40, 80, 39.5)) == pytest.approx(used, rel=0.3)
