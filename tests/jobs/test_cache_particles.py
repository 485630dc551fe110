"""Copying particle images ahead of the jobs that use them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.formats.mrc import write_stack
from firn.formats.tables import image_names, write_table
from firn.jobs import cache_particles
from firn.runtime.entry import open_job

BOX, COUNT = 24, 20


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FIRN_CACHE", raising=False)
    write_stack("stack.mrcs", np.random.default_rng(0).standard_normal((COUNT, BOX, BOX)), 1.0)
    Path("results/up").mkdir(parents=True)
    write_table("results/up/particles.star", pd.DataFrame({"image": image_names("stack.mrcs", COUNT)[5:9]}), "particles")


def run() -> dict:
    with open_job(cache_particles.Params, {"particles": "up"}, {"particles": ["results/up"]}, Path("results/cached"), "cached") as job:
        cache_particles.run(job)
    return json.loads(Path("results/cached/job.json").read_text())


def test_images_of_the_set_are_copied_once_and_the_table_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FIRN_CACHE", str(tmp_path / "ssd"))
    monkeypatch.setenv("FIRN_CACHE_RESERVE_GB", "0")
    first, second = run()["metrics"], run()["metrics"]
    assert first["copied_gb"]["value"] == first["wanted_gb"]["value"] == second["held_gb"]["value"] == 4 * BOX**2 * 4 / 1e9
    assert second["copied_gb"]["value"] == second["left_gb"]["value"] == 0
    assert Path("results/cached/particles.star").read_text() == Path("results/up/particles.star").read_text()


def test_without_a_cache_the_job_says_so_and_hands_the_table_on():
    assert run()["warnings"] == ["FIRN_CACHE is not set where this job ran; nothing was copied"]
    assert Path("results/cached/particles.star").exists()
