"""Sharpening by relion_postprocess: the real one where it is installed, a stand-in for its arguments and its faults."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.fsc import read_fsc
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import relion_postprocess
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL
from stand_in import write_program

HOME = Path("results/post")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two half maps of one molecule, each with noise of its own, and a mask of whole pixels around it."""
    monkeypatch.chdir(tmp_path)
    Path("map").mkdir()
    volume, chance = phantom_volume(PHANTOM, BOX, PIXEL), np.random.default_rng(3)
    for half in (1, 2):
        noisy = volume + 0.02 * volume.max() * chance.normal(size=volume.shape)
        write_volume(f"map/half{half}.mrc", noisy.astype(np.float32), PIXEL)
    z, y, x = np.indices(volume.shape) - BOX // 2
    write_volume("map/mask.mrc", (z**2 + y**2 + x**2 < (60 / PIXEL) ** 2).astype(np.float32), PIXEL)


def postprocess(**settings: Any) -> dict[str, Any]:
    wanted = {"type": "relion_postprocess", "volume": "map"} | settings
    with open_job(relion_postprocess.Params, wanted, {"volume": ["map"]}, HOME, "post") as job:
        relion_postprocess.run(job)
    return {name: metric["value"] for name, metric in json.loads((HOME / "job.json").read_text())["metrics"].items()}


def stand_in(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    body = f"import pathlib, sys\npathlib.Path('told.txt').write_text('\\n'.join(sys.argv[1:]))\nprint('no more')\nsys.exit({code})"
    monkeypatch.setenv("PATH", str(write_program(Path("bin/relion_postprocess"), f"#!{sys.executable}\n{body}\n").parent))


@pytest.mark.relion
@pytest.mark.skipif(not shutil.which("relion_postprocess"), reason="needs RELION")
def test_relion_sharpens_and_its_map_and_curves_come_back() -> None:
    metrics = postprocess(b_factor=-300)
    assert metrics["b_factor"] == -300
    assert 2 * PIXEL <= metrics["resolution_corrected"] < 25
    sharpened, pixel_size = read_volume(HOME / "map.mrc")
    masked, _ = read_volume(HOME / "map_masked.mrc")
    assert pixel_size == pytest.approx(PIXEL)
    assert np.allclose(masked[: BOX // 2 - 13], 0)
    assert sharpened.std() > 0
    assert {"corrected", "unmasked", "tight", "randomised", "resolution"} <= set(read_fsc(HOME / "fsc.star").columns)
    assert json.loads((HOME / "relion.json").read_text())["version"].startswith("RELION version")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"--auto_bfac": None, "--autob_lowres": "10"}),
        ({"b_factor": -80, "low_pass": 7}, {"--adhoc_bfac": "-80", "--skip_fsc_weighting": None, "--low_pass": "7"}),
        (
            {"mtf": "k3.star", "mtf_pixel_size": 0.5},
            {"--mtf": "k3.star", "--mtf_angpix": "0.5", "--auto_bfac": None, "--autob_lowres": "10"},
        ),
        ({"arguments": ["--autob_lowres", "8"]}, {"--auto_bfac": None, "--autob_lowres": "8"}),
    ],
)
def test_arguments_are_those_of_the_parameters(settings: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 0)
    with pytest.raises(InputError, match=r"relion_postprocess ended without writing postprocess\.mrc; what it said is in the job's log"):
        postprocess(**settings)
    words = Path("told.txt").read_text().split("\n")
    told = {word: next(iter(words[place + 1 :]), None) for place, word in enumerate(words) if word.startswith("--")}
    told = {name: None if value is None or value.startswith("--") else value for name, value in told.items()}
    assert (told.pop("--i"), told.pop("--i2"), told.pop("--mask")) == ("map/half1.mrc", "map/half2.mrc", "map/mask.mrc")
    assert told.pop("--angpix") == "5"
    assert told.pop("--o").endswith("relion/postprocess")
    assert told == expected


def test_faults_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 2)
    with pytest.raises(InputError, match="relion_postprocess: ended with exit code 2; its last line: no more"):
        postprocess()
    Path("map/mask.mrc").unlink()
    with pytest.raises(InputError, match=r"map has no mask\.mrc; give mask"):
        postprocess()
    monkeypatch.setenv("PATH", "")
    Path("map/mask.mrc").write_bytes(Path("map/half1.mrc").read_bytes())
    with pytest.raises(InputError, match="the program relion_postprocess is not on the PATH"):
        postprocess()
