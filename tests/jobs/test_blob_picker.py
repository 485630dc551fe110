"""Blob picking and inspection of real micrographs with nothing given but the diameters."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from apoferritin import score_picks, write_exposures
from firn.formats.mrc import write_image
from firn.formats.tables import concatenate, read_table, write_table
from firn.jobs import blob_picker, inspect_picks
from firn.runtime.entry import open_job

SETTINGS = {"type": "blob_picker", "exposures": "ctf", "min_diameter": 110, "max_diameter": 140, "plots": 0}


def _run(batch: str, **settings: object) -> None:
    inputs = {"exposures": [f"results/ctf/batches/{batch}"]}
    with open_job(
        blob_picker.Params, SETTINGS | settings, inputs, Path(f"results/blobs/batches/{batch}"), "blobs", batch, threads=1
    ) as job:
        blob_picker.run(job)


def test_apoferritin_is_picked_as_by_hand_with_one_unattended_decision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exposures = write_exposures(Path("results/ctf"))
    for batch in ("0001", "0002"):
        _run(batch)
    write_table(
        "results/blobs/picks.star", concatenate([f"results/blobs/batches/{b}/picks.star" for b in ("0001", "0002")], "picks"), "picks"
    )
    settings, inputs = (
        {"type": "inspect_picks", "exposures": "ctf", "picks": "blobs"},
        {"exposures": ["results/ctf"], "picks": ["results/blobs"]},
    )
    with open_job(inspect_picks.Params, settings, inputs, Path("results/picks"), "picks") as job:
        inspect_picks.run(job)
    f1, precision, recall = score_picks(read_table("results/picks/picks.star", "picks"), exposures)
    assert f1 >= 0.9
    assert min(precision, recall) >= 0.85
    assert job.batches == ["0001", "0002"]
    parts = concatenate([f"results/picks/batches/{batch}/picks.star" for batch in job.batches], "picks")
    assert len(parts) == len(read_table("results/picks/picks.star", "picks"))


def test_a_bad_micrograph_is_listed_and_the_rest_is_picked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exposures = write_exposures(Path("results/ctf"), 2)
    Path("cut.mrc").write_bytes(Path(exposures["micrograph"][0]).read_bytes()[:5000])
    write_image("flat.mrc", np.ones((64, 64)), 1.5)
    bad = exposures.iloc[[0, 0]].assign(exposure_id=["e1", "e2"], micrograph=["cut.mrc", "flat.mrc"])
    write_table("results/ctf/batches/0001/exposures.star", pd.concat([bad, exposures.iloc[1:]]), "exposures")
    _run("0001", ring=True, ellipse=True, angular_step=30, plots=1)
    failed = read_table("results/blobs/batches/0001/failed.star", "failed")
    assert failed["exposure_id"].tolist() == ["e1", "e2"]
    assert "truncated" in failed["reason"][0]
    picks = read_table("results/blobs/batches/0001/picks.star", "picks")
    assert set(picks["exposure_id"]) == {exposures["exposure_id"][1]}
    assert picks["particle_id"].is_unique
    assert ((picks["pick_score"] * picks["pick_power"] ** 0.5).diff().dropna() <= 1e-4).all()
    assert len(list(Path("results/blobs/batches/0001/figures").glob("*.png"))) == 1


def test_a_batch_without_a_usable_micrograph_still_has_a_pick_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exposures = write_exposures(Path("results/ctf"), 1)
    write_table("results/ctf/batches/0001/exposures.star", exposures.assign(micrograph="missing.mrc"), "exposures")
    _run("0001")
    assert read_table("results/blobs/batches/0001/picks.star", "picks", needs=("exposure_id", "x_px", "pick_score")).empty


def test_diameters_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="smaller than min_diameter"):
        blob_picker.Params(exposures="ctf", min_diameter=140, max_diameter=110)
