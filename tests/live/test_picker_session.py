"""A session through Snakemake whose picker is switched: only picks are made again, by the other picker, and the whole graph agrees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from firn.formats.mrc import write_stack
from firn.formats.tables import read_table, write_table
from firn.live import layout
from firn.simulate.write_movie import write_tiff_movie
from workflow.session import start_live, wait_until, write_session

JOBS: dict[str, dict[str, Any]] = {
    "movies": {
        "type": "import_movies", "files": "raw/*.tif", "pixel_size": 8.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0, "batch_size": 2,
    },
    "motion": {"type": "full_frame_motion", "exposures": "movies", "save_plain": False},
    "blobs": {"type": "blob_picker", "exposures": "motion", "min_diameter": 100, "max_diameter": 140},
    "picks": {"type": "inspect_picks", "exposures": "motion", "picks": "blobs"},
}  # fmt: skip
CONTROL = {"settle_s": 0.2, "poll_s": 0.1, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
RADIUS, SIDE, LIMIT_S = 7.0, 192, 400


def disc(side: int, y: float, x: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return ((rows - y) ** 2 + (columns - x) ** 2 < RADIUS**2).astype(float)


def land(folder: Path, *names: str) -> None:
    """Movies of dark discs in noise."""
    (folder / "raw").mkdir(parents=True)
    for name in names:
        generator = np.random.default_rng(ord(name[0]))
        places = [(y + generator.uniform(-4, 4), x + generator.uniform(-4, 4)) for y in range(24, 180, 36) for x in range(24, 180, 36)]
        dose = 20.0 - 6 * sum(disc(SIDE, y, x) for y, x in places)
        write_tiff_movie(folder / "raw" / f"{name}.tif", [generator.poisson(dose).astype(np.uint8) for _ in range(3)])


def write_templates(folder: Path) -> None:
    folder.mkdir()
    write_stack(folder / "classes.mrcs", disc(32, 16, 16)[None].astype(np.float32), 8.0)
    write_table(
        folder / "classes.star", pd.DataFrame({"class_number": [1], "class_image": [f"000001@{folder.name}/classes.mrcs"]}), "classes"
    )


def test_a_switched_picker_makes_only_picks_again_and_counts_in_the_whole_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_session(tmp_path, JOBS)
    monkeypatch.chdir(tmp_path)
    land(tmp_path, "a", "b")
    write_templates(tmp_path / "mine")
    layout.LIVE.mkdir()
    layout.CONTROL.write_text(yaml.safe_dump(CONTROL))
    log = tmp_path / "live.log"
    process = start_live(tmp_path, log)
    try:
        wait_until(layout.outcome_file("movies", "0001").exists, process, log, LIMIT_S)
        before = {job: layout.result_file(job, "0001").stat().st_mtime_ns for job in JOBS}
        former = read_table("results/picks/batches/0001/picks.star", "picks")
        choice = {"type": "template_picker", "templates": "mine", "diameter": 112}
        layout.CONTROL.write_text(yaml.safe_dump(CONTROL | {"picker": choice, "reason": "discs", "test": {"exposure": "b", **choice}}))
        wait_until((layout.trial_folder(1) / "result.json").exists, process, log, LIMIT_S)
        layout.END_MARK.touch()
        assert process.wait(timeout=LIMIT_S) == 0, log.read_text()[-3000:]
    finally:
        process.terminate()
        process.wait(timeout=30)

    after = {job: layout.result_file(job, "0001").stat().st_mtime_ns for job in ("movies", "motion", "blobs")}
    assert [after[job] == before[job] for job in after] == [True, True, False]
    assert after["blobs"] < layout.ENDED.stat().st_mtime_ns, "the whole graph picked again"
    settings = json.loads(Path("results/blobs/job.json").read_text())["settings"]
    assert (settings["type"], settings["diameter"], settings["templates"]) == ("template_picker", 112, "live/pickers/1")
    picks = read_table("results/picks/picks.star", "picks")
    assert "class_number" in picks.columns
    assert "class_number" not in former.columns
    assert len(former) > 30
    assert len(picks) > 30
    told = json.loads((layout.trial_folder(1) / "result.json").read_text())
    assert (told["kept"] > 15, told["pictures"]) == (True, ["picks.png", "thresholds.png"])
    assert len(read_table(layout.trial_folder(1) / "picks.star", "picks")) == told["kept"]
    decisions = [json.loads(line) for line in layout.DECISION_LOG.read_text().splitlines()]
    assert [(entry["new"]["type"], entry["reason"]) for entry in decisions if entry["what"] == "picker"] == [("template_picker", "discs")]
