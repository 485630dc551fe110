"""Sessions on a real Slurm: three partitions, one for each lane; jobs that die; cancellation."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from firn.formats.tables import read_table
from firn.refine.ab_initio_course import KEPT_EVERY
from firn.simulate.write_movie import write_tiff_movie
from workflow.session import ROOT, live_command, run, start, write_session
from workflow.slurm_cluster import finished, lose_node, mend_node, queue, slurm_cluster, why_not

QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
LANE = re.compile(r"(?:rule|checkpoint) (\w+):(?:(?!\n(?:rule|checkpoint) ).)*?(\w+)_gpu=(?:1|devices)", re.DOTALL)
FEW = {"initial_iterations": 8, "final_iterations": 4, "starts": 2, "grown": 1}
slurm = pytest.mark.slurm


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """What is started heeds an interrupt, even where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_cluster(folder):
        yield folder


def simulation() -> dict[str, dict[str, Any]]:
    return {"sim": {"type": "simulate_particles", "particles": 100, "box_px": 32, "pixel_size": 6.0}}


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def pause(folder: Path, script: bytes) -> None:
    """Stop the job that runs a script in a folder, as one that takes too long."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder and script in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGSTOP)


def let_time_run_out(comment: str) -> None:
    """The time limit of a running job is reached now, though Slurm's shortest is a minute; returns when Slurm has ended the job."""
    running = [fields(job) for job in finished() if "JobState=RUNNING" in job]
    (number,) = [job["JobId"] for job in running if job.get("Comment") == comment]
    subprocess.run(["scontrol", "update", f"JobId={number}", "EndTime=now"], check=True)
    wait_for(lambda: any(fields(job)["JobId"] == number and fields(job)["JobState"] == "TIMEOUT" for job in finished()))


def fields(job: str) -> dict[str, str]:
    """One job as Slurm shows it."""
    return dict(field.split("=", 1) for field in job.split() if "=" in field)


def test_every_rule_with_a_device_has_a_partition_with_one() -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    local = yaml.safe_load((ROOT / "profiles/local/config.yaml").read_text())
    lanes = {rule: lane for path in (ROOT / "rules").glob("*.smk") for rule, lane in LANE.findall(path.read_text())}
    assert {f"{lane}_gpu" for lane in lanes.values()} == set(local["resources"])
    assert set(profile["set-resources"]) == set(lanes)
    for lane in set(lanes.values()):
        given = [profile["set-resources"][rule] for rule, own in lanes.items() if own == lane]
        assert all(one == given[0] and one["gpu"] == 1 for one in given)


