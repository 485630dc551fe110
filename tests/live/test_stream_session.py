"""Rounds through Snakemake: a job that is killed is done again, nothing is lost, and the session ends by itself."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from false_picks import write_particles
from firn.formats.ids import exposure_id
from firn.formats.tables import read_table, write_table
from firn.live import layout
from firn.runtime.atomic import write_json
from workflow.session import start, write_session

JOBS: dict[str, dict[str, Any]] = {
    "movies": {"type": "import_movies", "files": "raw/*.tif", "pixel_size": 4.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0},
    "pre": {"type": "preprocess", "exposures": "movies", "blob_min_diameter": 100, "blob_max_diameter": 130, "extract_box_px": 64},
    "class2d": {
        "type": "classify_2d", "particles": "pre", "classes": 4, "iterations": 10, "max_resolution": 14.0, "particle_diameter": 120.0,
    },
    "keep": {"type": "select_2d", "particles": "class2d", "templates": "class2d"},
}  # fmt: skip
CONTROL = {"poll_s": 0.1, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
LIMIT_S = 240


def give_batch(paths: list[str], rejected: str) -> None:
    """A batch that is finished, as a session leaves it: one exposure is rejected by hand."""
    table = write_particles(Path("results/pre/batches/0001"), 120, 40)
    names = [exposure_id(path) for path in paths]
    write_table("results/pre/batches/0001/particles.star", table.assign(exposure_id=[names[row % 4] for row in range(160)]), "particles")
    Path("raw").mkdir()
    for path in paths:
        Path(path).touch()
    files = [{"path": path, "found": 1.0, "complete": 1.0, "shape": "4 64 64"} for path in paths]
    write_json(layout.batch_file("movies", "0001"), {"import": "movies", "batch": "0001", "cut": 1.0, "files": files})
    outcomes = [
        {"exposure_id": name, "movie": path, "numbers": {"particles": 40}, "code": "", "reason": ""}
        for name, path in zip(names, paths, strict=True)
    ]
    write_json(layout.outcome_file("movies", "0001"), outcomes)
    layout.CONTROL.write_text(yaml.safe_dump(CONTROL | {"reject": [rejected]}))
    layout.END_MARK.touch()


def kill_round(folder: Path, process: subprocess.Popen[str]) -> None:
    """Kill the process of the first round at work."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                mine = entry.joinpath("cwd").readlink() == folder and b"stream_round" in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mine and list(folder.glob("results/class2d/rounds/.0001.partial")):
                os.kill(int(entry.name), signal.SIGKILL)
                return
        time.sleep(0.02)
    raise TimeoutError("no round was at work")


def test_a_killed_round_is_done_again_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, JOBS)
    give_batch([f"raw/{name}.tif" for name in "abcd"], rejected="b")
    process = start(tmp_path, "--keep-going", "live")
    try:
        kill_round(tmp_path, process)
        text, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert layout.ENDED.exists(), text[-3000:]
    with layout.ROUNDS.open() as stream:
        rounds = [(row["job"], row["state"], row["tries"], row["particles"]) for row in csv.DictReader(stream)]
    assert rounds == [("class2d", "done", "2", "120"), ("keep", "done", "1", "120")]
    found = read_table("results/class2d/rounds/0001/particles.star", "particles")
    expected = read_table("results/pre/batches/0001/particles.star", "particles")
    assert list(found["particle_id"]) == list(expected.loc[expected["exposure_id"] != exposure_id("raw/b.tif"), "particle_id"])
    assert json.loads(Path("results/keep/rounds/0001/job.json").read_text())["metrics"]["particles_kept"]["value"] > 0
    assert "class2d" in Path("live/report/report.html").read_text()
    assert not [path for path in Path("results").rglob(".*") if path.name.startswith(".0001")]
