"""patch_ctf as a job: real micrographs against independent fits, and bad exposures set apart."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ctf_images import noisy_micrograph
from firn.formats.exposures import ctf_values
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import patch_ctf
from firn.kernels.ctf import ctf_2d
from firn.kernels.fourier import frequencies2
from firn.runtime.entry import open_job

DEMO = Path(__file__).parents[2] / "demo" / "empiar-10146"
OPTICS = {"voltage_kv": 300.0, "cs_mm": 0.001, "amplitude_contrast": 0.07}
REFERENCE = """May08_04.36.57.bin_avg,17807,17289,124.8
May08_05.53.51.bin_avg,19481,19103,128.0
"""


def fit(micrographs: list[str], pixel_size: float = 1.5, plain: list[str] | None = None, **settings) -> dict:
    rows = [
        {"exposure_id": f"e{i}", "batch": "0001", "micrograph": path, "micrograph_pixel_size": pixel_size, **OPTICS}
        for i, path in enumerate(micrographs)
    ]
    table = pd.DataFrame(rows) if plain is None else pd.DataFrame(rows).assign(micrograph_plain=plain)
    write_table("results/in/batches/0001/exposures.star", table, "exposures")
    home = Path("results/ctf/batches/0001")
    with open_job(
        patch_ctf.Params, {"exposures": "in", **settings}, {"exposures": ["results/in/batches/0001"]}, home, "ctf", "0001", threads=1
    ) as job:
        patch_ctf.run(job)
    return json.loads((home / "job.json").read_text())


@pytest.fixture(autouse=True)
def _in_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(not DEMO.exists(), reason="the demo's micrographs are not here")
def test_real_micrographs_agree_with_an_independent_fit_and_drift_shows():
    names = [row[0] for row in csv.reader(REFERENCE.splitlines())] + ["May08_06.09.02.bin_avg"]
    for name in names:
        shutil.copy(DEMO / f"{name}.mrc", f"{name}.mrc")
    fit([f"{name}.mrc" for name in names], plots=0)
    table = read_table("results/ctf/batches/0001/exposures.star", "exposures")
    for row, (_, u, v, angle) in zip(table.itertuples(), csv.reader(REFERENCE.splitlines()), strict=False):
        assert (row.defocus_u + row.defocus_v) / 2 == pytest.approx((float(u) + float(v)) / 2, abs=200)
        assert abs((row.defocus_angle - float(angle) + 90) % 180 - 90) < 12
        assert row.ctf_fit_resolution < 5
    assert table["ctf_fit_resolution"][2] > 20
    assert table["ctf_score"][2] < 0.5 * table["ctf_score"][:2].min()


def test_bad_exposures_are_listed_with_their_reason_and_the_rest_is_fitted():
    rng = np.random.default_rng(1)
    write_image("good.mrc", noisy_micrograph((400, 400), 1.5, 15000, 14800, 20, cs=0.001, ac=0.07, signal=2.0), 1.5)
    write_image("flat.mrc", np.ones((300, 300)), 1.5)
    write_image("small.mrc", rng.standard_normal((60, 60)), 1.5)
    Path("cut.mrc").write_bytes(Path("good.mrc").read_bytes()[:20000])
    write_image("nan.mrc", np.full((300, 300), np.nan), 1.5)
    record = fit(["good.mrc", "flat.mrc", "small.mrc", "cut.mrc", "nan.mrc", "absent.mrc"])
    failed = read_table("results/ctf/batches/0001/failed.star", "failed")
    assert failed["reason_code"].tolist() == ["ZERO", "SHAPE", "HEADER", "NONFINITE", "HEADER"]
    assert all(Path(name).stem in reason for name, reason in zip(failed["micrograph"], failed["reason"], strict=True))
    table = read_table("results/ctf/batches/0001/exposures.star", "exposures")
    assert table["exposure_id"].tolist() == ["e0"]
    assert (table["defocus_u"][0] + table["defocus_v"][0]) / 2 == pytest.approx(14900, rel=0.01)
    assert record["metrics"]["failed"]["value"] == 5
    assert [figure["file"] for figure in record["figures"]] == ["figures/ctf_e0.png"]


def test_the_sum_without_dose_weights_is_fitted_where_there_is_one():
    write_image("weighted.mrc", np.random.default_rng(2).standard_normal((400, 400)), 1.5)
    write_image("plain.mrc", noisy_micrograph((400, 400), 1.5, 15000, 14800, 20, cs=0.001, ac=0.07, signal=2.0), 1.5)
    fit(["weighted.mrc"], plain=["plain.mrc"], plots=0)
    row = read_table("results/ctf/batches/0001/exposures.star", "exposures").iloc[0]
    assert (row["defocus_u"] + row["defocus_v"]) / 2 == pytest.approx(14900, rel=0.01)
    assert row["micrograph"] == "weighted.mrc"


def test_a_batch_without_exposures_gives_an_empty_table():
    write_table("results/in/batches/0001/exposures.star", pd.DataFrame({"exposure_id": [], "micrograph": []}), "exposures")
    with open_job(
        patch_ctf.Params, {"exposures": "in"}, {"exposures": ["results/in/batches/0001"]}, Path("results/ctf"), "ctf", threads=1
    ) as job:
        patch_ctf.run(job)
    assert read_table("results/ctf/exposures.star", "exposures").empty


@pytest.mark.skipif(not DEMO.exists(), reason="the demo's micrographs are not here")
def test_a_fit_to_low_resolution_foretells_rings_of_a_real_micrograph_that_it_never_saw():
    shutil.copy(DEMO / "May08_05.53.51.bin_avg.mrc", "m.mrc")
    fit(["m.mrc"], plots=0, max_resolution=6.5)
    assert read_table("results/ctf/batches/0001/exposures.star", "exposures")["ctf_fit_resolution"][0] < 5


def test_a_tilted_specimen_has_its_tilt_and_axis_in_the_table():
    """Defocus grows by 600 Å from the centre to the right edge, 600 Å away: 45 degrees about an axis that points down the rows."""
    write_image(
        "m.mrc", noisy_micrograph((800, 800), 1.5, 15000, 14900, 20, cs=0.001, ac=0.07, signal=1.5, b_factor=60, slope=(600.0, 0.0)), 1.5
    )
    fit(["m.mrc"])
    row = read_table("results/ctf/batches/0001/exposures.star", "exposures").iloc[0]
    assert row["specimen_tilt"] == pytest.approx(45, abs=2)
    assert row["tilt_axis"] == pytest.approx(-90, abs=3)


def test_a_constant_ctf_is_written_without_reading_any_micrograph():
    record = fit(["absent.mrc"], model="constant", defocus=12000.0)
    row = read_table("results/ctf/batches/0001/exposures.star", "exposures").iloc[0]
    assert (row["defocus_u"], row["defocus_v"], row["phase_shift"]) == (12000.0, 12000.0, 0.0)
    assert "ctf_fit_resolution" not in row
    assert record["metrics"]["exposures"]["value"] == 1


def test_an_absent_ctf_is_one_at_every_frequency():
    fit(["absent.mrc"], model="none")
    values = ctf_values(read_table("results/ctf/batches/0001/exposures.star", "exposures").iloc[0].to_dict())
    assert values is not None
    assert torch.allclose(ctf_2d(frequencies2((16, 16)), *values), torch.ones(1, 16, 9), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"min_defocus": 5000, "max_defocus": 4000}, "min_defocus"),
        ({"min_phase_shift": 90, "max_phase_shift": 30}, "min_phase_shift"),
        ({"model": "constant"}, "give a defocus"),
        ({"defocus": 9000}, "give a defocus"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        patch_ctf.Params(exposures="in", **settings)
