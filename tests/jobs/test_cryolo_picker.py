"""Picking with crYOLO: what it is told, what is read back above the threshold, what is said when it fails. A stand-in plays its part."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.tables import read_table
from firn.jobs import cryolo_picker
from firn.runtime.entry import open_job
from outside_exposures import BATCH, BRIGHTEST, put_program, write_exposures

STAND_IN = """
import pathlib, sys
import mrcfile

if sys.argv[1:] == ["--version"]:
    sys.exit("usage: cryolo_predict.py")
pathlib.Path(__file__).with_name("told.txt").write_text("\\n".join(sys.argv[1:]))
words = dict(zip(sys.argv[1:], sys.argv[2:]))
if "--fail" in sys.argv:
    sys.exit("OSError: Unable to open file")
out = pathlib.Path(words["-o"])
if "--mute" not in sys.argv:
    (out / "CBOX").mkdir(parents=True)
labels = ["CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Depth", "EstWidth", "EstHeight", "Confidence", "NumBoxes", "Angle"]
HEAD = "data_global\\n\\n_cbox_format_version 1.0\\n\\ndata_cryolo\\n\\nloop_\\n" + "".join(f"_{x} #{n}\\n" for n, x in enumerate(labels, 1))
for path in sorted(pathlib.Path(words["-i"]).iterdir()):
    with mrcfile.open(path) as mrc:
        y, x = divmod(int(mrc.data.argmax()), mrc.data.shape[1])
    rows = [f"{x - 15} {y - 15} <NA> 30 30 1 31 29 {score} <NA> <NA>" for score in (0.9, 0.25)]
    if "--mute" not in sys.argv and not ("--one" in sys.argv and path.stem == "m000001"):
        (out / "CBOX" / f"{path.stem}.cbox").write_text(HEAD + "\\n".join(rows) + "\\n")
"""
HOME = Path("results/cryolo/batches/0001")


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The micrographs, the program on the PATH, a configuration and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(put_program("cryolo_predict.py", STAND_IN).parent))
    write_exposures()
    Path("config.json").write_text("{}")
    Path("model.h5").write_text("")


def picked(**settings: Any) -> pd.DataFrame:
    wanted = {"type": "cryolo_picker", "exposures": "ctf", "config": "config.json", "model": "model.h5", "diameter": 60} | settings
    with open_job(cryolo_picker.Params, wanted, {"exposures": [BATCH]}, HOME, "cryolo", "0001", threads=2) as job:
        cryolo_picker.run(job)
    return read_table(HOME / "picks.star", "picks", needs=("exposure_id",))


def test_picks_above_the_threshold_come_back_to_their_exposures() -> None:
    picks = picked()
    assert dict(zip(picks["exposure_id"], zip(picks["x_px"], picks["y_px"], strict=True), strict=True)) == BRIGHTEST
    assert picks["pick_score"].tolist() == [0.9, 0.9]
    assert picks["diameter"].tolist() == [60, 60]
    assert len(picked(min_score=0.2)) == 4
    assert picked(arguments=["--one"])["exposure_id"].tolist() == ["e1"]
    record = json.loads((HOME / "cryolo.json").read_text())
    assert (record["program"], record["version"]) == (str(Path("bin/cryolo_predict.py").absolute()), "unknown")
    assert not (HOME / "cryolo").exists()


def test_arguments_are_whole_paths_threshold_and_threads() -> None:
    picked(min_score=0.4, arguments=["--otf"])
    files = ["-c", str(Path("config.json").absolute()), "-w", str(Path("model.h5").absolute()), "-i", "in", "-o", "out"]
    assert Path("bin/told.txt").read_text().split("\n") == [*files, "-t", "0.4", "-nc", "2", "--otf"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executable": "nowhere/cryolo"}, "'nowhere/cryolo' is no program"),
        ({"config": "none.json"}, "config: 'none.json' is no file"),
        ({"model": "none.h5"}, "model: 'none.h5' is no file"),
        ({"arguments": ["--fail"]}, "cryolo_predict.py: ended with exit code 1; its last line: OSError: Unable to open file"),
        ({"arguments": ["--mute"]}, "cryolo_predict.py ended without the folder CBOX"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        picked(**settings)
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"the program cryolo_predict\.py is not on the PATH"):
        picked()
