"""Denoising with Topaz: micrographs of the same size beside the measured ones, shown and never cut from. A stand-in plays Topaz."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.families.micrographs import to_show
from firn.formats.mrc import check_header, read_mrc, write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import topaz_denoise, topaz_picker
from firn.runtime.entry import open_job
from topaz_stand_in import write_stand_in

UP = "results/ctf/batches/0001"
HOME = Path("results/clean/batches/0001")
SHAPE = (90, 121)


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micrographs of noise, and the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(write_stand_in(tmp_path / "bin" / "topaz").parent))
    for name, level in (("a", 3.0), ("b", 5.0)):
        write_image(f"{name}.mrc", np.random.default_rng(1).normal(level, size=SHAPE).astype(np.float32), 2.0)
    shared = {"batch": "0001", "micrograph_pixel_size": 2.0, "voltage_kv": 300.0}
    write_table(f"{UP}/exposures.star", pd.DataFrame([shared | {"exposure_id": n, "micrograph": f"{n}.mrc"} for n in "ab"]), "exposures")


def denoised(**settings: Any) -> pd.DataFrame:
    wanted = {"type": "topaz_denoise", "exposures": "ctf"} | settings
    with open_job(topaz_denoise.Params, wanted, {"exposures": [UP]}, HOME, "clean", "0001", threads=1) as job:
        topaz_denoise.run(job)
    return read_table(HOME / "exposures.star", "exposures")


def pick(folder: str) -> None:
    wanted = {"type": "topaz_picker", "exposures": "clean", "diameter": 60, "downsampling": 4, "denoised": True, "plots": 0}
    home = Path("results/picks/batches/0001")
    with open_job(topaz_picker.Params, wanted, {"exposures": [folder]}, home, "picks", "0001", threads=1) as job:
        topaz_picker.run(job)


def told() -> list[str]:
    return json.loads((HOME / "topaz.json").read_text())["arguments"][0]


def test_each_exposure_keeps_its_micrograph_and_gets_a_denoised_one() -> None:
    table = denoised()
    assert table["micrograph"].tolist() == ["a.mrc", "b.mrc"]
    for path, level in zip(table["micrograph_denoised"], (3.0, 5.0), strict=True):
        image, pixel_size = read_mrc(path)
        assert image.shape == SHAPE
        assert pixel_size == pytest.approx(2.0)
        assert np.allclose(image, level, atol=0.1)
    assert {"--model=unet", "--arch=unet"} <= set(told())
    assert {path.name for path in (HOME / "figures").iterdir()} == {"denoised_a.png", "denoised_b.png"}
    assert not (HOME / "topaz").exists()


def test_denoised_micrographs_may_be_written_as_16_bit_floats() -> None:
    assert check_header(denoised(float16=True)["micrograph_denoised"][0])[0] == 12


def test_a_micrograph_that_cannot_be_read_is_listed_and_the_rest_is_denoised() -> None:
    Path("b.mrc").write_bytes(b"")
    assert denoised()["exposure_id"].tolist() == ["a"]
    assert read_table(HOME / "failed.star", "failed")["exposure_id"].tolist() == ["b"]
    Path("a.mrc").write_bytes(b"")
    assert denoised().empty


def test_a_model_of_ones_own_is_refused_where_topaz_would_take_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.sav").write_text("")
    with pytest.raises(InputError, match=r"takes no notice of 'mine.sav' .*; it knows unet, unet-small, affine"):
        denoised(model="mine.sav")
    monkeypatch.setenv("TOPAZ_TAKES_MODELS", "1")
    denoised(model="mine.sav")
    assert f"--model={Path('mine.sav').absolute()}" in told()


def test_the_denoised_micrograph_is_shown_unless_it_is_gone_or_of_another_size() -> None:
    row, micrograph = {"micrograph_denoised": "a.mrc"}, np.zeros(SHAPE, dtype=np.float32)
    assert to_show(row, micrograph).mean() == pytest.approx(3.0, abs=0.1)
    assert to_show(row, micrograph[1:]).shape == (SHAPE[0] - 1, SHAPE[1])
    assert to_show({"micrograph_denoised": "gone.mrc"}, micrograph) is micrograph
    assert to_show({}, micrograph) is micrograph


def test_topaz_picks_in_the_denoised_micrographs_when_it_is_told_to() -> None:
    """The denoised one is brightest where the measured one is not."""
    table = denoised()
    image = np.zeros(SHAPE, dtype=np.float32)
    image[40, 60] = 9
    for path in table["micrograph_denoised"]:
        write_image(path, image, 2.0)
    with pytest.raises(InputError, match="have no denoised micrographs"):
        pick(UP)
    pick(str(HOME))
    picks = read_table("results/picks/batches/0001/picks.star", "picks")
    assert picks[["x_px", "y_px"]].to_numpy().tolist() == [[60, 40]] * 2
    assert picks["micrograph"].tolist() == ["a.mrc", "b.mrc"]
