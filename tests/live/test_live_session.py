"""A whole session through Snakemake: movies come, Snakemake is killed, one file is bad; the tables are those of a batch run."""

import os
import signal
import subprocess
import time
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import yaml

from firn.formats.tables import read_table
from firn.jobs import import_movies, patch_motion
from firn.live.supervise import leftovers
from firn.runtime.entry import open_job
from firn.simulate.write_movie import truncate_file, write_tiff_movie
from workflow.session import start_live, wait_until, write_session

IMPORT = {
    "type": "import_movies",
    "files": "raw/*.tif",
    "pixel_size": 2.0,
    "voltage_kv": 300,
    "cs_mm": 2.7,
    "dose_per_frame": 1.0,
    "batch_size": 3,
}
MOTION = {"type": "patch_motion", "exposures": "movies", "save_plain": False}
CONTROL = {"settle_s": 0.3, "poll_s": 0.1, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
LIMIT_S = 300


def land(folder: Path, *names: str) -> None:
    """Movies of one moving pattern each."""
    (folder / "raw").mkdir(exist_ok=True, parents=True)
    for name in names:
        generator = np.random.default_rng(ord(name[0]))
        pattern = 4 + 3 * generator.standard_normal((64, 64)).cumsum(axis=0).cumsum(axis=1) / 64
        frames = [generator.poisson(np.clip(np.roll(pattern, step, axis=1), 0.5, 50)).astype(np.uint8) for step in range(4)]
        write_tiff_movie(folder / "raw" / f"{name}.tif", frames)


def kill_snakemake_alone(folder: Path, supervisor: int) -> None:
    """Kill what the supervisor started, but not its jobs, which become orphans."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert children
    for child in children:
        os.kill(int(child), signal.SIGKILL)


def batch_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Motion-corrected exposures of an ordinary run over the files in a folder."""
    monkeypatch.chdir(folder)
    with open_job(import_movies.Params, IMPORT | {"seed": 1}, {}, Path("results/movies"), "movies") as job:
        import_movies.run(job)
    tables = []
    for batch in job.batches:
        home = Path("results/motion/batches") / batch
        inputs = {"exposures": [f"results/movies/batches/{batch}"]}
        with open_job(patch_motion.Params, MOTION | {"seed": 1}, inputs, home, "motion", batch, 1) as motion:
            patch_motion.run(motion)
        tables.append(read_table(home / "exposures.star", "exposures"))
    return pd.concat(tables, ignore_index=True)


def test_a_killed_session_goes_on_and_ends_with_the_tables_of_a_batch_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "session"
    write_session(folder, {"movies": IMPORT, "motion": MOTION})
    land(folder, "a", "b", "c", "x")
    truncate_file(folder / "raw" / "x.tif")
    (folder / "live").mkdir()
    (folder / "live" / "control.yaml").write_text(yaml.safe_dump(CONTROL))
    supervisor = start_live(folder, folder / "live.log")
    try:
        wait_until((folder / "results/motion/batches/.0001.partial").exists, supervisor, folder / "live.log", LIMIT_S)
        kill_snakemake_alone(folder, supervisor.pid)
        land(folder, "d", "e")
        (folder / "live" / "end").touch()
        code = supervisor.wait(timeout=LIMIT_S)
    finally:
        supervisor.terminate()
        supervisor.wait(timeout=30)
    text = (folder / "live.log").read_text()
    assert code == 0, text[-3000:]
    assert not leftovers(folder)
    assert "run_tick" not in text

    land(tmp_path / "batch", "a", "b", "c", "d", "e", "x")
    truncate_file(tmp_path / "batch" / "raw" / "x.tif")
    expected = batch_run(tmp_path / "batch", monkeypatch)
    found = read_table(folder / "results/motion/exposures.star", "exposures")
    pd.testing.assert_frame_equal(found, expected)
    for path in expected["micrograph"]:
        with mrcfile.open(folder / path) as one, mrcfile.open(tmp_path / "batch" / path) as other:
            np.testing.assert_array_equal(one.data, other.data)

    failed = read_table(folder / "results/movies/failed.star", "failed")
    assert list(failed["movie"]) == ["raw/x.tif"]
    verdicts = pd.read_csv(folder / "live" / "exposures.csv")
    assert sorted(verdicts["movie"]) == [f"raw/{name}.tif" for name in "abcde"]
    assert not list((folder / "results").rglob("*.partial"))


def kill_one(folder: Path, script: bytes, process: subprocess.Popen[bytes]) -> None:
    """Kill the first job seen in the folder that runs a script."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                found = (entry / "cwd").readlink() == folder and script in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if found:
                os.kill(int(entry.name), signal.SIGKILL)
                return
        time.sleep(0.02)
    raise TimeoutError(f"no {script!r} ran")


@pytest.mark.slow
def test_later_batches_go_on_when_the_first_import_is_killed(tmp_path: Path) -> None:
    write_session(tmp_path, {"movies": IMPORT | {"batch_size": 1}})
    land(tmp_path, "a", "b", "c")
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "control.yaml").write_text(yaml.safe_dump(CONTROL))
    supervisor = start_live(tmp_path, tmp_path / "live.log")
    try:
        kill_one(tmp_path, b"import_batch", supervisor)
        (tmp_path / "live" / "end").touch()
        code = supervisor.wait(timeout=LIMIT_S)
    finally:
        supervisor.terminate()
        supervisor.wait(timeout=30)
    assert code == 0, (tmp_path / "live.log").read_text()[-3000:]
    assert sorted(read_table(tmp_path / "results/movies/exposures.star", "exposures")["movie"]) == ["raw/a.tif", "raw/b.tif", "raw/c.tif"]
