"""Aligning maps as a job: hand and pose of the map are found, and particle poses follow it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.jobs import align_volumes
from firn.kernels.box import mirror
from firn.kernels.fsc import fsc
from firn.kernels.rotation import random_rotations
from firn.runtime.entry import open_job
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import Phantom, phantom_projection, phantom_volume, random_phantom
from posed_particles import random_angles, write_particles

N, PIXEL = 32, 5.0
PHANTOM = random_phantom(40, 45.0, seed=1, widths=(4.0, 6.0))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def laid(particles: bool = False, **settings: Any) -> dict[str, Any]:
    slots = {"volume": "map", "reference": "reference", **({"particles": "posed"} if particles else {})}
    inputs = {name: [folder] for name, folder in slots.items()}
    with open_job(align_volumes.Params, {**slots, **settings}, inputs, Path("results/laid"), "laid", threads=1) as job:
        align_volumes.run(job)
    return json.loads(Path("results/laid/job.json").read_text(encoding="utf-8"))["metrics"]


def moved_phantom(seed: int) -> Phantom:
    rotation = torch.flip(random_rotations(1, torch.Generator().manual_seed(seed))[0], (0, 1)).double().numpy()
    return Phantom((PHANTOM.positions + np.array([7.0, -4.0, 9.0])) @ rotation.T, PHANTOM.widths, PHANTOM.weights)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_map_comes_to_lie_on_the_reference_and_its_particles_with_it(mirrored: bool):
    other = moved_phantom(3)
    write_particles("posed", other, random_angles(8), N, PIXEL)
    write_volume("map/map.mrc", phantom_volume(other, N, PIXEL), PIXEL)
    truth = torch.tensor(phantom_volume(PHANTOM, N, PIXEL))
    flipped = Phantom(PHANTOM.positions * np.array([1, 1, -1]), PHANTOM.widths, PHANTOM.weights)
    target = mirror(truth) if mirrored else truth
    write_volume("reference/map.mrc", target.numpy(), PIXEL)
    before = read_table("posed/particles.star", "particles")
    metrics = laid(particles=True, resolution=15.0)
    assert metrics["mirrored"]["value"] == float(mirrored)
    assert metrics["correlation"]["value"] > metrics["correlation_other_hand"]["value"] + 0.05
    assert float(fsc(torch.tensor(read_volume("results/laid/map.mrc")[0]), target)[1:12].min()) > 0.99
    after = read_table("results/laid/particles.star", "particles")
    for old, new in zip(before.itertuples(), after.itertuples(), strict=True):
        first, second = (
            phantom_projection(phantom, euler_to_matrix(row.rot, row.tilt, row.psi), N, PIXEL, (-row.origin_x, -row.origin_y))
            for phantom, row in ((other, old), (flipped if mirrored else PHANTOM, new))
        )
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.995


def test_half_maps_and_mask_move_alike_and_pixel_size_and_box_become_the_references():
    other = moved_phantom(4)
    for name in ("map", "half1", "half2", "mask"):
        volume = phantom_volume(other, 50, 3.6)
        write_volume(f"map/{name}.mrc", (volume > 0.3 * volume.max()).astype(np.float32) if name == "mask" else volume, 3.6)
    write_volume("reference/map.mrc", phantom_volume(PHANTOM, N, PIXEL), PIXEL)
    laid(resolution=15.0, both_hands=False)
    moved = {name: read_volume(f"results/laid/{name}.mrc") for name in ("map", "half1", "half2", "mask")}
    np.testing.assert_allclose(moved["half1"][0], moved["map"][0], atol=1e-5)
    assert moved["map"][0].shape == (N, N, N)
    assert moved["map"][1] == pytest.approx(PIXEL)
    assert 0 <= moved["mask"][0].min() <= moved["mask"][0].max() <= 1
    dense = moved["map"][0] > np.percentile(moved["map"][0], 97)
    assert moved["mask"][0][dense].mean() > 10 * moved["mask"][0][~dense].mean()


def test_an_empty_map_is_refused():
    write_volume("map/map.mrc", np.zeros((N, N, N), np.float32), PIXEL)
    write_volume("reference/map.mrc", phantom_volume(PHANTOM, N, PIXEL), PIXEL)
    with pytest.raises(InputError, match="the map is empty"):
        laid()
