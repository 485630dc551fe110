"""How a run stands, from a few small files: for the list of runs."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firn.dashboard.kept import Kept
from firn.live import layout

SILENT_S = 180.0
"""A live session writes every ten seconds or so; after that it counts as gone."""


class Summaries:
    """Summaries of runs, made again where their files changed."""

    def __init__(self) -> None:
        self._kept: dict[Path, Kept[dict[str, Any]]] = {}

    def of(self, runs: Mapping[str, Path]) -> list[dict[str, Any]]:
        """name, state, resolution (Å), particles, jobs done, alarms, time of the last change of each run, the latest first."""
        for folder in runs.values():
            if folder not in self._kept:
                self._kept[folder] = Kept(lambda folder=folder: summarise(folder), *_watched(folder))  # type: ignore[misc]
        found = [{"name": name} | _as_of_now(self._kept[folder].value()) for name, folder in runs.items()]
        return sorted(found, key=lambda run: -run["time"])


def summarise(folder: Path) -> dict[str, Any]:
    """What one run is and has come to."""
    session = layout.read_json(folder / layout.SESSION, None) if _is_own(folder / layout.SESSION, folder) else None
    records = [path for path in folder.glob("results/*/job.json") if _is_own(path, folder)]
    maps = [*_round_maps(folder), *(one for one in map(_map_of, records) if one)]
    best = min(maps, key=lambda one: one["resolution"], default={"resolution": None, "particles": None})
    counters = session.get("counters", {}) if session else {}
    times = [_time(path) for path in [*_watched(folder), *records] if path.exists()]
    return {
        "live": session is not None, "state": session.get("state", "") if session else "", "resolution": best["resolution"],
        "particles": best["particles"] or counters.get("particles"), "accepted": counters.get("accepted"), "found": counters.get("found"),
        "jobs": len(records), "alarms": list(session.get("alarms", {}).values()) if session else [], "time": max(times, default=_time(folder)),
    }  # fmt: skip


def _as_of_now(told: dict[str, Any]) -> dict[str, Any]:
    """The state with what the clock adds: a live session that has fallen silent is not running."""
    if not told["live"]:
        return told | {"state": "processed"}
    gone = told["state"] not in ("ended", "stopped") and time.time() - told["time"] > SILENT_S
    return told | {"state": "no sign of life" if gone else told["state"]}


def _watched(folder: Path) -> tuple[Path, ...]:
    return folder / layout.SESSION, folder / layout.ROUNDS, folder / "results"


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_own(path: Path, folder: Path) -> bool:
    """Whether a file is there and lies in the run folder once every link is followed."""
    return path.is_file() and path.resolve().is_relative_to(folder)


def _round_maps(folder: Path) -> list[dict[str, Any]]:
    """Resolution and particles of the last round of each refinement."""
    path = folder / layout.ROUNDS
    if not _is_own(path, folder):
        return []
    last: dict[str, dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, restval=""):
            if row.get("role") == "refine" and row.get("state") == "done" and row.get("resolution"):
                last[row["job"]] = {"resolution": float(row["resolution"]), "particles": int(float(row["particles"] or 0))}
    return list(last.values())


def _map_of(record: Path) -> dict[str, Any] | None:
    """Resolution and particles of a job that made a map."""
    from firn.report.records import RESOLUTIONS  # pandas, which takes a second to import

    if not (record.parent / "map.mrc").exists():
        return None
    metrics = {name: entry.get("value") for name, entry in layout.read_json(record, {}).get("metrics", {}).items()}
    found = next((metrics[name] for name in RESOLUTIONS if metrics.get(name)), None)
    return {"resolution": float(found), "particles": metrics.get("particles")} if found else None