@slurm
def test_a_session_runs_each_lane_in_its_partition_and_asks_for_a_device_where_one_is_used(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for path in sorted((ROOT / "demo/empiar-10146").glob("*.mrc"))[:1]:
        (tmp_path / "raw" / path.name).symlink_to(path)
    micrographs = {"type": "import_micrographs", "files": "raw/*.mrc", "pixel_size": 1.5, "voltage_kv": 300, "cs_mm": 0.001}
    jobs = {"micrographs": micrographs, "ctf": {"type": "patch_ctf", "exposures": "micrographs"}, **simulation()}
    jobs["classes"] = {"type": "classify_2d", "particles": "sim", "classes": 2, "iterations": 2}
    write_session(tmp_path, jobs)
    code, text = run(tmp_path, *QUICK, profile="slurm")
    assert code == 0, text[-5000:]
    assert (tmp_path / "results/classes/classes.mrcs").exists()
    assert (tmp_path / "results/report.html").exists()
    given = {fields(job)["Comment"].removeprefix("rule_").split("_wildcards")[0]: fields(job) for job in finished()}
    partitions = {rule: job["Partition"] for rule, job in given.items()}
    assert partitions["patch_ctf"] == "preprocess"
    assert partitions["classify_2d"] == "reconstruct"
    assert partitions["import_micrographs"] == partitions["simulate_particles"] == partitions["gather"] == "cpu"
    assert "gpu:1" in given["classify_2d"]["TresPerJob"]
    assert "TresPerJob" not in given["gather"]
    assert queue() == []


@slurm
def test_results_that_are_seen_late_on_the_node_and_beside_the_queue_are_waited_for(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Snakemake sees each result four seconds after it looked for it, as over NFS, and waits for ten."""
    settings = {"PYTHONPATH": str(ROOT / "tests/late"), "LATE_S": "4", "LATE_BELOW": str(tmp_path / "results")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    write_session(tmp_path, {**simulation(), "small": {"type": "downsample_particles", "particles": "sim", "box_px": 16}})
    code, text = run(tmp_path, *QUICK, profile="slurm")
    assert code == 0, text[-5000:]
    assert text.count("Waiting at most 10 seconds for missing files") >= 2
    assert (tmp_path / "results/small/particles.star").exists()


@slurm
def test_ctrl_c_leaves_the_queue_empty_and_the_next_run_finishes(cluster: Path, heeds_ctrl_c: None, tmp_path: Path) -> None:
    write_session(tmp_path, simulation())
    session = start(tmp_path, *QUICK, profile="slurm")
    wait_for(lambda: any("RUNNING" in line for line in queue()))
    session.send_signal(signal.SIGINT)
    text, _ = session.communicate(timeout=120)
    assert session.returncode != 0, text
    wait_for(lambda: queue() == [], 30)
    assert not list(tmp_path.glob("results/*/job.json"))
    code, text = run(tmp_path, *QUICK, profile="slurm")
    assert code == 0, text[-5000:]


@slurm
def test_a_job_whose_time_is_up_goes_on_in_the_next_run(cluster: Path, tmp_path: Path) -> None:
    write_session(tmp_path, simulation() | {"first": {"type": "ab_initio", "particles": "sim", **FEW}})
    session = start(tmp_path, *QUICK, profile="slurm")
    wait_for(lambda: list(tmp_path.glob("results/.first.state/*.pt")))
    pause(tmp_path, b"ab_initio")
    let_time_run_out("rule_ab_initio_wildcards_first")
    text, _ = session.communicate(timeout=120)
    assert session.returncode != 0, text
    assert not (tmp_path / "results/first/job.json").exists()
    code, text = run(tmp_path, *QUICK, profile="slurm")
    assert code == 0, text[-5000:]
    steps = [json.loads(line) for line in (tmp_path / "logs/first.jsonl").read_text().splitlines()]
    iterations = [(step["step"], step["iteration"]) for step in steps if "iteration" in step]
    assert iterations.count(iterations[0]) == 1
    assert len(iterations) - len(set(iterations)) <= KEPT_EVERY


@slurm
@pytest.mark.slow
def test_a_live_session_outlives_the_end_of_its_allocation_and_the_loss_of_a_node(cluster: Path, tmp_path: Path) -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text(
        yaml.safe_dump(profile | {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 10})
    )
    movies = {"type": "import_movies", "files": "raw/*.tif", "pixel_size": 2.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0}
    write_session(tmp_path, {"movies": movies, "motion": {"type": "patch_motion", "exposures": "movies"}})
    control = {"settle_s": 0.3, "max_wait_s": 1, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
    for folder in ("live", "raw"):
        (tmp_path / folder).mkdir()
    (tmp_path / "live/control.yaml").write_text(yaml.safe_dump(control))
    land(tmp_path, 0)
    command = live_command("profile")
    allocation = ["sbatch", "--time=60", "--mem=1000", "--comment=session", "--output=log", f"--chdir={tmp_path}"]
    subprocess.run([*allocation, "--wrap", shlex.join(command)], check=True, stdout=subprocess.DEVNULL)
    wait_for(
        lambda: list(tmp_path.glob("results/motion/batches/.0001.partial")) + list(tmp_path.glob("results/motion/batches/0001/job.json"))
    )
    pause(tmp_path, b"patch_motion")
    supervisor = re.search(r"process (\d+)", (tmp_path / "live/supervisor.lock").read_text())
    let_time_run_out("session")
    wait_for(lambda: supervisor is not None and not Path("/proc", supervisor[1]).exists())
    assert not (tmp_path / "live/ended").exists()
    land(tmp_path, 1)
    (tmp_path / "live/end").touch()
    with (tmp_path / "log").open("a") as log, subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as session:
        try:
            wait_for(lambda: any("preprocess RUNNING" in line for line in queue()))
            lose_node(cluster)
            mend_node()
            assert session.wait(300) == 0, (tmp_path / "log").read_text()[-5000:]
        finally:
            session.terminate()
    assert len(read_table(tmp_path / "results/motion/exposures.star", "exposures")) == 2
    assert queue() == []


def land(folder: Path, number: int) -> None:
    """A movie of noise."""
    frames = np.random.default_rng(number).poisson(3, (4, 64, 64)).astype(np.uint8)
    write_tiff_movie(folder / f"raw/{number}.tif", list(frames))
