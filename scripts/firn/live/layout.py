"""Where a live session keeps its small files, all below `live/` in the run folder; each is written whole.

batches/<import>/<batch>.json   which files belong to a batch; the truth of what was taken
refused/<import>/<id>.json      files that are no sound movies, and why
tries/<import>/<batch>/<k>.json a batch tried again; failures/ holds what failed
rounds/<job>/<round>.json       what a round of a stream is made from; rounds/<job>/<round>/<k>.json is left by the try that ended it
open.json                       batches and rounds that are open now, read whenever Snakemake asks for the targets
pickers.json, pickers/<n>       decisions about how is picked, and the templates of the n-th
tests/<n>                       a picker tried on one exposure: plan.json, result.json, picks.png
state.json                      what a tick remembers for the next; made again from the others when it is lost
results                         the mark that results/.live bears too, as long as it is the folder that the session began with
control.yaml, end               written by people;  session.json, exposures.csv, *.jsonl  written for people
"""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

LIVE = Path("live")
CONTROL, OPEN, STATE, ENDED, END_MARK = LIVE / "control.yaml", LIVE / "open.json", LIVE / "state.json", LIVE / "ended", LIVE / "end"
SESSION, EXPOSURES, DECISIONS = LIVE / "session.json", LIVE / "exposures.csv", LIVE / "decisions.yaml"
ROUNDS = LIVE / "rounds.csv"
PICKERS = LIVE / "pickers.json"
"""Decisions about how is picked, in order; the templates of the n-th lie in pickers/<n>."""
RESULTS_KNOWN, RESULTS_MARK = LIVE / "results", Path("results") / ".live"
ALARM_LOG, DECISION_LOG = LIVE / "alarms.jsonl", LIVE / "decisions.jsonl"
PATTERN = LIVE / "pattern.json"
"""What the latest micrographs share (firn.live.pattern)."""

FIRST_BATCH = "0001"
REFUSED_BATCH = "0000"
"""A batch without movies, cut at the end, that tells of the refused files."""


def batch_file(root: str, batch: str) -> Path:
    """The list of files of a batch of an import."""
    return LIVE / "batches" / root / f"{batch}.json"


def refused_file(root: str, exposure: str) -> Path:
    """Why a file is not taken."""
    return LIVE / "refused" / root / f"{exposure}.json"


def try_file(root: str, batch: str, number: int) -> Path:
    """Left by a try of a batch that succeeded."""
    return LIVE / "tries" / root / batch / f"{number}.json"


def failed_job_file(job: str, batch: str) -> Path:
    """Left when one batch of a job failed."""
    return LIVE / "failures" / "jobs" / job / f"{batch}.json"


def failed_try_file(root: str, batch: str, number: int) -> Path:
    """Left when a try of a batch failed."""
    return LIVE / "failures" / "tries" / root / batch / f"{number}.json"


def result_file(job: str, batch: str) -> Path:
    """Left by a batch of a job that succeeded."""
    return Path("results") / job / "batches" / batch / "job.json"


def outcome_file(root: str, batch: str) -> Path:
    """What came of each exposure of a finished batch."""
    return LIVE / "outcomes" / root / f"{batch}.json"


def round_file(job: str, name: str) -> Path:
    """The plan of a round of a stream."""
    return LIVE / "rounds" / job / f"{name}.json"


def round_try_file(job: str, name: str, number: int) -> Path:
    """Left by the try of a round that ended well, or that refused its input with a sentence."""
    return LIVE / "rounds" / job / name / f"{number}.json"


def failed_round_file(job: str, name: str, number: int) -> Path:
    """Left when a try of a round failed."""
    return LIVE / "failures" / "rounds" / job / name / f"{number}.json"


def round_folder(job: str, name: str) -> Path:
    """Results of a round."""
    return Path("results") / job / "rounds" / name


def log_file(job: str, batch: str) -> Path:
    """Log of a batch of a job, which is there from its start."""
    return Path("logs") / job / "batches" / f"{batch}.log"


def trial_folder(number: int) -> Path:
    """A picker tried on one exposure."""
    return LIVE / "tests" / str(number)


def failed_trial_file(number: int) -> Path:
    """Left when a picker tried on one exposure died."""
    return LIVE / "failures" / "tests" / f"{number}.json"


def report_file(number: int) -> Path:
    """Left by the report of a session after so many rounds."""
    return LIVE / "reports" / f"{number}.json"


def failed_report_file(number: int) -> Path:
    """Left when the report of a session died."""
    return LIVE / "failures" / "reports" / f"{number}.json"


def report_at_work(number: int) -> bool:
    """Whether this report was asked for and has neither come nor died."""
    return number > 0 and not report_file(number).exists() and not failed_report_file(number).exists()


def try_log(root: str, batch: str, number: int) -> Path:
    """Log of a try of a batch."""
    return Path("logs/live") / root / f"{batch}_{number}.log"


def round_log(job: str, name: str, number: int) -> Path:
    """Log of a try of a round."""
    return Path("logs") / job / "rounds" / f"{name}_{number}.log"


def read_json(path: Path, default: Any) -> Any:
    """Content of a JSON file, or the default where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return default


def append_line(path: Path, **fields: Any) -> None:
    """Add one JSON line with the time to a log; what of it did not fit on a full disk is taken back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": round(time.time(), 3), **fields}, ensure_ascii=False) + "\n"
    append_whole(path, line)


def append_whole(path: Path, text: str) -> None:
    """Add text to a file, or nothing of it when not all can be written."""
    with path.open("ab", buffering=0) as stream:
        before, data = os.fstat(stream.fileno()).st_size, text.encode()
        try:
            if stream.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            os.ftruncate(stream.fileno(), before)
            raise


def batch_ids(root: str) -> list[str]:
    """Batches of an import that were cut so far, in order."""
    names = {path.stem for path in (LIVE / "batches" / root).glob("[0-9]*.json")}
    return sorted(names - {REFUSED_BATCH}, key=lambda batch: (len(batch), batch))
