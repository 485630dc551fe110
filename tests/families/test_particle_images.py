"""Images read whenever they are asked for are those that are read once, and a refinement that must do so ends with the same map."""

from pathlib import Path

import pytest
import torch

from firn.families import memory_needs
from firn.families.particle_images import StoredImages, images_in_memory
from firn.formats.particles import read_particles
from firn.jobs import refine_homogeneous
from firn.runtime import memory_room
from firn.runtime.entry import open_job
from firn.runtime.memory_room import GB, Part, Room
from firn.simulate.phantom import random_phantom
from posed_particles import random_angles, write_particles
from refine_session import write_session


@pytest.mark.parametrize("box", [24, 17])
def test_stored_images_are_those_in_memory_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: int) -> None:
    monkeypatch.chdir(tmp_path)
    write_particles("keep", random_phantom(20, 20.0, seed=3), random_angles(9), 24, 3.0, snr=1.0)
    table = read_particles("keep/particles.star")
    stored, held, rows = StoredImages(table, box), images_in_memory(table, box), torch.tensor([7, 0, 3, 8])
    assert (len(stored), stored.shape) == (9, held.shape)
    torch.testing.assert_close(stored[rows], held[rows], rtol=0, atol=1e-6)


def test_a_refinement_whose_images_do_not_fit_says_so_and_makes_the_same_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=48, snr=1.0)
    settings = {"particles": "keep", "volume": "start", "initial_lowpass": 40.0, "max_resolution": 25.0, "iterations": 2}
    maps, inputs = [], {"particles": ["keep"], "volume": ["start"]}
    for memory in (100 * GB, 1.0 * GB):
        monkeypatch.setattr(memory_room, "host_room", lambda memory=memory: Room(100 * GB, memory, "the machine"))
        monkeypatch.setattr(memory_needs, "images_part", lambda count, side: Part("images", 50 * GB, on_device=False))
        with open_job(refine_homogeneous.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
            refine_homogeneous.run(job)
        maps.append(Path("results/map/map.mrc").read_bytes()[1024:])
    assert maps[0] == maps[1]
    assert any("48 images of 32 px do not fit in memory" in warning for warning in job.warnings)
