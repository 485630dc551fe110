"""What the report knows of a session: each job's job.json, its figures and failures, and how the jobs hang together."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from firn.formats.tables import concatenate, read_table

RESOLUTIONS = ("resolution_corrected", "resolution_tight", "resolution_masked", "resolution")
COUNTS = ("movies_accepted", "exposures", "picks", "particles", "classes", "failed")


@dataclass(frozen=True)
class JobRecord:
    """One job as its job.json tells it; `folder` is where that file lies."""

    name: str
    type: str
    folder: Path
    content: dict[str, Any]
    upstream: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Time the job took, its batches included."""
        return float(self.content["seconds"]) + float(self.metric("batch_seconds") or 0)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Numbers with units, by name."""
        return dict(self.content["metrics"])

    @property
    def makes_map(self) -> bool:
        """Whether a map of known resolution lies in the job's folder."""
        return self.resolution is not None and (self.folder / "map.mrc").exists()

    @property
    def resolution(self) -> tuple[str, float] | None:
        """(how it was measured, Å) of the job's map, the most honest number first."""
        found = next((name for name in RESOLUTIONS if self.metric(name)), None)
        return (found.removeprefix("resolution").strip("_") or "FSC", float(self.metric(found) or 0)) if found else None

    def metric(self, name: str) -> float | None:
        """Value of a metric, None where there is none."""
        value = self.content["metrics"].get(name, {}).get("value")
        return None if value is None else float(value)

    def figure(self, *names: str) -> dict[str, str] | None:
        """The first figure that is there and whose file is named so: file, title, caption."""
        figures = {Path(figure["file"]).stem: figure for figure in self.content["figures"]}
        return next((figures[name] for name in names if name in figures and (self.folder / figures[name]["file"]).exists()), None)

    def picture(self, *names: str) -> str | None:
        """The first figure whose file is named so, as a data URI."""
        found = self.figure(*names)
        return data_uri(self.folder / found["file"]) if found else None

    def table(self, kind: str, group: str = "") -> pd.DataFrame:
        """Rows of a table of the job, or of a sub-folder of it; of all its batches where they are not united yet; empty where it has none."""
        path = self.folder / group / f"{kind}.star"
        if path.exists():
            return read_table(path, kind)
        return concatenate(sorted((self.folder / group).glob(f"batches/*/{kind}.star")), kind)

    def linked(self, names: list[str]) -> "JobRecord":
        """The record, made from those of the named jobs that its settings name."""
        return replace(self, upstream=_upstream(self.content["settings"], names, self.name))

    def failures(self) -> list[dict[str, str]]:
        """Rows of failed.star: what failed, its code and its reason."""
        rows = self.table("failed").to_dict("records")
        return [{key: str(value) for key, value in row.items()} for row in rows]


def read_records(paths: list[Path]) -> list[JobRecord]:
    """Records of job.json files, in the order given."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    names = [str(content["job"]) for content in contents]
    return [
        JobRecord(name, str(content["type"]), path.parent, content, _upstream(content["settings"], names, name))
        for name, path, content in zip(names, paths, contents, strict=True)
    ]


def record_of_batches(folder: Path) -> JobRecord:
    """The record of a job that has only batches so far: counts and seconds of these, and figures of the last."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("batches/*/job.json"))]
    names = [path.parent.name for path in sorted(folder.glob("batches/*/job.json"))]
    tables = {
        kind: concatenate(sorted(folder.glob(f"batches/*/{kind}.star")), kind) for kind in ("exposures", "picks", "particles", "failed")
    }
    last = [{**figure, "file": f"batches/{names[-1]}/{figure['file']}"} for figure in contents[-1]["figures"]]
    whole = {
        "job": folder.name,
        "batch": None,
        "seconds": sum(content["seconds"] for content in contents),
        "peak_memory_mb": max(content["peak_memory_mb"] for content in contents),
        "metrics": {kind: {"value": float(len(table)), "unit": ""} for kind, table in tables.items() if len(table)},
        "figures": last,
        "warnings": list(dict.fromkeys(sentence for content in contents for sentence in content["warnings"])),
        "batches": names,
    }
    content = contents[-1] | whole
    return JobRecord(folder.name, str(content["type"]), folder, content, ())


def final_maps(records: list[JobRecord]) -> list[JobRecord]:
    """Jobs that made a map which no later job turned into another map."""
    by_name = {record.name: record for record in records}
    superseded: set[str] = set()
    for record in records:
        if record.makes_map:
            superseded |= lineage(record, by_name)
    return [record for record in records if record.makes_map and record.name not in superseded]


def data_uri(path: Path) -> str:
    """A PNG as a data URI, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def named_job(value: object) -> str:
    """The job that a setting names, as `job`, `job.output` or `results/job/...`; what it names else, or nothing, is no job's name."""
    text = value if isinstance(value, str) else ""
    parts = text.split("/")
    return parts[1] if parts[0] == "results" and len(parts) > 1 else text.partition(".")[0] if len(parts) == 1 else ""


def named_jobs(value: object) -> list[str]:
    """The same of a list, or of one."""
    return [named_job(each) for each in (value if isinstance(value, list) else [value])]


def _upstream(settings: dict[str, Any], names: list[str], own: str) -> tuple[str, ...]:
    """Jobs that the settings name, alone or in lists."""
    heads = [head for key, value in settings.items() if key != "type" for head in named_jobs(value)]
    return tuple(dict.fromkeys(head for head in heads if head in names and head != own))


def lineage(record: JobRecord, by_name: dict[str, JobRecord]) -> set[str]:
    """Names of the jobs that a job was made from, directly or through others."""
    found: set[str] = set()
    waiting = list(record.upstream)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].upstream
    return found
