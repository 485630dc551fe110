"""What came of the exposures of a finished batch, read from the tables its jobs left."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from firn.formats.ids import exposure_id
from firn.formats.tables import read_table
from firn.live import layout
from firn.live.accept import judge, names_of
from firn.live.control import Control, Limits


def read_outcomes(jobs: Iterable[str], batch: str, files: Iterable[str]) -> list[dict[str, Any]]:
    """One entry per file: exposure_id, movie, numbers; or code and reason where it failed on the way.

    jobs: those of the batch in order; of a number that several tell, the last counts. Every file has an entry, come what may.
    """
    numbers: dict[str, dict[str, float]] = {}
    failed: dict[str, tuple[str, str]] = {}
    counts: dict[str, Counter[str]] = {"picks": Counter(), "particles": Counter()}
    for job in jobs:
        folder = layout.result_file(job, batch).parent
        for row in _rows(folder / "exposures.star", "exposures"):
            numbers.setdefault(str(row["exposure_id"]), {}).update(_numbers(row))
        for row in _rows(folder / "failed.star", "failed"):
            failed.setdefault(str(row["exposure_id"]), (str(row["reason_code"]), f"{job}: {row['reason']}"))
        for kind, found in counts.items():
            found.update(_count(folder / f"{kind}.star", kind))
    return [_outcome(path, numbers, failed, counts) for path in files]


def tally(outcomes: Iterable[Mapping[str, Any]], control: Control, given: Mapping[str, Limits], now: float) -> dict[str, Any]:
    """Counts of a batch: accepted, rejected, picks, particles, and failed ones by code."""
    counts: dict[str, Any] = {"time": now, "accepted": 0, "rejected": 0, "picks": 0, "particles": 0, "failed": {}}
    for outcome in outcomes:
        verdict, _ = verdict_of(outcome, control, given)
        if verdict == "failed":
            counts["failed"][outcome["code"]] = counts["failed"].get(outcome["code"], 0) + 1
            continue
        counts[verdict] += 1
        for kind in ("picks", "particles"):
            counts[kind] += int(outcome["numbers"].get(kind, 0))
    return counts


def verdict_of(outcome: Mapping[str, Any], control: Control, given: Mapping[str, Limits]) -> tuple[str, str]:
    """(accepted, rejected or failed; the reason) of an exposure under the thresholds as they are now."""
    if outcome.get("code"):
        return "failed", str(outcome["reason"])
    return judge(names_of(outcome["exposure_id"], outcome["movie"]), outcome["numbers"], control, given)


def _outcome(
    path: str, numbers: Mapping[str, dict[str, float]], failed: Mapping[str, tuple[str, str]], counts: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    name = exposure_id(path)
    entry: dict[str, Any] = {"exposure_id": name, "movie": path, "numbers": numbers.get(name, {}), "code": "", "reason": ""}
    if name in failed:
        entry["code"], entry["reason"] = failed[name]
    elif name not in numbers:
        entry["code"], entry["reason"] = "LOST", f"{path}: no job of its batch tells what became of it"
    entry["numbers"] |= {kind: found[name] for kind, found in counts.items() if name in found}
    return entry


def _count(path: Path, kind: str) -> dict[str, int]:
    table = read_table(path, kind) if path.exists() else pd.DataFrame()
    return {str(name): int(count) for name, count in table["exposure_id"].value_counts().items()} if len(table) else {}


def _rows(path: Path, kind: str) -> list[dict[Any, Any]]:
    return read_table(path, kind).to_dict("records") if path.exists() else []


def _numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    found = {str(name): float(value) for name, value in row.items() if isinstance(value, int | float) and not pd.isna(value)}
    if "defocus_u" in found and "defocus_v" in found:
        found["defocus"] = (found["defocus_u"] + found["defocus_v"]) / 2
    return found
