"""The supervisor leaves room for the tick where jobs run on this machine, and keeps out of it elsewhere."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firn.errors import InputError
from firn.live import supervise
from firn.live.supervise import LIVE_CORES, leftovers, queue_names, spare_cores

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_workstation_never_keeps_the_tick_waiting() -> None:
    assert spare_cores(["snakemake", "--profile", str(ROOT / "profiles/local")]) == ["--cores", str(LIVE_CORES)]
    assert spare_cores(["snakemake"]) == ["--cores", str(LIVE_CORES)]


def test_a_cluster_counts_its_own_cores() -> None:
    assert spare_cores(["snakemake", "--profile", str(ROOT / "profiles/slurm")]) == []


def test_jobs_in_a_queue_bear_the_name_of_their_run_folder(tmp_path: Path) -> None:
    slurm = ["snakemake", "--profile", str(ROOT / "profiles/slurm")]
    option, name = queue_names(slurm, tmp_path)
    assert option == "--slurm-jobname-prefix"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}", name)
    assert queue_names(slurm, tmp_path / "other") != [option, name]
    assert queue_names([*slurm, option, "mine"], tmp_path) == []
    assert queue_names(["snakemake", "--profile", str(ROOT / "profiles/local")], tmp_path) == []


def test_jobs_that_an_earlier_run_left_in_the_queue_are_cancelled_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of Slurm stand in that know two jobs, one of another session; a cancelled job is there for one more look."""
    (tmp_path / "7").touch()
    mine = f"{supervise.queue_name(tmp_path)}_run"
    squeue = f"#!/bin/sh\ncd {tmp_path}\necho '5 other'\n[ -e 7 ] && echo '7 {mine}'\n[ -e ending ] && rm -f 7\nexit 0\n"
    for name, text in (("squeue", squeue), ("scancel", f'#!/bin/sh\ncd {tmp_path}\necho "$@" >> cancelled\ntouch ending\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(supervise, "PAUSE_S", 0.01)
    supervise._cancel_queued(tmp_path)
    assert (tmp_path / "cancelled").read_text() == "7\n"
    assert not (tmp_path / "7").exists()


@pytest.mark.parametrize("given", ["--cores", "-c", "--jobs", "-j"])
def test_what_the_user_says_of_cores_holds(given: str) -> None:
    assert spare_cores(["snakemake", given, "3"]) == []


def test_a_supervisor_in_the_background_can_stop_what_it_runs(tmp_path: Path) -> None:
    script = "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    script += f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
    script += "from pathlib import Path\nfrom firn.live.supervise import supervise\n"
    script += f"supervise([sys.executable, '-c', 'import time; time.sleep(60)'], Path({str(tmp_path)!r}))"
    supervisor = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not leftovers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    started = leftovers(tmp_path)
    supervisor.terminate()
    try:
        supervisor.wait(timeout=20)
        assert started
        assert not leftovers(tmp_path)
    finally:
        supervisor.kill()
        for process in leftovers(tmp_path):
            os.kill(process, signal.SIGKILL)


def test_a_fault_in_the_config_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervise, "PAUSE_S", 0.01)
    program = tmp_path / "snakemake"
    program.write_text(f"#!/bin/sh\necho told >> {tmp_path}/said\nexit {os.EX_CONFIG}\n")
    program.chmod(0o755)
    assert supervise.supervise([str(program)], tmp_path) == os.EX_CONFIG
    assert (tmp_path / "said").read_text() == "told\n"


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="live: the folder cannot be made"):
        supervise.supervise(["true"], tmp_path / "run")
