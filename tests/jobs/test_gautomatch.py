"""Picking with Gautomatch: what it is told, what is read back and counted, and what is said when it fails. A stand-in plays its part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_image, write_stack
from firn.formats.mrc_header import read_mrc_header
from firn.formats.tables import read_table
from firn.jobs import gautomatch
from firn.runtime.entry import open_job
from outside_exposures import BATCH, BRIGHTEST, PIXEL, put_program, write_exposures

STAND_IN = """
import pathlib, sys
import mrcfile

words = sys.argv[1:]
pathlib.Path(__file__).with_name("told.txt").write_text("\\n".join(words))
if "--fail" in words:
    sys.exit("No GPU found")
print("***  Gautomatch v0.56  ***")
HEAD = "\\ndata_\\n\\nloop_\\n_rlnCoordinateX #1\\n_rlnCoordinateY #2\\n_rlnAnglePsi #3\\n_rlnClassNumber #4\\n_rlnAutopickFigureOfMerit #5\\n"
for name in [word for word in words if word.endswith(".mrc")]:
    with mrcfile.open(name) as mrc:
        assert mrc.data.dtype.itemsize == 4
        y, x = divmod(int(mrc.data.argmax()), mrc.data.shape[1])
    row = f"  {x}.000  {y}.000  90.0  0  0.3\\n"
    if "--boxes" in words:
        pathlib.Path(name[:-4] + "_automatch.box").write_text(f"{x - 32} {y - 32} 64 64 0.3\\n")
    elif "--mute" not in words:
        pathlib.Path(name[:-4] + "_automatch.star").write_text(HEAD + row)
        pathlib.Path(name[:-4] + "_rejected.star").write_text(HEAD + row * 2)
        pathlib.Path(name[:-4] + "_nonunique.star").write_text(HEAD + row * 3)
"""
HOME = Path("results/gauto/batches/0001")


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The micrographs, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(put_program("Gautomatch", STAND_IN).parent))
    write_exposures()


def picked(templates: bool = False, **settings: Any) -> pd.DataFrame:
    wanted = {"type": "gautomatch", "exposures": "ctf", "diameter": 100} | settings
    inputs = {"exposures": [BATCH]} | ({"templates": ["classes"]} if templates else {})
    with open_job(gautomatch.Params, wanted, inputs, HOME, "gauto", "0001", threads=1) as job:
        gautomatch.run(job)
    return read_table(HOME / "picks.star", "picks", needs=("exposure_id",))


def metrics() -> dict[str, float]:
    return {name: metric["value"] for name, metric in json.loads((HOME / "job.json").read_text())["metrics"].items()}


def told() -> dict[str, str]:
    words = Path("bin/told.txt").read_text().split("\n")
    return dict(zip(words, [*words[1:], ""], strict=True))


@pytest.mark.parametrize("arguments", [[], ["--boxes"]])
def test_picks_come_back_to_their_exposures_and_what_is_left_out_is_counted(arguments: list[str]) -> None:
    picks = picked(arguments=arguments)
    assert dict(zip(picks["exposure_id"], zip(picks["x_px"], picks["y_px"], strict=True), strict=True)) == BRIGHTEST
    assert picks["pick_score"].tolist() == pytest.approx([0.3, 0.3])
    assert picks["diameter"].tolist() == [100, 100]
    assert picks["micrograph"].tolist() == ["e1/mic.mrc", "e2/mic.mrc"]
    counts = metrics()
    assert (counts["picks"], counts["rejected"], counts["nonunique"]) == ((2, 0, 0) if arguments else (2, 4, 6))
    record = json.loads((HOME / "gautomatch.json").read_text())
    assert record["version"] == "0.56"
    assert record["program"] == str(Path("bin/Gautomatch").absolute())
    assert not (HOME / "gautomatch").exists()
    assert {path.name for path in (HOME / "figures").iterdir()} == {"picks_e1.png", "picks_e2.png"}


def test_arguments_are_those_of_the_parameters_and_the_users_come_last() -> None:
    picked(speed=3, min_score=0.25, local_average=(-0.8, 1.2), arguments=["--detect_ice", "1"])
    expected = {
        "--apixM": "2", "--diameter": "100", "--min_dist": "70", "--speed": "3", "--boxsize": "60", "--cc_cutoff": "0.25", "--lp": "30",
        "--hp": "1000", "--lsigma_D": "100", "--lsigma_cutoff": "1.2", "--lave_D": "100", "--lave_min": "-0.8", "--lave_max": "1.2",
    }  # fmt: skip
    words = Path("bin/told.txt").read_text().split("\n")
    assert words[:2] == ["m000000.mrc", "m000001.mrc"]
    assert words[-2:] == ["--detect_ice", "1"]
    assert {name: value for name, value in told().items() if name in expected} == expected
    assert not {"--gid", "--T"} & set(words)


def test_templates_go_along_as_they_are_with_their_pixel_size_but_for_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("classes").mkdir()
    write_stack("classes/classes.mrcs", np.float32([np.ones((8, 8))] * 3 + [np.zeros((8, 8))]), 4.5)
    seen: list[tuple[int, ...]] = []
    ran = gautomatch.run_program

    def watched(arguments: list[str], folder: Path, **more: Any) -> None:
        seen.append(read_mrc(folder / "templates.mrcs")[0].shape)
        ran(arguments, folder, **more)

    monkeypatch.setattr(gautomatch, "run_program", watched)
    picked(templates=True, angular_step=10)
    assert (told()["--T"], told()["--apixT"], told()["--ang_step"]) == ("templates.mrcs", "4.5", "10")
    assert seen == [(3, 8, 8)]


def test_sums_without_dose_weights_are_looked_at_and_half_precision_is_written_anew() -> None:
    image = np.random.default_rng(2).normal(size=(90, 121)).astype(np.float32)
    image[5, 7] = 99
    write_image("plain.mrc", image, PIXEL)
    write_exposures(float16=True, micrograph_plain=["plain.mrc", ""], movie="m.tiff")
    assert read_mrc_header("e2/mic.mrc").mode == 12
    picks = picked()
    assert picks["x_px"].tolist() == [7, 88]
    assert picks["micrograph"].tolist() == ["e1/mic.mrc", "e2/mic.mrc"]


def test_micrographs_without_plain_sums_are_warned_of() -> None:
    write_exposures(movie="m.tiff")
    picked()
    (warning,) = json.loads((HOME / "job.json").read_text())["warnings"]
    assert warning.startswith("2 micrographs have no sum without dose weights")


def test_a_micrograph_that_cannot_be_read_is_listed_and_the_rest_is_picked() -> None:
    Path("e2/mic.mrc").write_bytes(b"")
    assert picked()["exposure_id"].tolist() == ["e1"]
    assert read_table(HOME / "failed.star", "failed")["exposure_id"].tolist() == ["e2"]
    Path("e1/mic.mrc").write_bytes(b"")
    assert picked().empty


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executable": "nowhere/Gautomatch"}, "'nowhere/Gautomatch' is no program"),
        ({"arguments": ["--fail"]}, "Gautomatch m000000.mrc: ended with exit code 1; its last line: No GPU found"),
        ({"arguments": ["--mute"]}, "Gautomatch ended without writing m000000_automatch.star or .box"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        picked(**settings)
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="none of the programs Gautomatch, gautomatch is on the PATH; install one"):
        picked()
