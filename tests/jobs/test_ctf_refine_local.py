"""Local CTF refinement as a job: injected defocus errors are found, halves stay apart, refusals."""

from pathlib import Path

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.tables import read_table, write_table
from firn.jobs import ctf_refine_local
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from posed_particles import random_angles, write_particles

BOX, PIXEL = 48, 2.5
PHANTOM = random_phantom(80, 38.0, seed=3, widths=(1.6, 2.6))


def write_session(folder: Path, count: int, snr: float) -> tuple[np.ndarray, np.ndarray]:
    """Particles whose table has wrong defocus, half maps with a little noise; returns (true defocus, its error)."""
    table = write_particles("keep", PHANTOM, random_angles(count), BOX, PIXEL, snr=snr)
    chance = np.random.default_rng(8)
    wrong = chance.normal(0, 500, count)
    changed = {name: table[name] + wrong for name in ("defocus_u", "defocus_v")}
    write_table("keep/particles.star", table.assign(**changed), "particles")
    volume = 3 * phantom_volume(PHANTOM, BOX, PIXEL)
    Path("map").mkdir()
    for half in (1, 2):
        write_volume(f"map/half{half}.mrc", volume + 0.02 * volume.std() * chance.normal(size=volume.shape).astype(np.float32), PIXEL)
    return table["defocus_u"].to_numpy(), wrong


def refine(**settings) -> None:
    inputs = {"particles": ["keep"], "volume": ["map"]}
    settings = {"particles": "keep", "volume": "map", **settings}
    with open_job(ctf_refine_local.Params, settings, inputs, Path("results/ctf"), "ctf", threads=1) as job:
        ctf_refine_local.run(job)


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_defocus_errors_are_found(tmp_path):
    true, wrong = write_session(tmp_path, count=120, snr=0.5)
    refine()
    table = read_table("results/ctf/particles.star", "particles")
    left = table["defocus_u"].to_numpy() - true
    assert np.std(wrong) > 400
    assert np.sqrt(np.mean(left**2)) < 100
    given = read_table("keep/particles.star", "particles")
    assert np.allclose(table["defocus_v"] - given["defocus_v"], table["defocus_change"], atol=0.01)
    assert np.allclose(table["defocus_u"] - table["defocus_v"], given["defocus_u"] - given["defocus_v"], atol=0.01)


def test_a_half_set_does_not_see_the_images_of_the_other(tmp_path):
    write_session(tmp_path, count=24, snr=2.0)
    refine()
    before = read_table("results/ctf/particles.star", "particles")
    images, pixel_size = read_mrc("keep/particles.mrcs")
    images[(before["half"] == 2).to_numpy()] = np.random.default_rng(1).normal(size=(BOX, BOX))
    write_stack("keep/particles.mrcs", images.astype(np.float32), pixel_size)
    refine()
    after = read_table("results/ctf/particles.star", "particles")
    first = (before["half"] == 1).to_numpy()
    assert np.array_equal(before["defocus_u"][first], after["defocus_u"][first])
    assert not np.any(before["defocus_u"][~first] == after["defocus_u"][~first])


def test_half_maps_of_another_box_are_refused(tmp_path):
    write_session(tmp_path, count=8, snr=1.0)
    for half in (1, 2):
        write_volume(f"map/half{half}.mrc", np.ones((40, 40, 40), np.float32), PIXEL)
    with pytest.raises(InputError, match="have 40 px"):
        refine()


def test_a_band_without_room_is_refused(tmp_path):
    write_session(tmp_path, count=8, snr=1.0)
    with pytest.raises(InputError, match="too little to find a defocus from"):
        refine(min_resolution=10.0, max_resolution=9.9)
