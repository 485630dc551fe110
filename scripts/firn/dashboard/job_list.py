"""Every job's folder of results: its state, settings, numbers, figures and logs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firn.dashboard.places import is_inside
from firn.dashboard.server import Answer, as_json
from firn.live import layout

REPORT = Path("results/report.html")
MOST_FIGURES = 40
MOST_WARNINGS = 20


def list_jobs() -> Answer:
    """All jobs in the order in which their results came, those under way last; and the report, if there is one."""
    names = sorted(path.name for path in Path("results").glob("*") if path.is_dir() and is_inside(path.as_posix()))
    logged = sorted(path.stem for path in Path("logs").glob("*.log") if not (Path("results") / path.stem).exists())
    jobs = [_job(name) for name in [*names, *(name for name in logged if name != REPORT.stem)]]
    jobs.sort(key=lambda job: (job["state"] != "done", job["time"], job["name"]))
    return as_json({"jobs": jobs, "report": REPORT.as_posix() if is_inside(REPORT.as_posix()) else ""})


def _job(name: str) -> dict[str, Any]:
    folder = Path("results") / name
    records = _records(folder)
    latest = records[-1] if records and is_inside(records[-1].as_posix()) else None
    content = layout.read_json(latest, {}) if latest else {}
    told = {
        "name": name, "state": _state(folder, records), "time": latest.stat().st_mtime if latest else 0.0, "type": content.get("type", ""),
        "batches": len(list(folder.glob("batches/*/job.json"))), "rounds": len(list(folder.glob("rounds/*/job.json"))),
        "failed": len(list((layout.LIVE / "failures" / "jobs" / name).glob("*.json"))),
        "settings": content.get("settings", {}), "metrics": content.get("metrics", {}), "warnings": content.get("warnings", [])[:MOST_WARNINGS],
        "seconds": content.get("seconds"), "memory_mb": content.get("peak_memory_mb"), "device": content.get("device", ""), "folder": folder.as_posix(),
    }  # fmt: skip
    return told | {"figures": list(_figures(latest.parent, content))[:MOST_FIGURES] if latest else [], "logs": _logs(name)}


def _records(folder: Path) -> list[Path]:
    """job.json files from which a job is told, the best last: of batches, of rounds, of the job as a whole."""
    parts = [*sorted(folder.glob("batches/*/job.json")), *sorted(folder.glob("rounds/*/job.json"))]
    return [*parts, *([folder / "job.json"] if (folder / "job.json").exists() else [])]


def _state(folder: Path, records: list[Path]) -> str:
    if (folder / "job.json").exists():
        return "done"
    return "in parts" if records else "not finished"


def _figures(folder: Path, content: dict[str, Any]) -> Iterator[dict[str, str]]:
    for figure in content.get("figures", []):
        path = (folder / str(figure.get("file", ""))).as_posix()
        if is_inside(path):
            yield {"file": path, "title": str(figure.get("title", "")), "caption": str(figure.get("caption", ""))}


def _logs(name: str) -> list[str]:
    found = [
        Path("logs") / f"{name}.log",
        *sorted(Path("logs").glob(f"{name}/batches/*.log"))[-1:],
        *sorted(Path("logs").glob(f"{name}/rounds/*.log"))[-1:],
    ]
    return [path.as_posix() for path in found if is_inside(path.as_posix())]
