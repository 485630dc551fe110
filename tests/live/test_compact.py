"""A compacted session has lost its images only; restored, it has the very same ones, and nothing is to be run again."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.tables import write_table
from firn.live import layout
from firn.live.compact import RECORD, compact, restore
from firn.simulate.write_movie import write_tiff_movie
from workflow.session import ROOT, planned_jobs, run, write_session

JOBS = {
    "movies": {
        "type": "import_movies",
        "files": "raw/*.tif",
        "pixel_size": 2.0,
        "voltage_kv": 300,
        "cs_mm": 2.7,
        "dose_per_frame": 1.0,
        "batch_size": 4,
    },
    "motion": {"type": "patch_motion", "exposures": "movies", "save_plain": False},
    "good": {"type": "curate_exposures", "exposures": "motion", "max_motion": 100},
    "blobs": {"type": "blob_picker", "exposures": "good", "min_diameter": 20, "max_diameter": 30},
    "stack": {"type": "extract_particles", "exposures": "good", "picks": "blobs", "box_px": 16},
}


def land(folder: Path, count: int) -> None:
    """Movies of dark discs that move."""
    (folder / "raw").mkdir()
    for number in range(count):
        chance = np.random.default_rng(number)
        y, x = np.mgrid[:128, :128]
        discs = sum(((y - a) ** 2 + (x - b) ** 2 < 30) for a, b in chance.uniform(16, 112, (8, 2)))
        frames = [chance.poisson(8 - 4 * np.clip(np.roll(discs, step, axis=1), 0, 1)).astype(np.uint8) for step in range(4)]
        write_tiff_movie(folder / "raw" / f"{number}.tif", frames)


def command(folder: Path) -> list[str]:
    program = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "Snakefile")]
    return [*program, "--profile", str(ROOT / "profiles/local"), "--quiet", "--configfile", str(folder / "session.yaml")]


def files(folder: Path, pattern: str, skip: int = 0) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()[skip:] for path in sorted((folder / "results").rglob(pattern))}


def pixels(folder: Path) -> dict[str, bytes]:
    """Of micrographs and stacks; headers hold the time of writing."""
    return files(folder, "*.mrc", 1024) | files(folder, "*.mrcs", 1024)


@pytest.mark.parametrize("last", ["motion", pytest.param("stack", marks=pytest.mark.slow)])
def test_a_session_is_compacted_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_session(tmp_path, {name: JOBS[name] for name in list(JOBS)[: list(JOBS).index(last) + 1]})
    land(tmp_path, 4)
    code, text = run(tmp_path)
    assert code == 0, text[-3000:]
    images, tables = pixels(tmp_path), files(tmp_path, "*.star")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.star")}
    assert any(name.startswith(f"results/{last}/") for name in images)

    told = compact(tmp_path, dry=True)
    assert pixels(tmp_path) == images
    assert compact(tmp_path) == told
    assert set(told) == ({"micrographs"} if last == "motion" else {"micrographs", "particles"})
    assert not pixels(tmp_path)
    assert files(tmp_path, "*.star") == tables
    assert compact(tmp_path) == {}
    assert not planned_jobs(run(tmp_path, "--dry-run")[1])

    assert restore(tmp_path, command(tmp_path)) == []
    assert pixels(tmp_path) == images
    assert files(tmp_path, "*.star") == tables
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not planned_jobs(run(tmp_path, "--dry-run")[1])
    assert not list(tmp_path.rglob(RECORD))


def leave(folder: Path, job: str, kind: str) -> Path:
    batch = folder / "results" / job / "batches" / "0001"
    (batch / "micrographs").mkdir(parents=True)
    (batch / "job.json").write_text(f'{{"type": "{kind}"}}')
    (batch / "micrographs/a.mrc").write_bytes(b"12345678")
    (batch / "reference.mrc").write_bytes(b"1234")
    (batch / "exposures.star").write_text("data_")
    return batch


def test_only_images_in_batches_are_deleted(tmp_path: Path) -> None:
    imported, batch = leave(tmp_path, "movies", "import_movies"), leave(tmp_path, "motion", "patch_motion")
    outside = tmp_path / "raw.mrc"
    outside.write_bytes(b"1")
    (batch / "micrographs/link.mrc").symlink_to(outside)
    (tmp_path / "results/motion/map.mrc").write_bytes(b"1")
    assert compact(tmp_path) == {"micrographs": 8}
    assert (imported / "micrographs/a.mrc").exists()
    assert not (batch / "micrographs/a.mrc").exists()
    assert all(
        path.exists() for path in (outside, batch / "micrographs/link.mrc", batch / "reference.mrc", tmp_path / "results/motion/map.mrc")
    )


def test_a_session_that_goes_on_is_not_compacted(tmp_path: Path) -> None:
    batch = leave(tmp_path, "motion", "patch_motion")
    (tmp_path / layout.LIVE / "batches").mkdir(parents=True)
    with pytest.raises(InputError, match="has not ended"):
        compact(tmp_path)
    (tmp_path / layout.ENDED).touch()
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.input.lock").touch()
    with pytest.raises(InputError, match="at work"):
        compact(tmp_path)
    assert (batch / "micrographs/a.mrc").exists()


def test_a_restore_that_fails_can_be_started_again(tmp_path: Path) -> None:
    batch = leave(tmp_path, "motion", "patch_motion")
    os.utime(batch / "exposures.star", ns=(10**18, 10**18))
    compact(tmp_path)
    with pytest.raises(InputError, match="start again"):
        restore(tmp_path, ["false", "", ""])
    os.utime(batch / "exposures.star", ns=(2 * 10**18, 2 * 10**18))
    (batch / "job.json").write_text("{}")
    (batch / "micrographs/a.mrc").write_bytes(b"12345678")
    assert restore(tmp_path, ["true", "", ""]) == []
    assert (batch / "exposures.star").stat().st_mtime_ns == 10**18


@pytest.mark.parametrize(("column", "different"), [("motion_total", True), ("seconds_ctf", False)])
def test_a_table_that_comes_out_different_is_told_but_not_for_the_time_it_took(tmp_path: Path, column: str, different: bool) -> None:
    batch = leave(tmp_path, "motion", "patch_motion")
    write_table(batch / "exposures.star", pd.DataFrame({"exposure_id": ["e1"], column: [1.0]}), "exposures")
    compact(tmp_path)
    with pytest.raises(InputError, match="start again"):
        restore(tmp_path, ["false", "", ""])
    (batch / "job.json").write_text("{}")
    (batch / "micrographs/a.mrc").write_bytes(b"12345678")
    write_table(batch / "exposures.star", pd.DataFrame({"exposure_id": ["e1"], column: [2.0]}), "exposures")
    assert restore(tmp_path, ["true", "", ""]) == ["results/motion/batches/0001/exposures.star"] * different


def test_rounds_and_unfinished_work_go_when_asked_for_and_only_of_jobs_made_whole(tmp_path: Path) -> None:
    whole, open_still = tmp_path / "results/map", tmp_path / "results/class2d"
    for job in (whole, open_still):
        (job / "rounds/0001").mkdir(parents=True)
        (job / "rounds/0001/map.mrc").write_bytes(b"12345")
    (whole / "job.json").write_text("{}")
    (tmp_path / "results/.start.state").mkdir()
    (tmp_path / "results/.start.state/poses").write_bytes(b"123")
    batch = leave(tmp_path, "motion", "patch_motion")
    assert compact(tmp_path, dry=True, classes=["rounds", "unfinished"]) == {"rounds": 5, "unfinished": 3}
    assert (whole / "rounds/0001/map.mrc").exists()
    assert compact(tmp_path, classes=["rounds", "unfinished"]) == {"rounds": 5, "unfinished": 3}
    assert not (whole / "rounds").exists()
    assert (open_still / "rounds/0001/map.mrc").exists()
    assert (batch / "micrographs/a.mrc").exists()
    assert not (tmp_path / "results/.start.state").exists()
