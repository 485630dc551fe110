"""Local defocus at picks and at particles, from surfaces whose values are known at the corners and the centre."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from firn.formats.tables import read_table, write_table
from firn.jobs import ctf_at_picks
from firn.runtime.entry import open_job
from firn.runtime.job import Job

EXPOSURES = pd.DataFrame(
    {
        "exposure_id": ["e1", "e2"], "batch": "0001", "micrograph": ["a.mrc", "b.mrc"], "width_px": 1001, "height_px": 501,
        "micrograph_pixel_size": 2.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1,
        "defocus_u": [12000.0, 20000.0], "defocus_v": [11000.0, 20000.0], "defocus_angle": [30.0, 0.0], "phase_shift": 0.0,
        "defocus_slope_x": [300.0, 0.0], "defocus_slope_y": [-200.0, 0.0],
        "defocus_bend_xx": [30.0, 0.0], "defocus_bend_xy": [10.0, 0.0], "defocus_bend_yy": [60.0, 0.0],
    }
)  # fmt: skip


def _run(kind: str, table: pd.DataFrame, exposures: pd.DataFrame = EXPOSURES) -> Job:
    write_table("results/in/batches/0001/exposures.star", exposures, "exposures")
    write_table(f"results/up/batches/0001/{kind}.star", table, kind)
    inputs = {"exposures": ["results/in/batches/0001"], kind: ["results/up/batches/0001"]}
    home = Path("results/local/batches/0001")
    with open_job(ctf_at_picks.Params, {"exposures": "in", kind: "up"}, inputs, home, "local", "0001") as job:
        ctf_at_picks.run(job)
    return job


@pytest.fixture(autouse=True)
def _in_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _places(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["exposure_id", "x_px", "y_px"])
    return table.assign(batch="0001", micrograph="m.mrc", micrograph_pixel_size=2.0, voltage_kv=300.0, pick_score=0.5)


def test_picks_get_the_defocus_of_their_place_and_the_astigmatism_of_their_exposure():
    _run("picks", _places([("e1", 500.0, 250.0), ("e1", 1000.0, 500.0), ("e1", 0.0, 250.0), ("e2", 3.0, 4.0)]))
    picks = read_table("results/local/batches/0001/picks.star", "picks")
    offsets = [-10 - 20, 300 - 200 + 20 + 10 + 40, -300 + 20 - 20]
    assert picks["defocus_u"].tolist() == pytest.approx([12000 + offset for offset in offsets] + [20000])
    assert picks["defocus_v"].tolist() == pytest.approx([11000 + offset for offset in offsets] + [20000])
    assert picks["defocus_angle"].tolist() == [30.0, 30.0, 30.0, 0.0]
    assert picks["pick_score"].tolist() == [0.5] * 4


def test_particles_count_at_their_true_centres_and_keep_what_they_carry():
    particles = _places([("e1", 520.0, 230.0)]).assign(
        origin_x=40.0,
        origin_y=-40.0,
        image="000001@s.mrcs",
        particle_id="p",
        half=1,
        rot=7.0,
        defocus_u=1.0,
        defocus_v=1.0,
        defocus_angle=1.0,
    )
    _run("particles", particles)
    row = read_table("results/local/batches/0001/particles.star", "particles").iloc[0]
    assert row["defocus_u"] == pytest.approx(12000 - 30)
    assert (row["x_px"], row["origin_x"], row["rot"], row["half"]) == (520.0, 40.0, 7.0, 1)


def test_picks_of_exposures_that_are_not_given_are_left_out_with_a_warning():
    job = _run("picks", _places([("e1", 5.0, 5.0), ("gone", 5.0, 5.0)]))
    assert read_table("results/local/batches/0001/picks.star", "picks")["exposure_id"].tolist() == ["e1"]
    assert "1 picks are left out" in job.warnings[0]


def test_without_a_surface_the_exposure_s_own_defocus_counts():
    plain = EXPOSURES.drop(columns=[name for name in EXPOSURES.columns if "slope" in name or "bend" in name])
    _run("picks", _places([("e1", 5.0, 5.0), ("e1", 900.0, 5.0)]), plain)
    assert read_table("results/local/batches/0001/picks.star", "picks")["defocus_u"].tolist() == [12000.0, 12000.0]


def test_a_batch_without_picks_gives_an_empty_table():
    _run("picks", pd.DataFrame({"exposure_id": [], "x_px": [], "y_px": []}))
    assert read_table("results/local/batches/0001/picks.star", "picks").empty


def test_either_picks_or_particles_must_be_given():
    with pytest.raises(ValidationError, match="either picks or particles"):
        ctf_at_picks.Params(exposures="in", picks="a", particles="b")
