"""Sharpening with DeepEMhancer: what it is told, what is handed on, and what is said when it fails. A stand-in plays its part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import deepemhancer
from firn.runtime.entry import open_job
from outside_exposures import put_program

SIDE, PIXEL = 16, 1.5
STAND_IN = """
import pathlib, sys
import mrcfile, numpy as np

if sys.argv[1:] == ["--version"]:
    print("0.15")
    sys.exit()
pathlib.Path(__file__).with_name("told.txt").write_text("\\n".join(sys.argv[1:]))
given = dict(zip(sys.argv[1:], sys.argv[2:]))
if "--fail" in sys.argv:
    sys.exit("ResourceExhaustedError: out of memory")
made = (mrcfile.read(given["-i"]) + mrcfile.read(given["-i2"])) * (0 if "--empty" in sys.argv else 1)
if "-m" in given:
    mask = mrcfile.read(given["-m"])
    assert set(np.unique(mask)) == {0, 1}
    made = made * mask
if "--mute" not in sys.argv:
    with mrcfile.new(given["-o"]) as mrc:
        mrc.set_data(made.astype(np.float32))
        mrc.voxel_size = float(given["-s"])
"""
HOME = Path("results/enhanced")


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half maps with a mask, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(put_program("deepemhancer", STAND_IN).parent))
    for half in (1, 2):
        write_volume(f"map/half{half}.mrc", np.random.default_rng(half).normal(size=(SIDE,) * 3).astype(np.float32), PIXEL)
    write_volume("map/mask.mrc", np.linspace(0, 1, SIDE**3).reshape((SIDE,) * 3).astype(np.float32), PIXEL)


def enhanced(mask: bool = False, **settings: Any) -> np.ndarray:
    inputs = {"volume": ["map"]} | ({"mask": ["map"]} if mask else {})
    with open_job(deepemhancer.Params, {"type": "deepemhancer", "volume": "map"} | settings, inputs, HOME, "enhanced") as job:
        deepemhancer.run(job)
    volume, pixel_size = read_volume(HOME / "map.mrc")
    assert pixel_size == pytest.approx(PIXEL)
    return volume


def test_its_map_is_the_map_and_half_maps_and_mask_are_handed_on() -> None:
    expected = read_volume("map/half1.mrc")[0] + read_volume("map/half2.mrc")[0]
    assert np.allclose(enhanced(), expected)
    for name in ("half1.mrc", "half2.mrc", "mask.mrc"):
        assert (HOME / name).read_bytes() == Path("map", name).read_bytes()
    told = json.loads((HOME / "deepemhancer.json").read_text())
    assert (told["program"], told["version"]) == (str(Path("bin/deepemhancer").absolute()), "0.15")
    assert {path.name for path in (HOME / "figures").iterdir()} == {"slices.png", "surface.png"}
    assert not (HOME / "deepemhancer").exists()


def test_arguments_are_those_of_the_parameters_and_a_mask_is_made_binary() -> None:
    Path("models").mkdir()
    masked = enhanced(mask=True, model="wideTarget", models="models", arguments=["-b", "4"])
    assert Path("bin/told.txt").read_text().split("\n") == [
        "-i", "half1.mrc", "-i2", "half2.mrc", "-o", "out.mrc", "-m", "mask.mrc", "-s", "1.5", "-p", "wideTarget", "-g", "-1",
        "--deepLearningModelPath", str(Path("models").absolute()), "-b", "4",
    ]  # fmt: skip
    assert ((masked != 0) == (read_volume("map/mask.mrc")[0] > 0.5)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executable": "nowhere/deepemhancer"}, "'nowhere/deepemhancer' is no program"),
        ({"arguments": ["--fail"]}, "deepemhancer: ended with exit code 1; its last line: ResourceExhaustedError"),
        ({"arguments": ["--mute"]}, "deepemhancer ended without writing its map; what it said is in the job's log"),
        ({"arguments": ["--empty"]}, "deepemhancer wrote an empty map"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        enhanced(**settings)
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="the program deepemhancer is not on the PATH; install it"):
        enhanced()
