"""Another try of a batch whose jobs failed: first the jobs that are missing, then exposure by exposure.

Every job runs in a process of its own, so that what kills one kills nothing else. In the second kind of try each exposure goes through all
missing jobs alone, in `results/<job>/batches/<batch>/only/<exposure>`; an exposure that dies is quarantined with the reason, and the others
are gathered into the batch's folder, where everybody looks for them.
"""

import glob
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from firn.errors import ExposureError, InputError, MachineError
from firn.formats.discovery import identify
from firn.formats.exposures import failed_row, write_failed
from firn.formats.storage import FULL, away
from firn.formats.tables import read_table, write_table
from firn.jobs import gather
from firn.live.storage import require_results, results_away
from firn.runtime.atomic import write_json
from firn.runtime.entry import open_job

KINDS = ("exposures", "picks", "particles")
NO_ROOM = tuple(os.strerror(number) for number in FULL)
"""What a process says of a disk that takes no more; its traceback ends with it."""
JUDGED, SPOILT = ".judged", ".spoilt"
"""Endings of the files that are left by a try in which a job failed, and by one that a fault of the machine spoilt."""
UNSAID = 3
"""Tries that left neither, as when they were killed, before exposures are tried one by one."""
MACHINE_CODE = 71
"""Exit code of a process whose machine was at fault; EX_OSERR of sysexits.h."""
LAST_WORDS = 300


@dataclass(frozen=True)
class Step:
    """One batch of a job: its settings, and the folders it reads by slot."""

    name: str
    settings: dict[str, Any]
    inputs: dict[str, list[str]]

    def home(self, batch: str, exposure: str = "") -> Path:
        """Folder of the batch, or of one exposure of it made alone."""
        folder = Path("results") / self.name / "batches" / batch
        return folder / "only" / exposure if exposure else folder


def try_again(chain: Sequence[dict[str, Any]], files: Sequence[str], batch: str, number: int, record: str) -> None:
    """Make what is missing of a batch, and leave the record; at first as a batch, exposure by exposure after a try in which a job failed.

    chain: name, settings and inputs of each job of the batch in order, the import first; files: its movies; number: of this try, from 1. A try
    that was killed, or that a fault of the machine spoilt, is made again as it was. Raises InputError when jobs still fail.
    """
    steps = [Step(**entry) for entry in chain]
    missing = [step for step in steps if not (step.home(batch) / "job.json").exists()]
    try:
        if _is_judged(Path(record).parent, number):
            _one_by_one(steps, missing, files, batch)
        else:
            for step in missing:
                _run_alone([step], batch, "")
        require_results()
    except InputError as error:
        machine = isinstance(error, MachineError) or results_away() or away(files)
        with suppress(OSError):
            Path(record).parent.mkdir(parents=True, exist_ok=True)
            Path(record).with_suffix(SPOILT if machine else JUDGED).touch()
        raise
    write_json(Path(record), {"batch": batch, "try": number, "made": [step.name for step in missing]})


def _is_judged(tries: Path, number: int) -> bool:
    """Whether an earlier try showed that a job of the batch fails, or so many were killed that it is likely."""
    spoilt = len(list(tries.glob(f"[0-9]*{SPOILT}")))
    return any(tries.glob(f"[0-9]*{JUDGED}")) or number - spoilt > UNSAID


def run_steps(steps: Sequence[Step], batch: str, exposure: str) -> None:
    """Run jobs of a batch one after the other in this process, for the whole batch or for one exposure of it."""
    for step in steps:
        home = step.home(batch, exposure)
        if not (home / "job.json").exists():
            module = importlib.import_module(f"firn.jobs.{step.settings['type']}")
            with open_job(module.Params, step.settings, step.inputs, home, step.name, batch, 1) as job:
                module.run(job)


def _run_alone(steps: Sequence[Step], batch: str, exposure: str) -> None:
    """The same in a process of its own; raises InputError with its last words when it dies."""
    task = json.dumps({"steps": [vars(step) for step in steps], "batch": batch, "exposure": exposure})
    scripts = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(scripts)!r}); from firn.runtime.batch_try import main; main()"
    child = subprocess.run([sys.executable, "-c", code], input=task, text=True, capture_output=True, check=False)
    sys.stderr.write(child.stderr)
    if child.returncode:
        lines = [line for line in child.stderr.splitlines() if line.strip()]
        full = any(words in child.stderr for words in NO_ROOM)
        kind = MachineError if child.returncode == MACHINE_CODE or full else InputError
        how = _how_it_ended(child.returncode)
        raise kind(f"{how}: {lines[-1][-LAST_WORDS:]}" if lines and child.returncode != -signal.SIGKILL else how)


