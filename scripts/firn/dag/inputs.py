"""What a rule asks about a job: files to wait for, folders to read, names to match. Torch-free."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from firn.dag.graph import Graph, Reference

NO_JOB = r"(?!)"


def pattern(names: list[str]) -> str:
    """Regular expression that matches exactly these job names."""
    return "|".join(re.escape(name) for name in names) if names else NO_JOB


def files(graph: Graph, job: str, batch: str | None = None) -> list[str]:
    """Files that a job, or one batch of a scattered job, waits for: job.json of each input, and a human's decisions."""
    waits = [
        _waits_for(graph, job, slot, reference, batch) for slot, references in graph.references[job].items() for reference in references
    ]
    decisions = graph.settings(job).get("decisions")
    return sorted({*waits, *([decisions] if decisions else [])})


def folders(graph: Graph, job: str, batch: str | None = None) -> dict[str, list[str]]:
    """Folders a job reads, by slot."""
    made = {
        slot: [reference.folder(batch if batch and graph.follows_batches(job, slot) else None) for reference in references]
        for slot, references in graph.references[job].items()
    }
    return made | graph.given.get(job, {})


def batch_files(job: str, import_record: str) -> list[str]:
    """job.json of every batch of a scattered job, from the record its import left."""
    batches = json.loads(Path(import_record).read_text(encoding="utf-8"))["batches"]
    return [f"results/{job}/batches/{batch}/job.json" for batch in batches]


def parents(paths: Iterable[str]) -> list[str]:
    """Folders in which the files lie."""
    return [os.path.dirname(path) for path in paths]


def _waits_for(graph: Graph, job: str, slot: str, reference: Reference, batch: str | None) -> str:
    by_batch = batch is not None and graph.follows_batches(job, slot) and graph.runs_in_batches(reference)
    return f"{reference.folder(batch)}/job.json" if by_batch else f"results/{reference.job}/job.json"
