"""Every job's folder of results: its state, settings, numbers, figures and logs, what it was made from, and its place in the graph of jobs."""

import json
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firn.dashboard.kept import tagged
from firn.dashboard.places import is_inside
from firn.dashboard.server import Answer, as_json
from firn.live import layout

if TYPE_CHECKING:
    from firn.report.records import JobRecord

NAME = re.compile(r"\w+")
PARTS = ("batches", "rounds")
REPORT = Path("results/report.html")
MOST_FIGURES = 40
MOST_WARNINGS = 20
TAIL_BYTES = 6000
"""Of a log that are shown at once."""


def list_jobs() -> Answer:
    """All jobs in the order in which their results came, those under way last; and the report, if there is one."""
    from firn.report.job_graph import place_jobs  # pandas, which takes a second to import

    records = read_records()
    places = place_jobs(_in_order(records))
    jobs = [
        _job(record) | {"upstream": record.upstream, "row": places[record.name].row, "column": places[record.name].column}
        for record in records
    ]
    jobs.sort(key=lambda job: (job["state"] != "done", job["time"], job["name"]))
    return tagged(json.dumps({"jobs": jobs, "report": REPORT.as_posix() if is_inside(REPORT.as_posix()) else ""}).encode())


def tell_log(name: str) -> Answer:
    """The end of a job's newest log, whole lines, and its path; empty where it has none."""
    known = [Path(path) for path in _logs(name)] if NAME.fullmatch(name) else []
    newest = max(known, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return as_json({"path": "", "tail": ""})
    return as_json({"path": newest.as_posix(), "tail": "\n".join(_last_lines(newest))})


def read_records() -> list["JobRecord"]:
    """What each job says of itself, of its latest round or batch where it is not done; nothing of one that has not finished anything."""
    from firn.report.records import JobRecord  # pandas, which takes a second to import

    folders = sorted(path.name for path in Path("results").glob("*") if path.is_dir() and is_inside(path.as_posix()))
    logged = sorted(path.stem for path in Path("logs").glob("*.log") if not (Path("results") / path.stem).exists())
    names = [*folders, *(name for name in logged if name != REPORT.stem)]
    found = []
    for name in names:
        parts = _parts(Path("results") / name)
        latest = parts[-1] if parts and is_inside(parts[-1].as_posix()) else None
        content = {"settings": {}} | (layout.read_json(latest, {}) if latest else {})
        folder = latest.parent if latest else Path("results") / name
        found.append(JobRecord(name, str(content.get("type", "")), folder, content, ()).linked(names))
    return found


def figures_of(folder: Path, content: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Figures that a job.json tells of, as far as they may be handed out."""
    for figure in content.get("figures", []):
        path = (folder / str(figure.get("file", ""))).as_posix()
        if is_inside(path):
            yield {"file": path, "title": str(figure.get("title", "")), "caption": str(figure.get("caption", ""))}


def _in_order(records: list["JobRecord"]) -> list["JobRecord"]:
    """Each after all that it was made from; as they come where jobs name each other in a ring."""
    by_name = {record.name: record for record in records}
    try:
        return [by_name[name] for name in TopologicalSorter({record.name: record.upstream for record in records}).static_order()]
    except CycleError:
        return [record.linked([]) for record in records]


def _job(record: "JobRecord") -> dict[str, Any]:
    name, content, folder = record.name, record.content, Path("results") / record.name
    written = record.folder / "job.json"
    state = _state(folder, written)
    return {
        "name": name, "state": state, "progress": _progress(name, state), "time": written.stat().st_mtime if written.exists() else 0.0, "type": record.type,
        "batches": len(list(folder.glob("batches/*/job.json"))), "rounds": len(list(folder.glob("rounds/*/job.json"))),
        "failed": len(list((layout.LIVE / "failures" / "jobs" / name).glob("*.json"))),
        "settings": content["settings"], "metrics": content.get("metrics", {}), "warnings": content.get("warnings", [])[:MOST_WARNINGS],
        "seconds": content.get("seconds"), "memory_mb": content.get("peak_memory_mb"), "device": content.get("device", ""), "folder": folder.as_posix(),
        "figures": list(figures_of(record.folder, content))[:MOST_FIGURES], "logs": _logs(name),
    }  # fmt: skip


def _progress(name: str, state: str) -> str:
    """How far a job has come that is not done, as its latest note of progress tells: `iteration 7 of 20`."""
    notes = [path for path in _beside(name, "jsonl") if is_inside(path.as_posix())] if state != "done" else []
    newest = max(notes, key=lambda path: path.stat().st_mtime, default=None)
    for line in reversed(_last_lines(newest)) if newest else ():
        try:
            note = json.loads(line)
            return f"{note['step']} {int(note['done'])}" + (f" of {int(note['of'])}" if note["of"] else "")
        except (ValueError, KeyError, TypeError):
            continue
    return ""


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as stream:
        start = max(0, path.stat().st_size - TAIL_BYTES)
        stream.seek(start)
        lines = stream.read(TAIL_BYTES).decode("utf-8", errors="replace").splitlines()
    return lines[1:] if start else lines


def _parts(folder: Path) -> list[Path]:
    """job.json files from which a job is told, the best last: of batches, of rounds, of the job as a whole."""
    parts = [*sorted(folder.glob("batches/*/job.json")), *sorted(folder.glob("rounds/*/job.json"))]
    return [*parts, *([folder / "job.json"] if (folder / "job.json").exists() else [])]


def _state(folder: Path, written: Path) -> str:
    if (folder / "job.json").exists():
        return "done"
    if folder.with_name(f".{folder.name}.partial").exists() or any(next(folder.glob(f"{part}/.*.partial"), None) for part in PARTS):
        return "at work"
    return "in parts" if written.exists() else "not finished"


def _logs(name: str) -> list[str]:
    return [path.as_posix() for path in _beside(name, "log") if is_inside(path.as_posix())]


def _beside(name: str, kind: str) -> list[Path]:
    """A job's own file of that kind among the logs, and that of its last batch and round."""
    parts = [sorted(Path("logs").glob(f"{name}/{part}/*.{kind}"))[-1:] for part in PARTS]
    return [Path("logs") / f"{name}.{kind}", *(path for found in parts for path in found)]
