"""Picking with Topaz: what it is told, what is read back, and what is said when it is missing or fails. A stand-in plays its part."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import topaz_picker
from firn.runtime.entry import open_job

STAND_IN = """#!{python}
import argparse, os, sys
import mrcfile

parser = argparse.ArgumentParser()
parser.add_argument("--version", action="version", version="TOPAZ 0.0")
commands = parser.add_subparsers(dest="command", required=True)
prepare = commands.add_parser("preprocess")
prepare.add_argument("files", nargs="+")
prepare.add_argument("-s", "--scale", type=int)
prepare.add_argument("-o", "--destdir", required=True)
extract = commands.add_parser("extract")
extract.add_argument("paths", nargs="*")
for short, long, kind in (("-m", "--model", str), ("-r", "--radius", int), ("-t", "--threshold", float), ("-x", "--up-scale", float),
                          ("-d", "--device", int), ("-j", "--num-threads", int), ("-w", "--num-workers", int)):
    extract.add_argument(short, long, type=kind, required=True)
given = parser.parse_args()
stem = lambda path: os.path.splitext(os.path.basename(path))[0]
if given.command == "preprocess":
    os.makedirs(given.destdir)
    for path in given.files:
        with mrcfile.open(path) as mrc:
            y, x = divmod(int(mrc.data.argmax()), mrc.data.shape[1])
        with open(os.path.join(given.destdir, stem(path) + ".tiff"), "w") as stream:
            stream.write(f"{{x // given.scale}} {{y // given.scale}}")
else:
    if given.model == "bad":
        sys.exit("Unable to load model: bad")
    if given.model == "mute":
        sys.exit(0)
    print("# device = CPU\\nimage_name\\tx_coord\\ty_coord\\tscore")
    for path in given.paths:
        x, y = (int(word) * int(given.up_scale) for word in open(path).read().split())
        print("a word besides")
        print("other" if given.model == "strange" else stem(path), x, y, given.radius + given.threshold, sep="\\t")
"""
BRIGHTEST = {"e1": (40, 16), "e2": (88, 72)}


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micrographs of one file name, each with one bright pixel, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    Path("bin").mkdir()
    path = Path("bin/topaz")
    path.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(path.parent.absolute()))
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
    assert told["version"] == "TOPAZ 0.0"
    assert told["program"] == str(Path("bin/topaz").absolute())
    assert [arguments[0] for arguments in told["arguments"]] == ["preprocess", "extract"]
    assert not (home / "topaz").exists()
    assert {path.name for path in (home / "figures").iterdir()} == {"picks_e1.png", "picks_e2.png"}


@pytest.mark.parametrize(("device", "number"), [("cpu", "-1"), ("cuda:1", "1"), ("cuda", "0")])
def test_arguments_name_the_device_the_radius_and_every_image(device: str, number: str) -> None:
    params = topaz_picker.Params(exposures="ctf", diameter=100, model="m.sav", downsampling=8, threshold=-6, arguments=["--dims=2"])
    images = [Path("/a b/-c.tiff"), Path("/d.tiff")]
    arguments = topaz_picker.extract_arguments("/bin/topaz", images, params, 0.5, torch.device(device), 3)
    assert arguments[:2] == ["/bin/topaz", "extract"]
    assert arguments[-2:] == ["/a b/-c.tiff", "/d.tiff"]
    options = dict(argument.split("=") for argument in arguments[2:-2])
    assert options == {
        "--model": "m.sav",
        "--radius": "12",
        "--threshold": "-6",
        "--up-scale": "8",
        "--device": number,
        "--num-threads": "3",
        "--num-workers": "3",
        "--dims": "2",
    }


def test_a_model_of_the_users_own_is_named_by_its_whole_path() -> None:
    Path("mine.sav").write_text("")
    picked(model="mine.sav", executable="bin/topaz")
    told = json.loads(Path("results/topaz/batches/0001/topaz.json").read_text())
    assert f"--model={Path('mine.sav').absolute()}" in told["arguments"][1]


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
