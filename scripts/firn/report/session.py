"""A run, which is the working folder, as a report sees it: records of its jobs, and what a live session wrote down.

A run may be whole, under way, or ended early: a job that has only rounds or batches yet is told from these.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from firn.report.records import JobRecord, final_maps, lineage, named_job, read_records, record_of_batches

LIVE = Path("live")


@dataclass(frozen=True)
class Session:
    """A run: jobs in the order they follow each other, the config where it is known, defaults of the parameters by job type."""

    config: dict[str, Any]
    records: tuple[JobRecord, ...]
    finals: tuple[JobRecord, ...]
    defaults: dict[str, dict[str, Any]]
    partial: bool = False

    def record(self, name: str) -> JobRecord:
        """The record of a job."""
        return next(record for record in self.records if record.name == name)

    def ancestors(self, name: str) -> list[JobRecord]:
        """Jobs that a job was made from, nearest last."""
        found = lineage(self.record(name), {record.name: record for record in self.records})
        return [record for record in self.records if record.name in found]

    def lines(self, file: str) -> list[dict[str, Any]]:
        """Rows of a log of a live session, such as alarms.jsonl; none where there is no such log."""
        path = LIVE / file
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]

    def live_table(self, file: str) -> pd.DataFrame:
        """A table of a live session, such as exposures.csv; empty where there is none."""
        path = LIVE / file
        return pd.read_csv(path, dtype={"batch": str}) if path.exists() else pd.DataFrame()


def read_session(paths: list[Path], config: dict[str, Any], schema: dict[str, Any]) -> Session:
    """The session of job.json files in graph order; schema: of sessions, for the parameters' defaults."""
    return _session(read_records(paths), config, schema, partial=False)


def find_session(config: dict[str, Any], schema: dict[str, Any]) -> Session:
    """The session of whatever lies in the run folder: whole jobs, the last rounds of streams, and batches."""
    records = list(_found(Path("results")))
    names = [record.name for record in records]
    linked = [record.linked(names) for record in records]
    whole = all((Path("results") / record.name / "job.json").exists() for record in linked)
    missing = set(config.get("jobs", {})) - set(names)
    return _session(_in_order(linked), config, schema, partial=not whole or bool(missing))


def _session(records: list[JobRecord], config: dict[str, Any], schema: dict[str, Any], partial: bool) -> Session:
    fields = {name: kind.get("properties", {}) for name, kind in schema.get("$defs", {}).items()}
    defaults = {name: {key: field["default"] for key, field in given.items() if "default" in field} for name, given in fields.items()}
    return Session(config, tuple(records), tuple(final_maps(records)), defaults, partial)


def _found(results: Path) -> Iterator[JobRecord]:
    for folder in sorted(results.glob("*")):
        rounds = sorted(folder.glob("rounds/*/job.json"), key=lambda path: int(path.parent.name))
        if (folder / "job.json").exists():
            yield read_records([folder / "job.json"])[0]
        elif rounds:
            yield _of_round(read_records([rounds[-1]])[0], read_records([rounds[0]])[0])
        elif any(folder.glob("batches/*/job.json")):
            yield record_of_batches(folder)


def _of_round(record: JobRecord, first: JobRecord) -> JobRecord:
    """The record of a round as if it were the whole job: made from what its first round was made from, and from the jobs that its plan names."""
    settings, before = dict(record.content["settings"]), first.content["settings"]
    settings |= {key: before[key] for key, value in settings.items() if named_job(value) == record.name and key in before}
    plan = LIVE / "rounds" / record.name / f"{record.folder.name}.json"
    sources = list(json.loads(plan.read_text(encoding="utf-8")).get("sources") or {}) if plan.exists() else []
    settings |= {"particles": sources} if sources else {}
    return replace(record, content=record.content | {"settings": settings})


def _in_order(records: list[JobRecord]) -> list[JobRecord]:
    """Each job after those it was made from, otherwise by name."""
    by_name = {record.name: record for record in records}
    ordered: list[JobRecord] = []
    while len(ordered) < len(records):
        there = {record.name for record in ordered}
        ready = [record for record in records if record.name not in there and set(record.upstream) <= there]
        ordered += ready or [by_name[name] for name in by_name if name not in there]
    return ordered
