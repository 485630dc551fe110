"""A picker tried on one exposure: what is planned, what is asked of Snakemake, and what comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.ids import exposure_id
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.live import layout
from firn.live.control import Control, PickerTest
from firn.live.ledger import Ledger
from firn.live.pickers import told_trials
from firn.live.session import Session
from firn.live.targets import live_targets, record_failure
from firn.live.trials import is_over, tend_trials, trial_plan
from firn.runtime.atomic import write_json
from firn.runtime.picker_trial import make_trial
from topaz_stand_in import write_stand_in

BLOBS = {"type": "blob_picker", "seed": 3, "min_diameter": 80, "max_diameter": 120, "edge": 0.2, "circle": True}
FUSED = {"type": "preprocess", "seed": 3, "templates": None, "blob_min_diameter": 80, "blob_max_diameter": 120, "limit_min_ncc": 0.1}
MOVIE = "raw/a.tif"


def session(job: str, settings: dict[str, Any], needs: list[str], test: PickerTest | None = None) -> Session:
    picking = {
        "pickers": {job: settings},
        "inspections": {} if job == "pre" else {"picks": {"min_ncc": None, "max_power": 5.0}},
        "picked": [],
    }
    plan = {"movies": {"jobs": {"movies": [], "ctf": ["movies"], job: needs}, "picking": picking}}
    ledger = Ledger("movies", taken={MOVIE: [1.0, 2.0, "0001"], "raw/b.tif": [1.0, 2.0, "0002"]})
    ledger.tallies["0001"] = {}
    return Session(plan, {"movies": ledger}, Control(test=test), {})


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    outcome = {"exposure_id": exposure_id(MOVIE), "movie": MOVIE, "numbers": {}, "code": "", "reason": ""}
    write_json(layout.outcome_file("movies", "0001"), [outcome])
    for job in ("ctf", "pre"):
        write_exposures(Path("results") / job / "batches/0001")
    return tmp_path


def write_exposures(folder: Path) -> None:
    """A micrograph of dark discs, 8 Å per pixel, and its table."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:160, :160]
    discs = sum(((rows - y) ** 2 + (columns - x) ** 2 < 36).astype(float) for y in range(24, 150, 32) for x in range(24, 150, 32))
    write_image(folder / "a.mrc", (np.random.default_rng(4).normal(size=(160, 160)) - 1.5 * discs).astype(np.float32), 8.0)
    table = {"exposure_id": exposure_id(MOVIE), "batch": "0001", "micrograph": str(folder / "a.mrc"), "micrograph_pixel_size": 8.0}
    optics = {"optics_name": "o", "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "movie_pixel_size": 8.0}
    write_table(folder / "exposures.star", pd.DataFrame([table | optics]), "exposures")


def test_a_test_has_the_settings_of_the_config_with_those_proposed() -> None:
    plan = trial_plan(session("blobs", BLOBS, ["ctf"]), PickerTest(exposure="a", max_diameter=150, min_ncc=0.2))
    assert plan["picker"] == {
        "type": "blob_picker", "revision": 0, "seed": 3, "plots": 0, "edge": 0.2, "circle": True, "min_diameter": 80, "max_diameter": 150,
    }  # fmt: skip
    assert plan["limits"] == {"min_ncc": 0.2, "max_power": 5.0}
    assert (plan["exposure"], plan["exposures"], plan["folders"]) == (exposure_id(MOVIE), "results/ctf/batches/0001", {})


def test_of_the_fused_job_the_picker_alone_is_tried() -> None:
    plan = trial_plan(session("pre", FUSED, ["movies"]), PickerTest(exposure=MOVIE, min_diameter=90))
    assert (plan["picker"]["type"], plan["picker"]["min_diameter"], plan["picker"]["max_diameter"]) == ("blob_picker", 90, 120)
    assert (plan["limits"], plan["exposures"]) == ({"min_ncc": 0.1}, "results/pre/batches/0001")


@pytest.mark.parametrize(("name", "sentence"), [("b", "is not done yet"), ("aa", "no exposure is called 'aa'")])
def test_an_exposure_that_is_not_done_is_answered_with_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        trial_plan(session("blobs", BLOBS, ["ctf"]), PickerTest(exposure=name))


def test_every_change_of_the_key_is_one_test_and_one_that_dies_is_over() -> None:
    here = session("blobs", BLOBS, ["ctf"], PickerTest(exposure="a"))
    assert tend_trials(here, 5.0)
    assert not tend_trials(here, 6.0)
    here.control = Control(test=PickerTest(exposure="a", max_diameter=150))
    assert tend_trials(here, 7.0)
    write_json(layout.OPEN, {"over": "", "time": 0.0, "batches": {}, "trials": here.memory["trials"]})
    targets = live_targets({})
    assert targets[:-1] == ["live/tests/1/result.json", "live/tests/2/result.json"]
    record_failure(targets[0])
    assert (is_over(1), is_over(2)) == (True, False)
    assert not tend_trials(here, 8.0)
    assert here.memory["trials"] == [2]
    assert "died" in {told["test"]: told for told in told_trials()}[1]["refused"]


def test_a_test_leaves_a_picture_and_counts_and_touches_nothing_else() -> None:
    plan = trial_plan(session("blobs", BLOBS, ["ctf"]), PickerTest(exposure="a"))
    before = sorted(str(path) for path in Path("results").rglob("*"))
    make_trial(plan, layout.trial_folder(1))
    result = json.loads((layout.trial_folder(1) / "result.json").read_text())
    assert result["found"] >= result["kept"] >= 12
    assert len(read_table(layout.trial_folder(1) / "picks.star", "picks")) == result["kept"]
    assert sorted(path.name for path in layout.trial_folder(1).iterdir()) == ["picks.png", "picks.star", "result.json", "thresholds.png"]
    assert sorted(str(path) for path in Path("results").rglob("*")) == before
    assert told_trials()[0]["kept"] == result["kept"]


def test_topaz_is_tried_with_a_model_that_was_trained_and_all_that_it_picks_is_kept() -> None:
    program = write_stand_in(Path("bin/topaz"))
    folder = Path("results/mine")
    folder.mkdir()
    (folder / "model.sav").touch()
    write_json(folder / "model.json", {"downsampling": 2, "pixel_size": 16.0})
    test = PickerTest(exposure="a", type="topaz_picker", model="mine", executable=str(program), threshold=-30)
    plan = trial_plan(session("blobs", BLOBS, ["ctf"]), test)
    assert (plan["picker"]["type"], plan["picker"]["diameter"], plan["limits"]) == ("topaz_picker", 120, {})
    assert plan["folders"] == {"trained": "results/mine"}
    make_trial(plan, layout.trial_folder(1))
    result = json.loads((layout.trial_folder(1) / "result.json").read_text())
    assert (result["found"], result["kept"], result["pictures"]) == (1, 1, ["picks.png"])
    assert read_table(layout.trial_folder(1) / "picks.star", "picks")["pick_score"].tolist() == [120 / 2 / 16 // 1 + 1 - 30]


def test_topaz_of_the_config_is_tried_with_the_model_that_the_config_names() -> None:
    settings = {"type": "topaz_picker", "seed": 3, "diameter": 100, "trained": "mine", "model": None, "threshold": 0.0}
    plan = trial_plan(session("topaz", settings, ["ctf"]), PickerTest(exposure="a", threshold=1.5))
    assert plan["folders"] == {"trained": "results/mine"}
    assert plan["picker"] == {"type": "topaz_picker", "revision": 0, "seed": 3, "plots": 0, "diameter": 100, "threshold": 1.5}
    named = trial_plan(session("topaz", settings, ["ctf"]), PickerTest(exposure="a", model="resnet8"))
    assert (named["folders"], named["picker"]["model"]) == ({}, "resnet8")


def test_settings_that_cannot_do_are_refused_with_a_sentence() -> None:
    plan = trial_plan(session("blobs", BLOBS, ["ctf"]), PickerTest(exposure="a"))
    make_trial(plan | {"exposure": "e0"}, layout.trial_folder(1))
    assert "has no exposure e0" in json.loads((layout.trial_folder(1) / "result.json").read_text())["refused"]
