"""Inspection of picks: limits from the data, the config or a human, and every batch gets its table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import inspect_picks
from firn.runtime.entry import open_job
from firn.runtime.job import Job


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Four exposures in three batches with 60 noise maxima and 60 particles each; the last exposure, alone in its batch, has none."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    write_image("mic.mrc", random.normal(size=(100, 100)), 4.0)
    names = ["e1", "e2", "e3", "e4"]
    exposures = pd.DataFrame(
        {
            "exposure_id": names,
            "batch": ["0001", "0001", "0002", "0003"],
            "micrograph": "mic.mrc",
            "micrograph_pixel_size": 4.0,
            "voltage_kv": 300.0,
        }
    )
    write_table("results/ctf/exposures.star", exposures, "exposures")
    picks = exposures[:3].loc[np.repeat(np.arange(3), 120)].reset_index(drop=True)
    particle = np.tile(np.arange(120) >= 60, 3)
    picks["x_px"], picks["y_px"] = random.uniform(0, 99, (2, 360))
    picks["pick_score"] = np.where(particle, 0.6, 0.25) + random.normal(0, 0.05, 360)
    picks["pick_power"] = np.where(particle, 3.0, 1.0) * np.exp(random.normal(0, 0.15, 360))
    picks["diameter"] = 50.0
    write_table("results/blobs/picks.star", picks, "picks")
    return particle


def _run(**settings: object) -> Job:
    wanted = {"type": "inspect_picks", "exposures": "ctf", "picks": "blobs"} | settings
    with open_job(
        inspect_picks.Params, wanted, {"exposures": ["results/ctf"], "picks": ["results/blobs"]}, Path("results/picks"), "picks"
    ) as job:
        inspect_picks.run(job)
    return job


def test_particles_are_kept_and_every_batch_has_a_table(session):
    job = _run()
    picks = read_table("results/picks/picks.star", "picks")
    assert abs(len(picks) - session.sum()) <= 3
    assert job.batches == ["0001", "0002", "0003"]
    sizes = [len(read_table(f"results/picks/batches/{batch}/picks.star", "picks")) for batch in job.batches]
    assert sum(sizes) == len(picks)
    assert sizes[2] == 0
    decisions = yaml.safe_load(Path("results/picks/decisions.yaml").read_text())
    assert decisions["author"] == "rule"
    assert "two parts" in decisions["reasons"]["line"]
    assert {path.name for path in Path("results/picks/figures").iterdir()} == {"thresholds.png", "counts.png", "micrographs.png"}


def test_a_limit_in_the_config_replaces_the_line(session):
    _run(min_ncc=-1.0, max_power=1e9)
    assert len(read_table("results/picks/picks.star", "picks")) == 360


def test_picks_that_come_without_power_stay_as_another_program_judged_them(session):
    """Log-likelihood ratios of two kinds, of which a line would take one away."""
    picks = read_table("results/blobs/picks.star", "picks").drop(columns="pick_power")
    picks["pick_score"] *= 20
    write_table("results/blobs/picks.star", picks, "picks")
    job = _run(max_power=1e-6)
    kept = read_table("results/picks/picks.star", "picks")
    pd.testing.assert_frame_equal(kept[list(picks.columns)], picks, check_dtype=False)
    assert "pick_power_calibrated" not in kept.columns
    assert "another program" in yaml.safe_load(Path("results/picks/decisions.yaml").read_text())["reasons"]["min_ncc"]
    assert {figure["file"] for figure in job.figures} == {"figures/counts.png", "figures/micrographs.png"}
    Path("mine.yaml").write_text("min_ncc: 8\nreject: [e2]\n")
    _run(decisions="mine.yaml")
    kept = read_table("results/picks/picks.star", "picks")
    assert len(kept) == int(((picks["pick_score"] >= 8) & (picks["exposure_id"] != "e2")).sum())


def test_a_human_wins_over_config_and_data(session):
    Path("mine.yaml").write_text("min_ncc: 0.9\nreject: [e2]\n")
    _run(min_ncc=0.1, decisions="mine.yaml")
    assert read_table("results/picks/picks.star", "picks").empty
    Path("mine.yaml").write_text("reject: [e2]\n")
    _run(decisions="mine.yaml")
    assert set(read_table("results/picks/picks.star", "picks")["exposure_id"]) == {"e1", "e3"}
    assert yaml.safe_load(Path("results/picks/decisions.yaml").read_text())["author"] == "human"


@pytest.mark.parametrize(
    ("text", "message"), [("min_nc: 0.3", "min_nc"), ("min_ncc: high", "must be a number"), ("- 1", "expected"), ("a: [", "cannot be read")]
)
def test_a_wrong_decisions_file_is_one_clear_sentence(session, text, message):
    Path("mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        _run(decisions="mine.yaml")


def test_no_picks_at_all_are_a_warning(session):
    picks = read_table("results/blobs/picks.star", "picks")
    write_table("results/blobs/picks.star", picks[:0], "picks")
    job = _run()
    assert any("no picks" in warning for warning in job.warnings)
    assert read_table("results/picks/batches/0003/picks.star", "picks").empty


def test_particles_that_are_smaller_than_all_diameters_tried_are_told(session):
    picks = read_table("results/blobs/picks.star", "picks")
    picks["diameter"] = np.where(np.arange(len(picks)) % 20 == 0, 112.0, 100.0)
    write_table("results/blobs/picks.star", picks, "picks")
    assert any("smallest diameter tried, 100 Å" in warning for warning in _run().warnings)


@pytest.mark.parametrize("period", [1, 4])
def test_particles_of_a_single_diameter_or_of_several_are_not_said_to_be_smaller(session, period):
    picks = read_table("results/blobs/picks.star", "picks")
    picks["diameter"] = np.where(np.arange(len(picks)) % period == 0, 112.0, 100.0)
    write_table("results/blobs/picks.star", picks, "picks")
    assert not any("smallest diameter" in warning for warning in _run().warnings)
