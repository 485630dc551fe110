"""Gathering loses no row, no warning, and no batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.tables import read_table, write_table
from firn.jobs import gather
from firn.report.style import new_figure, save
from firn.runtime.entry import open_job

OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": 1.2}


def exposures(batch: str, count: int) -> pd.DataFrame:
    names = [f"e{batch}{number:08d}" for number in range(count)]
    defocus = np.linspace(10000, 20000, count)
    return pd.DataFrame(
        {"exposure_id": names, "batch": batch, "micrograph": [f"m/{name}.mrc" for name in names]}
        | {"defocus_u": defocus, "defocus_v": defocus - 100, "ctf_fit_resolution": np.arange(count) + 3.0}
    ).assign(**OPTICS)


def write_batch(
    batch: str, table: pd.DataFrame, kind: str = "exposures", job_type: str = "patch_ctf", warnings: list[str] | None = None
) -> str:
    folder = Path("results/ctf/batches") / batch
    write_table(folder / f"{kind}.star", table, kind)
    figures = [{"file": f"figures/power{number}.png", "title": "Power", "caption": "Rings."} for number in range(3)]
    for figure in figures:
        save(new_figure(1, 1)[0], folder / figure["file"])
    record = {"type": job_type, "seconds": 2.5, "warnings": warnings or [], "figures": figures, "metrics": {}}
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    return str(folder)


def run(folders: list[str], **settings: Any) -> dict[str, Any]:
    with open_job(
        gather.Params, {"type": "patch_ctf", "exposures": "movies", **settings}, {"batches": folders}, Path("results/ctf"), "ctf", threads=1
    ) as job:
        gather.run(job)
    return json.loads(Path("results/ctf/job.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_rows_of_all_batches_are_there_in_order_and_the_batches_stay():
    tables = {"0001": exposures("0001", 4), "0002": exposures("0002", 3), "10000": exposures("10000", 1)}
    record = run([write_batch(batch, tables[batch]) for batch in ("10000", "0002", "0001")])
    united = read_table("results/ctf/exposures.star", "exposures")
    assert list(united["exposure_id"]) == [name for batch in ("0001", "0002", "10000") for name in tables[batch]["exposure_id"]]
    assert record["batches"] == ["0001", "0002", "10000"]
    assert record["metrics"]["exposures"] == {"value": 8.0, "unit": ""}
    assert record["metrics"]["batch_seconds"]["value"] == pytest.approx(7.5)
    assert record["metrics"]["median_ctf_fit_resolution"]["value"] == pytest.approx(float(united["ctf_fit_resolution"].median()))
    assert Path("results/ctf/batches/0002/exposures.star").exists()


def test_figures_are_summaries_and_a_sample_of_every_batch_first():
    record = run([write_batch(f"{number:04d}", exposures(f"{number:04d}", 3)) for number in range(1, 6)])
    names = [Path(figure["file"]).stem for figure in record["figures"]]
    assert names[:2] == ["defocus", "ctf_resolution"]
    sampled = [name for name in names if name.startswith("batch_")]
    assert len(sampled) == 8
    assert {name.split("_")[1] for name in sampled} == {"0001", "0002", "0003", "0004", "0005"}
    assert all((Path("results/ctf") / figure["file"]).exists() for figure in record["figures"])


def test_warnings_are_united_and_failures_counted():
    first = write_batch("0001", exposures("0001", 2), warnings=["Thick ice."])
    second = write_batch("0002", exposures("0002", 2), warnings=["Thick ice.", "Odd gain."])
    failed = pd.DataFrame(
        {"exposure_id": ["e1"], "batch": ["0002"], "movie": ["a b.tif"], "reason_code": ["ZERO"], "reason": ["all pixels are 0"]}
    )
    write_table(Path(second) / "failed.star", failed, "failed")
    record = run([first, second])
    assert "Thick ice. (2 batches)" in record["warnings"]
    assert "Odd gain." in record["warnings"]
    assert any(warning.startswith("1 exposures could not be processed") for warning in record["warnings"])
    assert read_table("results/ctf/failed.star", "failed")["movie"].tolist() == ["a b.tif"]


def test_a_batch_without_a_row_is_no_obstacle():
    picks = pd.DataFrame(
        {"exposure_id": ["e1", "e1"], "batch": "0001", "micrograph": "m.mrc", "x_px": [1.0, 2.0], "y_px": [3.0, 4.0]}
    ).assign(**OPTICS)
    folders = [write_batch("0001", picks, "picks", "blob_picker"), write_batch("0002", picks.iloc[:0], "picks", "blob_picker")]
    record = run(folders)
    assert record["metrics"]["picks"]["value"] == 2
    assert read_table("results/ctf/picks.star", "picks")["batch"].tolist() == ["0001", "0001"]


def test_only_empty_batches_still_give_a_table():
    folders = [write_batch("0001", exposures("0001", 2).iloc[:0], "picks", "blob_picker")]
    assert run(folders)["metrics"]["picks"]["value"] == 0
    assert Path("results/ctf/picks.star").exists()


def test_no_batches_at_all_is_an_error():
    with pytest.raises(InputError, match="no batches"):
        run([])
