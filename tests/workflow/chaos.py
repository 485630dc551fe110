"""A live session whose processes are killed as they come, and what must hold of it when it has ended."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mrcfile
import pandas as pd
import yaml

from firn.formats.ids import exposure_id
from firn.formats.star import read_star
from firn.formats.tables import read_table
from firn.live.supervise import leftovers
from workflow.session import start_live, write_session

KINDS = ("job", "group", "supervisor")
CONTROL = {"settle_s": 0.3, "poll_s": 0.1, "max_wait_s": 5, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
VERDICTS = ("accepted", "rejected", "failed")
JOB_SCRIPT = b".snakemake/scripts/"


class LiveSession:
    """A live session in a folder, started as the documentation says, and started again when its supervisor is killed."""

    def __init__(self, folder: Path, jobs: dict[str, dict[str, Any]], control: dict[str, Any] | None = None, log: Path | None = None):
        self.folder, self.landed = folder, 0
        write_session(folder, jobs)
        for name in ("live", "raw"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "live/control.yaml").write_text(yaml.safe_dump(CONTROL | (control or {})))
        self.log = log or folder.with_name(f"{folder.name}.log")
        self.start()

    def start(self) -> None:
        """Start the supervisor."""
        self.process = start_live(self.folder, self.log)

    def kill(self, kind: str, chance: random.Random) -> str:
        """SIGKILL a job, Snakemake with all it runs, or the supervisor, which is started again; what was killed, nothing if there was none."""
        if kind == "supervisor":
            self.process.kill()
            self.process.wait()
            self.start()
            return kind
        if kind == "group":
            groups = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            with suppress(ProcessLookupError):
                for group in groups:
                    os.killpg(int(group), signal.SIGKILL)
            return kind if groups else ""
        jobs = self.jobs()
        if not jobs:
            return ""
        process = chance.choice(sorted(jobs))
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return f"job {jobs[process]}"

    def jobs(self) -> dict[int, str]:
        """Scripts of jobs that run now, by process."""
        found = {}
        for process in leftovers(self.folder):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if script := next((word for word in words[1:2] if JOB_SCRIPT in word), None):
                    found[process] = script.decode().rpartition("/")[2].partition(".")[2]
        return found

    def told(self) -> dict[str, Any]:
        """session.json."""
        path = self.folder / "live/session.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait_for(self, condition: Callable[[], Any], seconds: float) -> None:
        """Wait for something while the supervisor lives."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.1)

    def end(self, seconds: float) -> int:
        """No more movies come; the exit code."""
        (self.folder / "live/end").touch()
        return self.process.wait(seconds)

    def text(self) -> str:
        """The last lines that were printed."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """End all that is left."""
        self.process.kill()
        self.process.wait()
        for process in leftovers(self.folder):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def fill(path: Path) -> None:
    """Take all the room that is left on a disk."""
    with path.open("wb", buffering=0) as stream:
        for size in (2**20, 2**12, 1):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue


def verdicts(folder: Path) -> dict[str, list[str]]:
    """All verdicts that an ended session has of each movie; a sound session has one."""
    found: dict[str, list[str]] = {}
    table = pd.read_csv(folder / "live/exposures.csv") if (folder / "live/exposures.csv").exists() else pd.DataFrame()
    for row in table.to_dict("records"):
        found.setdefault(row["movie"], []).append(
            row["verdict"] if row["verdict"] != "failed" or row["reason"] else "failed without a reason"
        )
    for path in (folder / "live/refused").rglob("*.json"):
        record = json.loads(path.read_text())
        found.setdefault(record["path"], []).append("failed" if record["reason"] else "failed without a reason")
    return found


def faults(folder: Path, imports: str, last: str) -> list[str]:
    """What is wrong with an ended session: movies without one verdict, files cut short or left over, streams that miss particles.

    imports, last: the first and the last job that works batch by batch.
    """
    found = verdicts(folder)
    movies = sorted(str(path.relative_to(folder)) for path in (folder / "raw").iterdir())
    wrong = [f"{movie}: {found.get(movie, 'no verdict')}" for movie in movies if len(found.get(movie, [])) != 1]
    wrong += [f"{movie}: {words}" for movie, words in found.items() if movie not in movies or not set(words) <= set(VERDICTS)]
    kept = Counter(read_table(folder / "results" / last / "exposures.star", "exposures")["exposure_id"])
    tables = [folder / "results" / job / "failed.star" for job in (imports, last)]
    failed = {name for path in tables if path.exists() for name in read_table(path, "failed")["exposure_id"]}
    ids = {movie: exposure_id(movie) for movie in movies}
    wrong += [f"{movie}: {kept[name]} times in the tables" for movie, name in ids.items() if kept[name] + (name in failed) != 1]
    return wrong + unsound(folder) + _incomplete_streams(folder)


def unsound(folder: Path) -> list[str]:
    """Files that are cut short, and work that was left lying about."""
    wrong = []
    for path in sorted(path for name in ("live", "results") for path in (folder / name).rglob("*")):
        if path.name.endswith((".partial", ".tmp", ".input")):
            wrong.append(f"{path.relative_to(folder)} is left over")
        elif path.is_file() and not any(part.endswith(".partial") for part in path.parts) and (fault := _unreadable(path)):
            wrong.append(f"{path.relative_to(folder)}: {fault}")
    return wrong


def _unreadable(path: Path) -> str:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".star":
            read_star(path)
        elif path.suffix in (".mrc", ".mrcs"):
            mrcfile.mmap(path, mode="r").close()
        elif path.suffix == ".png" and not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
            return "is cut short"
    except Exception as error:
        return repr(error)
    return ""


def _incomplete_streams(folder: Path) -> list[str]:
    path = folder / "live/rounds.csv"
    if not path.exists():
        return []
    rounds = pd.read_csv(path)
    accepted = pd.read_csv(folder / "live/exposures.csv").query("verdict == 'accepted'")["particles"].sum()
    last = rounds[rounds["role"] == "classify"].iloc[-1]
    wrong = [] if last["state"] == "done" else [f"the last round of {last['job']} {last['state']}: {last['sentence']}"]
    return wrong + ([] if last["particles"] == accepted else [f"the last classes have {last['particles']} of {accepted} particles"])
