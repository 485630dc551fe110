"""The session as one self-contained page: final maps, the job graph, and every job's numbers and figures. Torch-free."""

import os
from pathlib import Path
from typing import Any

import jinja2

from firn.report.job_graph import draw_graph
from firn.report.records import COUNTS, JobRecord, data_uri, final_maps, read_records

HERE = Path(__file__).parent
HIDDEN_SETTINGS = ("type", "revision", "seed")


def write_report(jobs: list[Path], destination: Path, config: dict[str, Any]) -> None:
    """Write the page from job.json files in graph order; config gives its title. The file appears whole or not at all."""
    records = read_records(jobs)
    finals = final_maps(records)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=str(config.get("title") or "Session"),
            style=(HERE / "page.css").read_text(encoding="utf-8"),
            finals=[_final(record) for record in finals],
            tiles=_tiles(records),
            graph=draw_graph(records, finals),
            jobs=[_job(record) for record in records],
            failures=[{"job": record.name, **row} for record in records for row in record.failures()],
            versions=records[-1].content["versions"] if records else {},
        )
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, destination)


def spoken_time(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s` or `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def spoken_number(value: float | None, unit: str = "") -> str:
    """A number as one reads it: whole counts with thin spaces, others with four significant digits; a dash for none."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,}".replace(",", "\u202f")
    else:
        text = f"{value:.2f}" if unit == "Å" and 1 <= abs(value) < 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = lambda name: str(name).replace("_at_05", " at 0.5").replace("_", " ")
    return environment


def _final(record: JobRecord) -> dict[str, Any]:
    measured, resolution = record.resolution or ("", 0.0)
    return {
        "name": record.name,
        "type": record.type,
        "resolution": f"{resolution:.2f}",
        "measured": measured,
        "path": str(record.folder / "map.mrc"),
        "picture": record.picture("surface", "slices", "map"),
    }


def _tiles(records: list[JobRecord]) -> list[dict[str, str]]:
    warnings = sum(len(record.content["warnings"]) for record in records)
    failed = sum(len(record.failures()) for record in records)
    return [
        {"label": "jobs", "value": str(len(records))},
        {"label": "computing time", "value": spoken_time(sum(record.seconds for record in records))},
        {"label": "warnings", "value": str(warnings)},
        {"label": "failed exposures", "value": str(failed)},
    ]


def _job(record: JobRecord) -> dict[str, Any]:
    content = record.content
    metrics = {name: spoken_number(metric["value"], metric["unit"]) for name, metric in record.metrics.items() if name != "batch_seconds"}
    figures = [figure for figure in content["figures"] if (record.folder / figure["file"]).exists()]
    return {
        "name": record.name,
        "type": record.type,
        "upstream": record.upstream,
        "seconds": spoken_time(record.seconds),
        "made": _made(record),
        "metrics": metrics,
        "warnings": content["warnings"],
        "figures": [{**figure, "uri": data_uri(record.folder / figure["file"])} for figure in figures],
        "settings": {key: _setting(value) for key, value in content["settings"].items() if key not in HIDDEN_SETTINGS},
        "machine": f"seed {content['seed']}, {content['device']}, {content['threads']} threads, {spoken_number(content['peak_memory_mb'], 'MB')} at most",
        "batches": len(content["batches"]),
    }


def _made(record: JobRecord) -> str:
    """The one or two numbers that say what a job made."""
    if record.resolution:
        return f"{record.resolution[1]:.2f} Å"
    counts = [f"{spoken_number(record.metric(name))} {name.replace('_', ' ')}" for name in COUNTS if record.metric(name) is not None]
    if counts:
        return ", ".join(counts)
    first = next(iter(record.metrics.items()), None)
    return f"{first[0].replace('_', ' ')} {spoken_number(first[1]['value'], first[1]['unit'])}" if first else ""


def _setting(value: Any) -> str:
    return "none" if value is None else ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
