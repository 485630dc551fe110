"""curate_exposures as a job: files, batches, a human's word."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import curate_exposures
from firn.runtime.entry import open_job


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Six exposures in batches 0001 and 0002, the fourth without rings; batch 0003 has lost all."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    rows = []
    for number in range(6):
        write_image(f"raw/mic{number}.mrc", rng.standard_normal((40, 50)), 2.0)
        rows.append(
            {
                "exposure_id": f"e{number}", "batch": f"000{number // 3 + 1}", "micrograph": f"raw/mic{number}.mrc", "width_px": 50, "height_px": 40,
                "ctf_fit_resolution": 25.0 if number == 3 else 4.0 + 0.1 * number, "ctf_score": 0.01 if number == 3 else 0.2,
                "defocus_u": 15000.0, "defocus_v": 14000.0, "astigmatism": 1000.0, "ice_ring_score": float("nan"), "own_column": number,
                "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": 2.0,
            }
        )  # fmt: skip
    write_table("results/ctf/exposures.star", pd.DataFrame(rows), "exposures")
    Path("results/ctf/job.json").write_text(json.dumps({"batches": ["0001", "0002", "0003"]}))


def curate(**settings) -> dict:
    home = Path("results/good")
    with open_job(
        curate_exposures.Params, {"exposures": "ctf", **settings}, {"exposures": ["results/ctf"]}, home, "good", threads=1
    ) as job:
        curate_exposures.run(job)
    return json.loads((home / "job.json").read_text())


@pytest.mark.usefixtures("session")
def test_the_bad_exposure_is_set_apart_with_its_reason_and_no_column_is_lost():
    record = curate()
    accepted, rejected = (read_table(f"results/good/{path}exposures.star", "exposures") for path in ("", "rejected/"))
    assert rejected["exposure_id"].tolist() == ["e3"]
    assert "CTF fit resolution" in rejected["reason"][0]
    assert sorted(accepted["exposure_id"]) == ["e0", "e1", "e2", "e4", "e5"]
    assert set(read_table("results/ctf/exposures.star", "exposures").columns) <= set(accepted.columns)
    assert record["metrics"]["rejected"]["value"] == 1
    assert {figure["file"] for figure in record["figures"]} == {"figures/attributes.png", "figures/rejected.png"}


@pytest.mark.usefixtures("session")
def test_every_batch_of_the_input_is_written_for_both_sets_even_an_empty_one():
    record = curate()
    assert record["batches"] == ["0001", "0002", "0003"]
    counts = {
        group: [len(read_table(f"results/good/{group}batches/{batch}/exposures.star", "exposures")) for batch in record["batches"]]
        for group in ("", "rejected/")
    }
    assert counts == {"": [3, 2, 0], "rejected/": [0, 1, 0]}


@pytest.mark.usefixtures("session")
def test_a_human_wins_over_the_rules_and_both_are_kept():
    Path("mine.yaml").write_text("mic3.mrc: accept\ne0: reject\nnobody: accept\n")
    record = curate(decisions="mine.yaml")
    table = read_table("results/good/decisions.star", "decisions").set_index("exposure_id")
    assert table.loc["e3", ["rule_verdict", "human_verdict", "verdict"]].tolist() == ["reject", "accept", "accept"]
    assert table.loc["e0", ["rule_verdict", "human_verdict", "verdict"]].tolist() == ["accept", "reject", "reject"]
    assert table.loc["e1", ["rule_verdict", "human_verdict", "verdict"]].tolist() == ["accept", "none", "accept"]
    assert any("nobody" in warning for warning in record["warnings"])


@pytest.mark.usefixtures("session")
def test_without_rules_everything_stays():
    assert curate(adaptive=False)["metrics"]["rejected"]["value"] == 0


@pytest.mark.usefixtures("session")
def test_rejecting_all_is_one_sentence():
    with pytest.raises(InputError, match="all 6 exposures are rejected"):
        curate(max_ctf_fit=1.0)


@pytest.mark.usefixtures("session")
def test_a_limit_on_a_statistic_that_is_not_there_names_the_column():
    with pytest.raises(InputError, match="_rlnAccumMotionTotal"):
        curate(max_motion=10.0)
