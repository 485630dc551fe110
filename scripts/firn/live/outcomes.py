"""What came of the exposures of a finished batch, read from the tables its jobs left."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from firn.formats.ids import exposure_id
from firn.live import layout
from firn.live.accept import judge, names_of
from firn.live.batch_tables import BatchTables, Rows
from firn.live.control import Control, Limits
from firn.live.points import STAGE

LOST = "LOST"
"""Code of a file of which no table tells."""


def read_outcomes(tables: BatchTables, files: Iterable[str]) -> list[dict[str, Any]]:
    """One entry per file: exposure_id, movie, numbers; or code and reason where it failed on the way.

    Of a number that several jobs tell, the last counts. Every file has an entry, come what may.
    """
    numbers: dict[str, dict[str, float]] = {}
    failed: dict[str, tuple[str, str]] = {}
    paths = list(files)
    for folder in tables.folders:
        job, rows = folder.parts[1], tables.read(folder, "exposures") or []
        for row in rows:
            numbers.setdefault(str(row["exposure_id"]), {}).update(_numbers(row))
        for row in tables.read(folder, "failed") or []:
            failed.setdefault(str(row["exposure_id"]), (str(row["reason_code"]), f"{job}: {row['reason']}"))
        seconds = {} if rows and any(str(name).startswith(STAGE) for name in rows[0]) else _seconds(folder, job, len(paths))
        counts = [_count(tables.read(folder, kind), kind) for kind in ("picks", "particles")]
        for name, entry in numbers.items():
            entry |= seconds | {key: value for found in counts if found is not None for key, value in found(name).items()}
    return [_outcome(path, numbers, failed) for path in paths]


def stamp(outcomes: Iterable[dict[str, Any]], taken: Mapping[str, list[Any]], now: float) -> None:
    """Give every exposure's numbers the seconds since 1970 at which its file was found and complete, and at which it was finished.

    taken: by path, when found and when complete first.
    """
    for outcome in outcomes:
        times = dict(zip(("time_found", "time_complete"), taken.get(outcome["movie"], []), strict=False)) | {"time_ready": now}
        outcome["numbers"] |= {name: round(float(time), 1) for name, time in times.items()}


def tally(outcomes: Iterable[Mapping[str, Any]], control: Control, given: Mapping[str, Limits], now: float) -> dict[str, Any]:
    """Counts of a batch: accepted, rejected, picks, particles, particles of accepted ones (usable), and failed ones by code."""
    counts: dict[str, Any] = {"time": now, "accepted": 0, "rejected": 0, "picks": 0, "particles": 0, "usable": 0, "failed": {}}
    for outcome in outcomes:
        verdict, _ = verdict_of(outcome, control, given)
        if verdict == "failed":
            counts["failed"][outcome["code"]] = counts["failed"].get(outcome["code"], 0) + 1
            continue
        counts[verdict] += 1
        for kind in ("picks", "particles"):
            counts[kind] += int(outcome["numbers"].get(kind, 0))
        if verdict == "accepted":
            counts["usable"] += int(outcome["numbers"].get("particles", 0))
    return counts


def verdict_of(outcome: Mapping[str, Any], control: Control, given: Mapping[str, Limits]) -> tuple[str, str]:
    """(accepted, rejected or failed; the reason) of an exposure under the thresholds as they are now."""
    if outcome.get("code"):
        return "failed", str(outcome["reason"])
    return judge(names_of(outcome["exposure_id"], outcome["movie"]), outcome["numbers"], control, given)


def _outcome(path: str, numbers: Mapping[str, dict[str, float]], failed: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    name = exposure_id(path)
    entry: dict[str, Any] = {"exposure_id": name, "movie": path, "numbers": numbers.get(name, {}), "code": "", "reason": ""}
    if name in failed:
        entry["code"], entry["reason"] = failed[name]
    elif name not in numbers:
        entry["code"], entry["reason"] = LOST, f"{path}: no job of its batch tells what became of it"
    return entry


def _count(rows: Rows | None, kind: str) -> Callable[[str], dict[str, float]] | None:
    """How many picks or particles an exposure has, none too, and the median score of picks; None where a job makes no such table."""
    if rows is None:
        return None
    counts = Counter(str(row["exposure_id"]) for row in rows)
    scores: dict[str, list[float]] = {}
    for row in rows:
        if kind == "picks" and not math.isnan(row.get("pick_score", math.nan)):
            scores.setdefault(str(row["exposure_id"]), []).append(row["pick_score"])
    return lambda name: {kind: counts[name]} | ({"pick_score": round(statistics.median(scores[name]), 4)} if name in scores else {})


def _seconds(folder: Path, job: str, exposures: int) -> dict[str, float]:
    """A job's time per exposure of a batch."""
    seconds = layout.read_json(folder / "job.json", {}).get("seconds")
    return {} if seconds is None else {f"{STAGE}{job}": round(seconds / max(exposures, 1), 3)}


def _numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    found = {str(name): float(value) for name, value in row.items() if isinstance(value, int | float) and not math.isnan(value)}
    if "defocus_u" in found and "defocus_v" in found:
        found["defocus"] = (found["defocus_u"] + found["defocus_v"]) / 2
    return found