def _how_it_ended(code: int) -> str:
    """In words; the kernel ends what takes the last memory by SIGKILL, which leaves a process no time to say anything."""
    if code == -signal.SIGKILL:
        held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        return f"was killed by signal 9, as when memory runs out; the largest of these processes held {held:.1f} GB"
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def main() -> None:
    """The child's side: run the jobs that stand on the standard input."""
    task = json.load(sys.stdin)
    try:
        run_steps([Step(**entry) for entry in task["steps"]], task["batch"], task["exposure"])
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(MACHINE_CODE)
    except InputError as error:
        sys.exit(str(error))


def _one_by_one(steps: Sequence[Step], missing: Sequence[Step], files: Sequence[str], batch: str) -> None:
    made = [step for step in steps if step not in missing]
    gained: str | None = None
    for path in files:
        exposure = identify(path)
        for step in made:
            _share(step, batch, exposure)
        own = [_alone(step, steps, batch, exposure, path, gained) for step in missing]
        _try_exposure(own, batch, exposure, path)
        if missing and missing[0] is steps[0] and gained is None and (steps[0].home(batch, exposure) / "exposures.star").exists():
            gained = str(steps[0].home(batch, exposure))
    for step in missing:
        _unite(step, steps, batch)


def _try_exposure(steps: Sequence[Step], batch: str, exposure: str, path: str) -> None:
    """Run the missing jobs for one exposure; the job in which it dies keeps it as failed. A fault of the machine is no exposure's and raises."""
    if not steps:
        return
    try:
        _run_alone(steps, batch, exposure)
    except InputError as error:
        require_results()
        if isinstance(error, MachineError) or away([path]):
            raise
        died = next(step for step in steps if not (step.home(batch, exposure) / "job.json").exists())
        _quarantine(died, batch, exposure, path, f"{path}: {died.settings['type']} {error}")


def _alone(step: Step, steps: Sequence[Step], batch: str, exposure: str, path: str, gained: str | None) -> Step:
    """The step as it is for one exposure: reading what was made of that exposure alone."""
    own = {str(other.home(batch)): str(other.home(batch, exposure)) for other in steps}
    inputs = {slot: [own.get(folder, folder) for folder in folders] for slot, folders in step.inputs.items()}
    if step.name != steps[0].name:
        return Step(step.name, step.settings, inputs)
    reference = {"reference": [gained]} if gained is not None and "reference" not in inputs else {}
    return Step(step.name, step.settings | {"files": [glob.escape(path)], "batch_size": 1}, inputs | reference)


def _share(step: Step, batch: str, exposure: str) -> None:
    """Lay out of a job's batch what concerns one exposure, as if it had been made alone."""
    folder = step.home(batch, exposure)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        source = step.home(batch) / f"{kind}.star"
        if source.exists():
            table = read_table(source, kind)
            rows = table[table["exposure_id"] == exposure] if len(table) else table
            write_table(folder / f"{kind}.star", rows.reset_index(drop=True), kind)
    shutil.copyfile(step.home(batch) / "job.json", folder / "job.json")


def _quarantine(step: Step, batch: str, exposure: str, path: str, reason: str) -> None:
    row = {"exposure_id": exposure, "batch": batch, "movie": path}
    with open_job(gather.Params, step.settings, step.inputs, step.home(batch, exposure), step.name, batch, 1) as job:
        write_failed(job.folder, [failed_row(row, ExposureError("DIED", reason)) | {"movie": path}])


def _unite(step: Step, steps: Sequence[Step], batch: str) -> None:
    """Gather the exposures of a batch that were made alone; with none left, empty tables."""
    alone = [folder for folder in sorted((step.home(batch) / "only").glob("e*")) if (folder / "job.json").exists()]
    gain = next((folder / "gain.mrc" for folder in alone if (folder / "gain.mrc").exists()), None)
    with open_job(
        gather.Params, step.settings, {"batches": [str(folder) for folder in alone]}, step.home(batch), step.name, batch, 1
    ) as job:
        if alone:
            gather.run(job)
        if not (job.folder / "exposures.star").exists() and not (job.folder / "picks.star").exists():
            write_table(job.folder / "exposures.star", _columns_before(step, steps, batch), "exposures")
        if gain is not None:
            shutil.copyfile(gain, job.folder / "gain.mrc")
        job.batches = []


def _columns_before(step: Step, steps: Sequence[Step], batch: str) -> pd.DataFrame:
    """An empty table with the columns of the nearest earlier job of the batch."""
    for earlier in reversed(steps[: steps.index(step)]):
        path = earlier.home(batch) / "exposures.star"
        if path.exists():
            return read_table(path, "exposures").iloc[:0]
    return pd.DataFrame(columns=["exposure_id", "batch", "movie"])
