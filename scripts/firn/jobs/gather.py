"""Unite the batches of a job: one table per kind, counts, medians, summary figures."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from pydantic import ConfigDict

from firn.errors import InputError
from firn.formats.tables import concatenate, write_table
from firn.report.summaries import summaries_for
from firn.runtime.job import Job
from firn.runtime.params import JobParams

KINDS = ("exposures", "picks", "particles", "failed")
MEDIANS = {"motion_total": "Å", "ctf_fit_resolution": "Å", "ctf_score": "", "astigmatism": "Å", "pick_score": ""}
SAMPLE_FIGURES = 8


class Params(JobParams):
    """Whatever the parameters of the gathered job are; gathering needs none of them."""

    model_config = ConfigDict(extra="allow")
    stage: ClassVar[str] = "utilities"


def run(job: Job[Params]) -> None:
    """Concatenate tables, count, draw, and keep a sample of the batches' figures."""
    folders = sorted(job.inputs.get("batches", []), key=lambda folder: (len(folder.name), folder.name))
    if not folders:
        raise InputError(f"job {job.name}: has no batches to gather")
    records = [json.loads((folder / "job.json").read_text(encoding="utf-8")) for folder in folders]
    job.batches = [folder.name for folder in folders]
    tables = {kind: _unite(job, folders, kind) for kind in KINDS}
    _count(job, tables, records)
    _draw_summaries(job, records[0]["type"], tables)
    _sample_figures(job, folders, records)
    for sentence, times in Counter(sentence for record in records for sentence in record["warnings"]).items():
        job.warn(sentence if times == 1 else f"{sentence} ({times} batches)")


def _unite(job: Job[Params], folders: list[Path], kind: str) -> pd.DataFrame | None:
    paths = [folder / f"{kind}.star" for folder in folders if (folder / f"{kind}.star").exists()]
    if not paths:
        return None
    table = concatenate(paths, kind)
    write_table(job.folder / f"{kind}.star", table, kind)
    return table


def _count(job: Job[Params], tables: dict[str, pd.DataFrame | None], records: list[dict[str, Any]]) -> None:
    for kind, table in tables.items():
        if table is not None:
            job.metric(kind, len(table))
    for name, unit in MEDIANS.items():
        found = [table[name] for table in tables.values() if table is not None and name in table.columns and len(table)]
        if found:
            job.metric(f"median_{name}", pd.to_numeric(found[0], errors="coerce").median(), unit)
    job.metric("batch_seconds", sum(record["seconds"] for record in records), "s")
    failed = tables["failed"]
    if failed is not None and len(failed):
        job.warn(f"{len(failed)} exposures could not be processed; they are listed with their reasons in failed.star.")


def _draw_summaries(job: Job[Params], job_type: str, tables: dict[str, pd.DataFrame | None]) -> None:
    for summary in summaries_for(job_type):
        table = tables[summary.kind]
        if table is not None and len(table) and set(summary.needs) <= set(table.columns):
            summary.draw(table, job.figure(summary.name, summary.title, summary.caption))


def _sample_figures(job: Job[Params], folders: list[Path], records: list[dict[str, Any]]) -> None:
    """Copy up to SAMPLE_FIGURES, one from each batch in turn."""
    deepest = max(len(record["figures"]) for record in records)
    turns = [
        (folder, record["figures"][place])
        for place in range(deepest)
        for folder, record in zip(folders, records, strict=True)
        if place < len(record["figures"])
    ]
    for folder, figure in turns[:SAMPLE_FIGURES]:
        source = folder / figure["file"]
        target = job.figure(f"batch_{folder.name}_{source.stem}", f"{figure['title']} (batch {folder.name})", figure["caption"])
        shutil.copyfile(source, target)
