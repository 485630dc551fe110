"""Keep Snakemake running on a live session until the session is over, whatever is killed; then run the whole graph.

The session's own end mark says that it is over, never an exit code: one failed try makes Snakemake's code 1 although all went well later.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import yaml

from firn.errors import InputError
from firn.live import layout
from firn.live.control import read_control
from firn.live.storage import no_room, results_away, say_waiting

MARK = "FIRN_LIVE_SESSION"
"""Environment variable by which a session's processes are told from others."""
PREFIX, QUEUE = "--slurm-jobname-prefix", "squeue"
SHORTEST_S = 20.0
QUICK_ENDS = 3
PAUSE_S = 2.0
LIVE_CORES = max(64, os.cpu_count() or 1)
"""Cores that Snakemake may count on while movies come: a machine full of work would keep the next tick waiting; lanes bound the work."""


def supervise(snakemake: Sequence[str], folder: Path) -> int:
    """Run a live session in a folder to its end, and the ordinary graph after it; the exit code of the last.

    snakemake: the command with profile and config, without a target. Raises InputError when another supervisor is at work.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with _lock(folder):
        quick = 0
        while not (folder / layout.ENDED).exists():
            if _is_stopped(folder):
                sys.stderr.write(f"{folder / layout.CONTROL}: state is stop; set it to run and start again\n")
                return 0
            _wait_for_storage(folder)
            started = time.monotonic()
            code = _run([*snakemake, *spare_cores(snakemake), *queue_names(snakemake, folder), "--directory", str(folder), "live"], folder)
            if code == os.EX_CONFIG:
                return code
            quick = quick + 1 if code > 0 and time.monotonic() - started < SHORTEST_S and not _storage_fault(folder) else 0
            if quick >= QUICK_ENDS:
                return code
            time.sleep(0 if (folder / layout.ENDED).exists() else PAUSE_S)
        while True:
            _wait_for_storage(folder)
            code = _run([*snakemake, *queue_names(snakemake, folder), "--directory", str(folder)], folder)
            if code <= 0 or not _storage_fault(folder):
                return code


def _storage_fault(folder: Path) -> str:
    return no_room(folder) or results_away(folder)


def _wait_for_storage(folder: Path) -> None:
    """Return when the run folder can be written to and has its results; says once what it waits for."""
    said = ""
    while sentence := _storage_fault(folder):
        if sentence != said:
            say_waiting(sentence)
            said = sentence
        time.sleep(PAUSE_S)


def spare_cores(command: Sequence[str]) -> list[str]:
    """Arguments that let the tick run beside a machine full of jobs; none where cores are given, or jobs run elsewhere."""
    if {"--cores", "-c", "--jobs", "-j", "--executor", "-e"} & set(command):
        return []
    return ["--cores", str(LIVE_CORES)] if _executor(command) == "local" else []


def queue_names(command: Sequence[str], folder: Path) -> list[str]:
    """Arguments that give a session's jobs in Slurm's queue names by which they are known; none on other machines."""
    return [] if PREFIX in command or _executor(command) != "slurm" else [PREFIX, queue_name(folder)]


def queue_name(folder: Path) -> str:
    """The beginning of the names of a run folder's jobs in Slurm's queue."""
    return f"firn_{hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()}"


def _executor(command: Sequence[str]) -> str:
    profile = Path(command[list(command).index("--profile") + 1]) / "config.yaml" if "--profile" in command else None
    settings = yaml.safe_load(profile.read_text(encoding="utf-8")) if profile and profile.exists() else {}
    return str(settings.get("executor", "local"))


def _cancel_queued(folder: Path) -> None:
    """Cancel what an earlier run of the session left in Slurm's queue, and return when none of it writes any more."""
    cancelled: set[str] = set()
    while left := _queued(queue_name(folder)):
        if left - cancelled:
            say_waiting(f"Slurm ends jobs of an earlier run, {', '.join(sorted(left))}")
            subprocess.run(["scancel", *sorted(left - cancelled)], check=False)
            cancelled |= left
        time.sleep(PAUSE_S)


def _queued(name: str) -> set[str]:
    """Numbers of this user's jobs in Slurm's queue whose names begin so."""
    words = [QUEUE, "--me", "--noheader", "--format", "%i %j"]
    lines = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    return {number for number, _, job in (line.partition(" ") for line in lines) if job.startswith(name)}


def leftovers(folder: Path) -> list[int]:
    """Processes that an earlier run of the session left behind, when the one above them was killed."""
    wanted = f"{MARK}={folder.resolve()}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _run(command: list[str], folder: Path) -> int:
    """Snakemake in a process group of its own; what an earlier one left is ended and its lock opened first."""
    _end_leftovers(folder)
    if PREFIX in command and shutil.which(QUEUE):
        _cancel_queued(folder)
    for stump in (folder / layout.LIVE).rglob(".*.tmp"):
        stump.unlink(missing_ok=True)
    environment = os.environ | {MARK: str(folder.resolve())}
    if any((folder / ".snakemake" / "locks").glob("*")):
        subprocess.run([*command, "--unlock"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_heed_interrupts)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    _end_leftovers(folder)
    return code


def _heed_interrupts() -> None:
    """Started in the background by a shell, a process ignores SIGINT, and so would Snakemake, which could not be stopped then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_leftovers(folder: Path) -> None:
    for process in leftovers(folder):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _is_stopped(folder: Path) -> bool:
    try:
        return read_control(folder / layout.CONTROL).state == "stop"
    except InputError:
        return False


def _lock(folder: Path) -> IO[str]:
    path = folder / layout.LIVE / "supervisor.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: the folder cannot be made ({error.strerror})") from error
    _wait_for_storage(folder)
    stream = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.seek(0)
        raise InputError(f"{path}: another supervisor is at work ({stream.read().strip() or 'unknown'})") from error
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    stream.flush()
    return stream
