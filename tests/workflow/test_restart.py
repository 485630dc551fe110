"""What runs again, and what does not: after nothing changed, after an edit, after kill -9."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firn.formats.tables import read_table
from workflow.session import ROOT, kill_when, planned_jobs, run, start, write_session


def jobs() -> dict[str, dict[str, Any]]:
    return {
        "micrographs": {
            "type": "import_micrographs",
            "files": "raw/*.mrc",
            "pixel_size": 1.5,
            "voltage_kv": 300,
            "cs_mm": 0.001,
            "batch_size": 2,
        },
        "ctf": {"type": "patch_ctf", "exposures": "micrographs"},
        "blobs": {"type": "blob_picker", "exposures": "ctf", "min_diameter": 110, "max_diameter": 140},
        "picks": {"type": "inspect_picks", "exposures": "ctf", "picks": "blobs"},
        "stack": {"type": "extract_particles", "exposures": "ctf", "picks": "picks", "box_px": 144, "crop_to_px": 48},
    }


def lay_raw(folder: Path) -> None:
    (folder / "raw").mkdir(parents=True)
    for path in sorted((ROOT / "demo/empiar-10146").glob("*.mrc"))[:3]:
        shutil.copy(path, folder / "raw")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    lay_raw(folder)
    write_session(folder, jobs())
    code, text = run(folder)
    assert code == 0, text[-3000:]
    return folder


def particles(folder: Path) -> pd.DataFrame:
    return read_table(folder / "results/stack/particles.star", "particles")


def stacks(folder: Path) -> dict[str, bytes]:
    """Pixels of every particle stack, by path below the run folder; headers hold the time of writing."""
    paths = sorted((folder / "results/stack").rglob("*.mrcs"))
    return {str(path.relative_to(folder)): path.read_bytes()[1024:] for path in paths}


def test_a_session_leaves_tables_stacks_and_a_report(finished: Path) -> None:
    assert len(particles(finished)) > 100
    assert stacks(finished)
    assert (finished / "results/report.html").stat().st_size > 10_000
    assert not list((finished / "results").rglob(".*.partial"))


def test_a_rerun_without_change_runs_nothing(finished: Path) -> None:
    code, text = run(finished)
    assert code == 0
    assert "Nothing to be done" in text


def test_a_changed_parameter_reruns_that_job_and_what_follows(finished: Path) -> None:
    changed = jobs()
    changed["blobs"]["max_diameter"] = 150
    write_session(finished, changed)
    code, text = run(finished, "--dry-run")
    write_session(finished, jobs())
    assert code == 0
    assert planned_jobs(text) == {"blobs", "picks", "stack"}


def test_kill_9_in_the_middle_costs_nothing_but_time(finished: Path, tmp_path: Path) -> None:
    lay_raw(tmp_path)
    write_session(tmp_path, jobs())
    kill_when(start(tmp_path), tmp_path / "results/blobs/batches/.0001.partial")
    run(tmp_path, "--unlock")
    code, text = run(tmp_path)
    assert code == 0, text[-3000:]
    pd.testing.assert_frame_equal(particles(tmp_path), particles(finished))
    assert stacks(tmp_path) == stacks(finished)


def test_a_missing_input_is_one_clear_sentence(tmp_path: Path) -> None:
    write_session(tmp_path, jobs())
    code, text = run(tmp_path)
    assert code != 0
    assert "job micrographs (import_micrographs): " in text
    assert "raw/*.mrc" in text
