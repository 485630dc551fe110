"""The ab_initio job: files, tables, numbers and refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_stack
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import ab_initio
from firn.refine import ab_initio_course
from firn.refine.ab_initio import AbInitio
from firn.runtime.entry import open_job
from refine.ab_initio_data import BOX, PIXEL_SIZE, particles

QUICK = {
    "particles": "stack", "particle_diameter": 125, "max_resolution": 20, "initial_iterations": 4, "final_iterations": 3, "starts": 2,
    "final_minibatch": 90,
}  # fmt: skip


def write_particles(folder: Path, count: int) -> None:
    images, ctf, _, _ = particles(count, 0.3, 8)
    write_stack(folder / "particles.mrcs", images.numpy(), PIXEL_SIZE)
    table = pd.DataFrame(
        {
            "image": image_names(folder / "particles.mrcs", count),
            "particle_id": [f"e-{number:05d}" for number in range(count)],
            "half": np.arange(count) % 2 + 1,
            "origin_x": np.full(count, 1.5),
            "image_pixel_size": PIXEL_SIZE,
            "box_px": BOX,
            "dimensionality": 2,
            **{name: values.numpy() for name, values in vars(ctf).items() if values is not None},
        }
    )
    write_table(folder / "particles.star", table, "particles")


def run(settings: dict) -> dict:
    home = Path("results/start")
    with open_job(ab_initio.Params, {**QUICK, **settings}, {"particles": ["results/stack"]}, home, "start", threads=1) as job:
        ab_initio.run(job)
    return json.loads((home / "job.json").read_text())


def test_two_classes_share_the_particles_and_each_has_its_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 120)
    record = run({"classes": 2})
    tables = [read_table(f"results/start/class_{number}/particles.star", "particles") for number in (1, 2)]
    assert sum(map(len, tables)) == 120
    assert len(tables[0]) >= len(tables[1])
    assert set(tables[0]["class_number"]) == {1}
    assert {"rot", "tilt", "psi", "origin_x", "origin_y", "half", "particle_id", "class_probability"} <= set(tables[0].columns)
    assert len(set(tables[0]["particle_id"]) | set(tables[1]["particle_id"])) == 120
    volume, pixel_size = read_mrc("results/start/class_2/map.mrc")
    assert volume.shape == (BOX, BOX, BOX)
    assert pixel_size == pytest.approx(PIXEL_SIZE)
    assert np.array_equal(read_mrc("results/start/map.mrc")[0], read_mrc("results/start/class_1/map.mrc")[0])
    assert record["metrics"]["particles"]["value"] == 120
    assert all((Path("results/start") / figure["file"]).stat().st_size > 0 for figure in record["figures"])


def test_the_same_seed_gives_the_same_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 60)
    first = run({"seed": 3}) and read_mrc("results/start/map.mrc")[0]
    second = run({"seed": 3}) and read_mrc("results/start/map.mrc")[0]
    assert np.allclose(first, second, atol=1e-5 * np.abs(first).max())


@pytest.mark.parametrize(
    ("count", "settings", "message"),
    [
        (20, {}, "20 particles are too few"),
        (60, {"symmetry": "K3"}, "none of Cn, Dn"),
        (60, {"max_resolution": 5}, "finer than two pixels"),
        (60, {"initial_resolution": 15}, "finer than max_resolution"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(tmp_path, monkeypatch, count, settings, message):
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), count)
    with pytest.raises(InputError, match=message):
        run(settings)


@pytest.mark.parametrize(("classes", "cut"), [(1, (3, 9, 20)), (2, (7, 12))])
def test_a_run_killed_in_an_iteration_ends_with_the_same_bits(tmp_path, monkeypatch, classes, cut):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ab_initio_course, "KEPT_EVERY", 2)
    write_particles(Path("results/stack"), 60)
    settings = {"classes": classes, "max_resolution": 30, "final_minibatch": 40, "initial_minibatch": 40}
    record = run(settings)
    whole, names = read_mrc("results/start/map.mrc")[0], read_table("results/start/particles.star", "particles")
    method = "iterate" if classes == 1 else "iterate_apart"
    iterate, calls = getattr(AbInitio, method), []

    def interrupted(self: AbInitio, state, batch, rows):
        calls.append(batch.resolution)
        if len(calls) in cut:
            raise KeyboardInterrupt
        return iterate(self, state, batch, rows)

    monkeypatch.setattr(AbInitio, method, interrupted)
    for _ in cut:
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    again = run(settings)
    assert np.array_equal(read_mrc("results/start/map.mrc")[0], whole)
    assert read_table("results/start/particles.star", "particles").equals(names)
    assert again["metrics"] == record["metrics"]
    iterations = [line for line in map(json.loads, Path("logs/start.jsonl").read_text().splitlines()) if "iteration" in line]
    assert len(calls) <= len({(line["step"], line["iteration"]) for line in iterations}) + 2 * len(cut)
