"""Removing duplicates among particles by their refined centres, and among the picks of two pickers."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from firn.formats.tables import read_table, write_table
from firn.jobs import remove_duplicates
from firn.runtime.entry import open_job
from firn.runtime.job import Job


def _run(slot: str, folders: list[str], **settings: object) -> Job:
    wanted = {"type": "remove_duplicates", slot: folders} | settings
    with open_job(remove_duplicates.Params, wanted, {slot: folders}, Path("results/unique"), "unique") as job:
        remove_duplicates.run(job)
    return job


def _table(rows: list[tuple[str, str, float, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["exposure_id", "batch", "x_px", "y_px", "pick_score"])
    return table.assign(micrograph="m.mrc", micrograph_pixel_size=2.0, voltage_kv=300.0)


def test_refined_centres_count_and_the_better_score_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        ("e1", "0001", 100.0, 100.0, 0.5),
        ("e1", "0001", 120.0, 100.0, 0.7),
        ("e1", "0001", 200.0, 100.0, 0.4),
        ("e2", "0002", 120.0, 100.0, 0.1),
    ]
    particles = _table(rows).assign(
        particle_id=["a", "b", "c", "d"], image=[f"{n:06d}@s.mrcs" for n in range(1, 5)], origin_x=[-36.0, 0.0, 0.0, 0.0], origin_y=0.0
    )
    write_table("results/refined/particles.star", particles.assign(half=1), "particles")
    job = _run("particles", ["results/refined"])
    kept = read_table("results/unique/particles.star", "particles")
    assert kept["particle_id"].tolist() == ["b", "c", "d"]
    assert read_table("results/unique/duplicates/particles.star", "particles")["particle_id"].tolist() == ["a"]
    assert job.metrics["duplicates"]["value"] == 1
    picks = read_table("results/unique/picks.star", "picks")
    assert "image" not in picks.columns
    assert picks["x_px"].tolist() == [120.0, 200.0, 120.0]


def test_picks_of_two_pickers_are_joined_and_batches_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table("results/a/picks.star", _table([("e1", "0001", 10.0, 10.0, 0.5), ("e2", "0002", 50.0, 50.0, 0.5)]), "picks")
    write_table("results/b/picks.star", _table([("e1", "0001", 12.0, 10.0, 0.9), ("e1", "0001", 90.0, 10.0, 0.9)]), "picks")
    Path("results/a/batches/0003").mkdir(parents=True)
    job = _run("picks", ["results/a", "results/b"])
    picks = read_table("results/unique/picks.star", "picks")
    assert picks["x_px"].tolist() == [50.0, 12.0, 90.0]
    assert job.batches == ["0001", "0002", "0003"]
    assert [len(read_table(f"results/unique/batches/{batch}/picks.star", "picks")) for batch in job.batches] == [2, 1, 0]


def test_one_kind_must_be_given():
    for given in ({}, {"picks": "a", "particles": "b"}):
        with pytest.raises(ValidationError, match="either particles or picks"):
            remove_duplicates.Params(**given)
