"""Running Snakemake on a session in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]


def write_session(folder: Path, jobs: dict[str, dict[str, Any]], seed: int = 1) -> Path:
    """Write session.yaml into the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "session.yaml"
    path.write_text(yaml.safe_dump({"seed": seed, "jobs": jobs}, sort_keys=False))
    return path


def start(folder: Path, *arguments: str, profile: str = "local") -> subprocess.Popen[str]:
    """Snakemake in a process group of its own."""
    where = ["--profile", str(ROOT / "profiles" / profile), "--directory", str(folder), "--configfile", str(folder / "session.yaml")]
    command = [*COMMAND, *where, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def run(folder: Path, *arguments: str, profile: str = "local", timeout: float = 600) -> tuple[int, str]:
    """(exit code, everything printed) of Snakemake on the folder's session."""
    process = start(folder, *arguments, profile=profile)
    text, _ = process.communicate(timeout=timeout)
    return process.returncode, text


def live_command(profile: str = str(ROOT / "profiles/local")) -> list[str]:
    """The supervisor of a live session in the working directory."""
    return [sys.executable, str(ROOT / "scripts/live.py"), ".", "--profile", profile, "--configfile", "session.yaml"]


def start_live(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A live session in a folder, under its supervisor; what it prints is added to the log."""
    with log.open("ab") as stream:
        return subprocess.Popen(live_command(), cwd=folder, stdout=stream, stderr=stream, env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path, limit_s: float = 400) -> None:
    """Return when a condition holds; fails with the end of the log when the session ends before, or it takes unreasonably long."""
    end = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)


def kill_when(process: subprocess.Popen[str], path: Path, timeout: float = 300) -> None:
    """Kill the whole process group with SIGKILL as soon as a path exists."""
    end = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() > end or process.poll() is not None:
            raise TimeoutError(f"{path} did not appear before the run ended")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def planned_jobs(dry_run: str) -> set[str]:
    """Names of the session's jobs that a dry run lists."""
    return {line.split("job=")[1].split(",")[0].strip() for line in dry_run.splitlines() if "wildcards:" in line and "job=" in line}
