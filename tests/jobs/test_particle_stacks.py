"""Restacking, downsampling and checking of particle stacks."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_mrc, read_shape, write_stack
from firn.formats.particles import load_images
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import check_particles, downsample_particles, restack_particles
from firn.runtime.entry import open_job
from firn.runtime.job import Job

BOX, PIXEL = 32, 2.0


@pytest.fixture
def table(tmp_path, monkeypatch) -> pd.DataFrame:
    """Seven particles from two stacks of five, shuffled."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(1)
    names = []
    for stack in ("a", "b"):
        write_stack(f"results/stack/particles/{stack}.mrcs", chance.normal(0, 1, (5, BOX, BOX)).astype(np.float32), PIXEL)
        names += image_names(f"results/stack/particles/{stack}.mrcs", 5)
    chosen = [names[number] for number in (9, 0, 3, 7, 1, 8, 2)]
    optics = {"optics_name": "o", "voltage_kv": 300.0, "image_pixel_size": PIXEL, "box_px": BOX, "dimensionality": 2}
    rows = pd.DataFrame(
        {"image": chosen, "particle_id": [f"e-{k}" for k in range(7)], "half": [1, 2, 1, 2, 1, 2, 1], "origin_x": 1.5, **optics}
    )
    write_table("results/stack/particles.star", rows, "particles")
    return rows


def _run(module: ModuleType, **settings: object) -> Job:
    home = Path("results/out")
    with open_job(module.Params, {"particles": "stack"} | settings, {"particles": ["results/stack"]}, home, "out", threads=1) as job:
        module.run(job)
    return job


def test_restacked_particles_are_the_same_in_few_files(table):
    before = load_images(table)
    _run(restack_particles, per_stack=4)
    after = read_table("results/out/particles.star", "particles")
    np.testing.assert_array_equal(load_images(after), before)
    assert [read_shape(f"results/out/particles/0000{k}.mrcs")[0][0] for k in (1, 2)] == [4, 3]
    for name in ("particle_id", "half", "origin_x", "image_pixel_size"):
        assert after[name].tolist() == table[name].tolist()


def test_half_precision_halves_the_file_and_hardly_changes_the_images(table):
    before = load_images(table)
    _run(restack_particles, float16=True)
    path = Path("results/out/particles/00001.mrcs")
    assert path.stat().st_size == 1024 + 2 * 7 * BOX**2
    assert read_mrc(path)[1] == pytest.approx(PIXEL)
    np.testing.assert_allclose(load_images(read_table("results/out/particles.star", "particles")), before, atol=2e-3)


def test_fourier_cropping_keeps_a_slow_wave_and_its_place(table):
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    spot = np.exp(-((y - 3) ** 2 + (x + 5) ** 2) / 18).astype(np.float32)
    write_stack("results/stack/particles/a.mrcs", np.stack([spot] * 5), PIXEL)
    write_table("results/stack/particles.star", table[table["image"].str.contains("/a.mrcs")], "particles")
    _run(downsample_particles, crop_to_px=16)
    after = read_table("results/out/particles.star", "particles")
    image = load_images(after)[0]
    assert after["image_pixel_size"][0] == pytest.approx(2 * PIXEL)
    assert (after["box_px"][0], image.shape) == (16, (16, 16))
    weight = np.clip(image - 0.3 * image.max(), 0, None)
    centre = [(weight.sum(axis) @ (np.arange(16) - 8)) / weight.sum() for axis in (1, 0)]
    assert centre == pytest.approx([1.5, -2.5], abs=0.1)


@pytest.mark.parametrize("box", [20, 48])
def test_boxes_are_cut_or_padded_about_their_origin(table, box):
    before = load_images(table)
    _run(downsample_particles, box_px=box)
    after = load_images(read_table("results/out/particles.star", "particles"))
    shared = min(box, BOX)
    inner = [slice(side // 2 - shared // 2 + 4, side // 2 + shared // 2 - 4) for side in (BOX, box)]
    for old, new in zip(before, after, strict=True):
        assert np.corrcoef(old[inner[0], inner[0]].ravel(), new[inner[1], inner[1]].ravel())[0, 1] > 0.99


def test_downsampling_does_not_enlarge(table):
    with pytest.raises(InputError, match="larger than the box"):
        _run(downsample_particles, crop_to_px=64)


def test_each_fault_of_an_image_is_found_and_the_rest_goes_on(table):
    images = np.random.default_rng(2).normal(0, 1, (5, BOX, BOX)).astype(np.float32)
    images[0], images[1, 3, 3], images[2] = 5.0, np.nan, images[2] * 500
    write_stack("results/stack/particles/a.mrcs", images, PIXEL)
    extra = table.iloc[[0, 0, 3]].assign(
        image=["000001@gone.mrcs", "000009@results/stack/particles/b.mrcs", "000003@results/stack/particles/b.mrcs"]
    )
    extra["particle_id"] = ["e-8", "e-9", "e-3"]
    write_table("results/stack/particles.star", pd.concat([table, extra]), "particles")
    job = _run(check_particles)
    good, bad = (read_table(f"results/out/{name}particles.star", "particles") for name in ("", "rejected/"))
    assert good["particle_id"].tolist() == ["e-0", "e-2", "e-3", "e-5"]
    assert dict(zip(bad["image"].str.replace("results/stack/particles/", ""), bad["reason_code"], strict=True)) == {
        "000001@a.mrcs": "ZERO", "000002@a.mrcs": "NONFINITE", "000003@a.mrcs": "STRANGE",
        "000001@gone.mrcs": "MISSING", "000009@b.mrcs": "MISSING", "000003@b.mrcs": "TWICE",
    }  # fmt: skip
    assert job.metrics["particles missing"]["value"] == 2


def test_a_stack_cut_short_costs_its_particles_only(table):
    path = Path("results/stack/particles/b.mrcs")
    path.write_bytes(path.read_bytes()[:5000])
    _run(check_particles)
    assert set(read_table("results/out/rejected/particles.star", "particles")["reason_code"]) == {"TRUNCATED"}
    assert len(read_table("results/out/particles.star", "particles")) == 4


def test_a_set_without_any_sound_particle_is_an_error(table):
    for stack in ("a", "b"):
        Path(f"results/stack/particles/{stack}.mrcs").unlink()
    with pytest.raises(InputError, match="none of the 7 particles"):
        _run(check_particles)
