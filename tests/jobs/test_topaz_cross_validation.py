"""Values of a parameter of Topaz's training judged on folds: who learns from what, which value wins, what it trains. A stand-in plays Topaz."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import write_table
from firn.jobs import topaz_cross_validation
from firn.runtime.entry import open_job
from topaz_stand_in import write_stand_in

HOME = Path("results/tried")
PIXELS, DISC, LABELS = 22 * 30, 13, 2
"""Pixels of a micrograph made smaller fourfold and of a disc of radius 2; known particles of a micrograph."""


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five micrographs, each with two known particles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOPAZ_TOLD", str(tmp_path / "told.jsonl"))
    monkeypatch.setenv("PATH", str(write_stand_in(tmp_path / "bin" / "topaz").parent))
    rows = []
    for name in "abcde":
        write_image(f"{name}.mrc", np.random.default_rng(1).normal(size=(90, 121)).astype(np.float32), 2.0)
        shared = {"exposure_id": name, "batch": "0001", "micrograph": f"{name}.mrc", "micrograph_pixel_size": 2.0, "voltage_kv": 300.0}
        rows += [shared | {"x_px": 20.0 * number, "y_px": 10.0 * number} for number in range(1, LABELS + 1)]
    write_table("results/known/picks.star", pd.DataFrame(rows), "picks")


def tried(**settings: Any) -> None:
    wanted = {"type": "topaz_cross_validation", "picks": "known", "downsampling": 4, "radius": 2, "epochs": 3, "updates": 2}
    inputs = {"picks": ["results/known"]}
    with open_job(topaz_cross_validation.Params, wanted | settings, inputs, HOME, "tried", threads=1) as job:
        topaz_cross_validation.run(job)


def record() -> dict[str, Any]:
    return dict(json.loads((HOME / "job.json").read_text()))


def told() -> pd.DataFrame:
    """What each training was told: pi, learning_rate, units, num_epochs, and names of the micrographs of train and test."""
    return pd.DataFrame([json.loads(line) for line in Path("told.jsonl").read_text().splitlines()])


def unknown(pi: float) -> float:
    """Unknown particles of a micrograph that Topaz expects, as the stand-in counts: each pixel of a disc 2 radius + 1 times."""
    return (pi - LABELS * DISC * 5 / PIXELS) * PIXELS / DISC


def test_every_micrograph_is_judged_once_with_every_value_by_a_model_that_has_not_seen_it() -> None:
    tried(values=[4, 8], folds=5)
    trainings = told()
    names = [f"m{number:06d}" for number in range(5)]
    assert len(trainings) == 2 * 5 + 1
    for _, some in trainings[:-1].groupby("pi"):
        assert sorted(name for row in some["test"] for name in row) == names
        assert all(sorted(row.train + row.test) == names for row in some.itertuples())
    assert (trainings.iloc[-1]["train"], trainings.iloc[-1]["test"]) == (names, [])


def test_the_value_with_the_largest_mean_area_trains_the_model_for_the_epochs_that_did_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Areas are highest where six unknown particles are expected, after the second epoch."""
    monkeypatch.setenv("TOPAZ_AREA", f"0.9 - abs(given.pi - {(LABELS * 5 + 6) * DISC / PIXELS}) - 0.1 * abs(epoch - 2)")
    tried(values=[4, 8, 20], folds=3)
    last = told().iloc[-1]
    assert unknown(last["pi"]) == pytest.approx(6, abs=0.01)
    assert last["num_epochs"] == 2
    assert (HOME / "model.sav").read_text().splitlines()[0] == "2"
    known = {"downsampling": 4, "pixel_size": 8.0, "architecture": "resnet8", "epoch": 2, "expected_particles": 8.0}
    assert json.loads((HOME / "model.json").read_text()) == known
    metrics = {name: entry["value"] for name, entry in record()["metrics"].items()}
    assert (metrics["expected_particles"], metrics["epoch"], metrics["folds"], metrics["micrographs"]) == (8, 2, 3, 5)
    assert metrics["mean area under precision and recall"] == pytest.approx(0.9, abs=1e-4)
    assert metrics["mean F1"] == pytest.approx(0.5)
    assert len(pd.read_csv(HOME / "cross_validation.tsv", sep="\t")) == 3 * 3 * 3
    assert record()["warnings"] == []
    assert {path.name for path in (HOME / "figures").iterdir()} == {"cross_validation.png", "training.png"}
    assert not (HOME / "topaz").exists()


def test_a_learning_rate_is_tried_and_a_best_one_at_the_end_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPAZ_AREA", "given.learning_rate")
    tried(parameter="learning_rate", values=[0.0001, 0.001], expected_particles=8, folds=2)
    assert told()["learning_rate"].tolist() == [0.0001] * 2 + [0.001] * 3
    assert all(unknown(pi) == pytest.approx(6, abs=0.01) for pi in told()["pi"])
    assert record()["warnings"] == ["the best learning_rate, 0.001, is at the end of the values tried; try values beyond it"]


def test_widths_of_the_network_are_told_as_whole_numbers() -> None:
    tried(parameter="units", values=[16, 32], expected_particles=8, folds=2)
    assert told()["units"].tolist() == [16] * 2 + [32] * 2 + [16]


def test_a_job_that_was_cut_short_goes_on_with_the_trainings_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPAZ_AREA", f"0.5 if given.pi < {(LABELS * 5 + 4) * DISC / PIXELS} else 1 / 0")
    with pytest.raises(InputError, match="topaz train: ended with exit code 1; its last line: ZeroDivisionError"):
        tried(values=[4, 8], folds=2)
    monkeypatch.setenv("TOPAZ_AREA", "0.5")
    Path("told.jsonl").unlink()
    tried(values=[4, 8], folds=2)
    assert [round(unknown(pi)) for pi in told()["pi"]] == [6, 6, 2]
    assert len(pd.read_csv(HOME / "cross_validation.tsv", sep="\t")) == 2 * 2 * 3


def test_more_folds_than_micrographs_become_as_many_as_these() -> None:
    tried(values=[4, 8], folds=9, epochs=1, max_micrographs=2)
    assert record()["warnings"][0] == "there are 2 micrographs with known particles, so there are 2 folds instead of 9"
    assert record()["metrics"]["folds"]["value"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": [2, 8]}, "expected_particles is 2, but 2.0 particles of a micrograph are given"),
        ({"max_micrographs": 1}, "one micrograph with known particles alone; two folds need two"),
        ({"values": [8, 8]}, "larger than 0 and differ"),
        ({"values": [0, 8]}, "larger than 0 and differ"),
        ({"expected_particles": 8}, "give expected_particles where it is not the parameter"),
        ({"parameter": "units", "values": [16, 20], "expected_particles": 8}, "values of units are 16, 32, 64, 128"),
        ({"parameter": "learning_rate"}, "give expected_particles where it is not the parameter"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tried(**{"values": [4, 8]} | settings)
    assert not (HOME / "job.json").exists()


def test_a_training_that_tells_no_area_anywhere_has_no_best_value() -> None:
    rows = pd.DataFrame({"value": [1.0, 2.0], "fold": 1, "epoch": 1, "auprc": np.nan})
    with pytest.raises(InputError, match="no value is the best"):
        topaz_cross_validation.best_of(rows)


def test_a_value_that_failed_on_a_fold_is_not_the_best() -> None:
    rows = pd.DataFrame({"value": [1.0, 1.0, 2.0, 2.0], "fold": [1, 2, 1, 2], "epoch": 1, "auprc": [0.9, np.nan, 0.2, 0.3]})
    assert topaz_cross_validation.best_of(rows) == (2.0, 1)
