"""The session as one self-contained page: final maps, the job graph, and every job's numbers and figures. Torch-free."""

import base64
import os
from pathlib import Path
from typing import Any

import jinja2

from firn.report.document import Document, Picture
from firn.report.job_graph import draw_graph
from firn.report.records import COUNTS, JobRecord, data_uri
from firn.report.session import Session
from firn.report.spoken import spoken_number, spoken_setting, spoken_time

HERE = Path(__file__).parent
HIDDEN_SETTINGS = ("type", "revision", "seed")
OWN_CHAPTERS = ("conduct",)
"""Chapters of which the page tells more in its own way."""


def write_page(session: Session, document: Document, destination: Path) -> None:
    """Write the page: the document's chapters, then each job. The file appears whole or not at all."""
    records, finals = list(session.records), list(session.finals)
    shown = {block.source: section.anchor for section in document.sections for block in section.blocks if isinstance(block, Picture)}
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=document.title,
            style=(HERE / "page.css").read_text(encoding="utf-8"),
            finals=[_final(record) for record in finals],
            tiles=_tiles(records),
            graph=draw_graph(records, finals),
            sections=[section for section in document.sections if section.anchor not in OWN_CHAPTERS],
            jobs=[_job(record, shown) for record in records],
            versions=dict(document.versions),
        )
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, destination)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["uri"] = lambda png: "data:image/png;base64," + base64.b64encode(png).decode("ascii")
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


def _job(record: JobRecord, shown: dict[str, str]) -> dict[str, Any]:
    content = record.content
    metrics = {name: spoken_number(metric["value"], metric["unit"]) for name, metric in record.metrics.items() if name != "batch_seconds"}
    figures = [figure for figure in content["figures"] if (record.folder / figure["file"]).exists()]
    above = [figure for figure in figures if str(record.folder / figure["file"]) in shown]
    return {
        "name": record.name,
        "type": record.type,
        "upstream": record.upstream,
        "seconds": spoken_time(record.seconds),
        "made": _made(record),
        "metrics": metrics,
        "warnings": content["warnings"],
        "figures": [{**figure, "uri": data_uri(record.folder / figure["file"])} for figure in figures if figure not in above],
        "above": [{**figure, "anchor": shown[str(record.folder / figure["file"])]} for figure in above],
        "settings": {key: spoken_setting(value) for key, value in content["settings"].items() if key not in HIDDEN_SETTINGS},
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
