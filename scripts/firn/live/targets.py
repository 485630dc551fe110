"""What Snakemake is asked for while a session runs: the open batches and rounds, and the next tick; and what it tells of failures."""

import logging
import re
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from firn.errors import InputError
from firn.live import layout
from firn.live.batches import runnable
from firn.live.storage import results_away
from firn.runtime.atomic import write_json

RESULT = re.compile(r"results/([a-z][a-z0-9_]*)/batches/([0-9]+)/job\.json")
ROUND = re.compile(r"live/rounds/([a-z][a-z0-9_]*)/([0-9]+)/([0-9]+)\.json")
TRIAL = re.compile(r"live/tests/([0-9]+)/result\.json")
REPORT = re.compile(r"live/reports/([0-9]+)\.json")
TRY = re.compile(r"live/tries/([a-z][a-z0-9_]*)/([0-9]+)/([0-9]+)\.json")
AGAIN_S = 2.0
STARTED = time.time()
"""When this run of Snakemake began."""


def live_targets(plan: Mapping[str, Mapping[str, Any]], streams: Collection[str] = ()) -> list[str]:
    """Open batches' missing results, or their present tries, open rounds, and the next tick; nothing when the session is over or stopped.

    streams: jobs that have rounds.

    Finished work is not listed, so that the cost of a turn does not grow with the session.
    """
    opened = layout.read_json(layout.OPEN, {"over": "", "batches": {}})
    leaving = opened["over"] == "again" and opened["time"] > STARTED
    if layout.ENDED.exists() or leaving or (opened["over"] == "stopped" and _is_stopped()):
        return []
    if results_away():
        return [next_token()]
    targets = [
        target
        for root, batches in opened["batches"].items()
        if root in plan
        for batch, number in batches.items()
        for target in ([str(layout.try_file(root, batch, number))] if number else _missing(plan[root]["jobs"], batch))
    ]
    for job, names in opened.get("rounds", {}).items():
        targets += [str(layout.round_try_file(job, name, number)) for name, number in names.items() if job in streams]
    targets += [str(layout.trial_folder(number) / "result.json") for number in opened.get("trials", [])]
    if layout.report_at_work(opened.get("report", 0)):
        targets.append(str(layout.report_file(opened["report"])))
    return [*targets, next_token()]


def next_token() -> str:
    """File that the next tick leaves."""
    numbers = [int(path.name) for path in (layout.LIVE / "ticks").glob("[0-9]*")]
    return str(layout.LIVE / "ticks" / f"{max(numbers, default=0) + 1:06d}")


class FailureRecorder(logging.Handler):
    """Listens to Snakemake's log and leaves a file for each batch, or try of a batch or round, that failed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Called with every record of the log."""
        if str(getattr(record, "event", "")) == "job_error":
            for output in getattr(record, "output", None) or []:
                insist(str(output))


def insist(output: str) -> None:
    """Record a failure, on a full disk in the end: a batch whose failure nobody knows of is waited for in vain."""
    try:
        record_failure(output)
    except OSError:
        again = threading.Timer(AGAIN_S, insist, [output])
        again.daemon = True
        again.start()


def record_failure(output: str) -> None:
    """Leave a file for the batch, or the try of a batch or a round, whose output is not made."""
    result, attempt, of_round, trial, report = (pattern.fullmatch(output) for pattern in (RESULT, TRY, ROUND, TRIAL, REPORT))
    if result:
        write_json(layout.failed_job_file(result[1], result[2]), {"time": time.time()})
    elif attempt:
        write_json(layout.failed_try_file(attempt[1], attempt[2], int(attempt[3])), {"time": time.time()})
    elif of_round:
        write_json(layout.failed_round_file(of_round[1], of_round[2], int(of_round[3])), {"time": time.time()})
    elif trial:
        write_json(layout.failed_trial_file(int(trial[1])), {"time": time.time()})
    elif report:
        write_json(layout.failed_report_file(int(report[1])), {"time": time.time()})


def _missing(jobs: Mapping[str, list[str]], batch: str) -> list[str]:
    done = {job for job in jobs if layout.result_file(job, batch).exists()}
    failed = {job for job in jobs if layout.failed_job_file(job, batch).exists()}
    return [str(layout.result_file(job, batch)) for job in runnable(dict(jobs), done, failed) if job not in done]


def _is_stopped() -> bool:
    from firn.live.control import read_control  # slow to import, and seldom asked

    try:
        return read_control(layout.CONTROL).state == "stop"
    except InputError:
        return True
