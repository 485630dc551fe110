"""FSC by direction with 3DFSC: what it is told, what is read back, and what is said when it fails. A stand-in plays its part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.jobs import threedfsc
from firn.runtime.entry import open_job
from outside_exposures import put_program

SIDE, PIXEL = 16, 3.0
STAND_IN = """
import os, pathlib, sys
import mrcfile, numpy as np

if sys.argv[1:] == ["--version"]:
    print("ThreeDFSC_Start.py 3.0")
    sys.exit()
pathlib.Path(__file__).with_name("told.txt").write_text("\\n".join(sys.argv[1:]))
if "--mute" in sys.argv:
    print("Error: Half maps are not the same size, check your inputs.")
    sys.exit()
if "--fail" in sys.argv:
    sys.exit("IndexError: no shell")
given = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
name = given["ThreeDFSC"]
os.mkdir(f"Results_{name}")
first = mrcfile.read(given["halfmap1"])
with mrcfile.new(f"Results_{name}/{name}.mrc") as mrc:
    mrc.set_data(np.ones_like(first))
theta = np.repeat(np.arange(1, 360, 36), 10)
reach = np.where(np.abs(np.cos(theta)) > 0.7, 6, 4)
shells = np.arange(len(first) // 2)
np.savetxt(f"Results_{name}/histogram_raw.csv", (shells[:, None] < reach).astype(float), delimiter=",")
lines = ["a,b,c"] + [f"{k / len(first)},0,{1.0 if k < 5 else 0.0}" for k in range(1, 9)]
pathlib.Path(f"Results_{name}/ResEM{name}OutglobalFSC.csv").write_text("\\n".join(lines))
if "--quiet" not in sys.argv:
    print("Sphericity is 0.81 out of 1 at threshold 0.50. 1 represents a perfect sphere.")
"""
HOME = Path("results/fsc3d")


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half maps, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(put_program("ThreeDFSC_Start.py", STAND_IN).parent))
    for half in (1, 2):
        write_volume(f"map/half{half}.mrc", np.random.default_rng(half).normal(size=(SIDE,) * 3).astype(np.float32), PIXEL)


def measured(**settings: Any) -> dict[str, float]:
    with open_job(threedfsc.Params, {"type": "threedfsc", "volume": "map"} | settings, {"volume": ["map"]}, HOME, "fsc3d") as job:
        threedfsc.run(job)
    return {name: metric["value"] for name, metric in json.loads((HOME / "job.json").read_text())["metrics"].items()}


def test_sphericity_and_resolutions_come_back_along_the_directions_they_were_measured_in() -> None:
    metrics = measured()
    assert metrics["sphericity"] == 0.81
    # The curves fall from 1 to 0 between the shells 3 and 4, or 5 and 6, and so cross 0.143 at 3.857 and 5.857.
    assert metrics["resolution_worst_direction"] == pytest.approx(SIDE * PIXEL / 3.857)
    assert metrics["resolution_best_direction"] == pytest.approx(SIDE * PIXEL / 5.857)
    assert metrics["resolution_global"] == pytest.approx(SIDE * PIXEL / 4)
    table = read_table(HOME / "directions.star", "directions")
    # The axis that counts most is x, the third of z, y, x: directions along it are fine.
    along = np.abs(np.sin(np.radians(table["tilt"])) * np.cos(np.radians(table["rot"])))
    assert ((table["firnConicalResolution"] < 10) == (along > 0.7)).all()
    assert read_volume(HOME / "fsc3d.mrc")[1] == pytest.approx(PIXEL)
    assert json.loads((HOME / "threedfsc.json").read_text())["version"] == "ThreeDFSC_Start.py 3.0"
    assert {path.name for path in (HOME / "figures").iterdir()} == {"conical_fsc.png", "spheres.png"}
    assert not (HOME / "threedfsc").exists()


def test_arguments_are_those_of_the_parameters_and_a_mask_goes_along() -> None:
    write_volume("map/mask.mrc", np.ones((SIDE,) * 3, np.float32), PIXEL)
    measured(cone=15, threshold=0.5, sphericity_threshold=0.4, high_pass=150, arguments=["--histogram=h"])
    assert set(Path("bin/told.txt").read_text().split("\n")) == {
        "--halfmap1=half1.mrc", "--halfmap2=half2.mrc", "--fullmap=map.mrc", "--mask=mask.mrc", "--ThreeDFSC=fsc3d", "--apix=3",
        "--dthetaInDegrees=15", "--FSCCutoff=0.5", "--ThresholdForSphericity=0.4", "--HighPassFilter=150", "--histogram=h",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executable": "nowhere/fsc"}, "'nowhere/fsc' is no program"),
        ({"arguments": ["--fail"]}, r"ThreeDFSC_Start\.py: ended with exit code 1; its last line: IndexError: no shell"),
        ({"arguments": ["--mute"]}, r"3DFSC ended without writing histogram_raw\.csv"),
        ({"arguments": ["--quiet"]}, "3DFSC ended without telling the sphericity"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(**settings)
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"the program ThreeDFSC_Start\.py is not on the PATH"):
        measured()
