"""Picking with Topaz: what it is told, what is read back, and what is said when it is missing or fails. A stand-in plays its part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import topaz_picker
from firn.runtime.entry import open_job
from topaz_stand_in import write_stand_in

BRIGHTEST = {"e1": (40, 16), "e2": (88, 72)}


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micrographs of one file name, each with one bright pixel, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    path = write_stand_in(tmp_path / "bin" / "topaz")
    monkeypatch.setenv("PATH", str(path.parent))
    for name, (x, y) in BRIGHTEST.items():
        image = np.random.default_rng(1).normal(size=(90, 121)).astype(np.float32)
        image[y, x] = 99
        Path(name).mkdir()
        write_image(f"{name}/mic.mrc", image, 2.0)
    write_exposures(list(BRIGHTEST))


def write_exposures(names: list[str]) -> None:
    exposures = pd.DataFrame(
        {
            "exposure_id": names,
            "batch": "0001",
            "micrograph": [f"{name}/mic.mrc" for name in names],
            "micrograph_pixel_size": 2.0,
            "voltage_kv": 300.0,
        }
    )
    write_table("results/ctf/batches/0001/exposures.star", exposures, "exposures")


def picked(**settings: Any) -> pd.DataFrame:
    wanted = {"type": "topaz_picker", "exposures": "ctf", "diameter": 96, "downsampling": 4} | settings
    home, inputs = Path("results/topaz/batches/0001"), {"exposures": ["results/ctf/batches/0001"]}
    if "trained" in settings:
        inputs["trained"] = [f"results/{settings['trained']}"]
    with open_job(topaz_picker.Params, wanted, inputs, home, "topaz", "0001", threads=1) as job:
        topaz_picker.run(job)
    return read_table(home / "picks.star", "picks", needs=("exposure_id",))


def test_picks_come_back_to_their_exposures_in_pixels_of_the_micrograph() -> None:
    picks = picked(threshold=-2)
    assert dict(zip(picks["exposure_id"], zip(picks["x_px"], picks["y_px"], strict=True), strict=True)) == BRIGHTEST
    radius = 96 / 2 / (2.0 * 4)
    assert picks["pick_score"].tolist() == [radius - 2] * 2
    assert picks["diameter"].tolist() == [96, 96]
    assert picks["micrograph"].tolist() == ["e1/mic.mrc", "e2/mic.mrc"]
    home = Path("results/topaz/batches/0001")
    told = json.loads((home / "topaz.json").read_text())
    assert told["version"] == "0.0.1"
    assert told["program"] == str(Path("bin/topaz").absolute())
    assert [arguments[0] for arguments in told["arguments"]] == ["preprocess", "extract"]
    assert not (home / "topaz").exists()
    assert {path.name for path in (home / "figures").iterdir()} == {"picks_e1.png", "picks_e2.png"}


def test_options_tell_the_radius_in_pixels_of_the_smaller_micrographs() -> None:
    params = topaz_picker.Params(exposures="ctf", diameter=100, threshold=-6, arguments=["--dims=2"])
    scorer = topaz_picker.Scorer("m.sav", 8)
    options = topaz_picker.extract_options(params, scorer, pixel_size=4.0, threads=3)
    assert dict(option.split("=") for option in options) == {
        "--model": "m.sav",
        "--radius": "12",
        "--threshold": "-6",
        "--up-scale": "8",
        "--num-workers": "3",
        "--dims": "2",
    }
    assert "--num-workers=0" in topaz_picker.extract_options(params, scorer, 4.0, threads=1)


def test_a_model_of_the_users_own_is_named_by_its_whole_path() -> None:
    Path("mine.sav").write_text("")
    picked(model="mine.sav", executable="bin/topaz")
    told = json.loads(Path("results/topaz/batches/0001/topaz.json").read_text())
    assert f"--model={Path('mine.sav').absolute()}" in told["arguments"][1]


def write_trained(downsampling: int, pixel_size: float) -> None:
    Path("results/trained").mkdir(parents=True)
    Path("results/trained/model.sav").write_text("")
    told = {"downsampling": downsampling, "pixel_size": pixel_size}
    Path("results/trained/model.json").write_text(json.dumps(told))


def test_a_trained_model_is_taken_with_the_factor_that_it_was_trained_with() -> None:
    write_trained(downsampling=2, pixel_size=4.0)
    picks = picked(trained="trained", downsampling=None)
    assert dict(zip(picks["exposure_id"], zip(picks["x_px"], picks["y_px"], strict=True), strict=True)) == BRIGHTEST
    told = json.loads(Path("results/topaz/batches/0001/topaz.json").read_text())
    assert f"--model={Path('results/trained/model.sav').absolute()}" in told["arguments"][1]
    assert "--up-scale=2" in told["arguments"][1]
    assert json.loads(Path("results/topaz/batches/0001/job.json").read_text())["warnings"] == []


def test_a_trained_model_is_taken_from_a_config_whose_defaults_are_all_told() -> None:
    write_trained(downsampling=4, pixel_size=8.0)
    assert len(picked(trained="trained", model=None)) == 2


def test_a_model_trained_with_other_pixels_is_warned_of() -> None:
    write_trained(downsampling=2, pixel_size=5.0)
    picked(trained="trained", downsampling=None)
    warnings = json.loads(Path("results/topaz/batches/0001/job.json").read_text())["warnings"]
    assert warnings == ["the model was trained with pixels of 5.00 Å, and is to pick at 4.00 Å"]


def test_two_models_are_refused() -> None:
    with pytest.raises(ValueError, match="either a trained model or model"):
        topaz_picker.Params(exposures="ctf", diameter=100, trained="trained", model="resnet8")


def test_a_micrograph_that_cannot_be_read_is_listed_and_the_rest_is_picked() -> None:
    Path("e2/mic.mrc").write_bytes(b"")
    assert picked()["exposure_id"].tolist() == ["e1"]
    assert read_table("results/topaz/batches/0001/failed.star", "failed")["exposure_id"].tolist() == ["e2"]
    Path("e1/mic.mrc").write_bytes(b"")
    assert picked().empty


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executable": "nowhere/topaz"}, "'nowhere/topaz' is no program"),
        ({"model": "bad"}, "topaz extract: ended with exit code 1; its last line: Unable to load model: bad"),
        ({"model": "mute"}, "printed no table of picks"),
        ({"model": "strange"}, "'other', which is none of the micrographs"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        picked(**settings)
    assert not Path("results/topaz/batches/0001/job.json").exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="the program topaz is not on the PATH; install it, or give its path as executable"):
        picked()
