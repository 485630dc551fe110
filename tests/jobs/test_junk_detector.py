"""Junk detection: what is smeared or dirty is mapped and measured, and picks near it are left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.formats.mrc import read_mrc, write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import junk_detector
from firn.runtime.entry import open_job
from firn.runtime.job import Job

PIXEL, DIAMETER, SIDE = 4.0, 150.0, 500


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A micrograph whose left fifth is a smeared border, and a truncated one."""
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(1).normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    image[:, :50] = image[:, 50:51]
    write_image("good.mrc", image, PIXEL)
    Path("cut.mrc").write_bytes(Path("good.mrc").read_bytes()[:5000])
    optics = {"optics_name": "o", "voltage_kv": 300.0, "micrograph_pixel_size": PIXEL}
    rows = [{"exposure_id": name, "batch": "0001", "micrograph": f"{name}.mrc", **optics} for name in ("good", "cut")]
    write_table("results/ctf/batches/0001/exposures.star", pd.DataFrame(rows), "exposures")
    places = pd.DataFrame({"x_px": [20.0, 60.0, 75.0, 300.0], "y_px": 250.0})
    picks = places.assign(exposure_id="good", batch="0001", micrograph="good.mrc", pick_score=0.5, **optics)
    write_table("results/blobs/batches/0001/picks.star", picks, "picks")


def _run(picks: bool = True, **settings: object) -> Job:
    wanted = {"type": "junk_detector", "exposures": "ctf", "diameter": DIAMETER} | ({"picks": "blobs"} if picks else {}) | settings
    inputs = {"exposures": ["results/ctf/batches/0001"]} | ({"picks": ["results/blobs/batches/0001"]} if picks else {})
    with open_job(junk_detector.Params, wanted, inputs, Path("results/junk/batches/0001"), "junk", "0001", threads=1) as job:
        junk_detector.run(job)
    return job


def test_picks_on_and_near_junk_are_left_out(session):
    job = _run()
    kept = read_table("results/junk/batches/0001/picks.star", "picks")
    assert kept["x_px"].tolist() == [75.0, 300.0]
    assert job.metrics["picks near junk"]["value"] == 2


def test_the_distance_is_the_users(session):
    _run(distance=0.0)
    assert read_table("results/junk/batches/0001/picks.star", "picks")["x_px"].tolist() == [60.0, 75.0, 300.0]
    _run(distance=150.0)
    assert read_table("results/junk/batches/0001/picks.star", "picks")["x_px"].tolist() == [300.0]


def test_kinds_that_are_not_refused_do_not_count(session):
    _run(refuse=["rough"])
    assert len(read_table("results/junk/batches/0001/picks.star", "picks")) == 4


def test_exposures_carry_fraction_and_map_and_bad_ones_are_listed(session):
    _run(picks=False)
    exposures = read_table("results/junk/batches/0001/exposures.star", "exposures")
    assert exposures["exposure_id"].tolist() == ["good"]
    assert exposures["junk_fraction"][0] == pytest.approx(0.1, abs=0.02)
    kinds, pixel_size = read_mrc(exposures["junk_map"][0])
    assert kinds.shape[0] * pixel_size == pytest.approx(SIDE * PIXEL, rel=0.01)
    assert set(np.unique(kinds)) == {0, 1}
    assert read_table("results/junk/batches/0001/failed.star", "failed")["exposure_id"].tolist() == ["cut"]
    assert read_table("results/junk/batches/0001/picks.star", "picks").empty
