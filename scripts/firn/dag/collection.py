"""The graph while the microscope collects: which jobs run batch by batch on batches that a live session cuts. Torch-free.

Jobs that need all exposures at once (curation) are stepped over while movies still come: a scattered job then reads what the job before them
made. Inspections of picks run batch by batch then. When the session has ended, the graph is the ordinary one, over the batches that were cut.
"""

import copy
import glob
from pathlib import Path
from typing import Any

from firn.dag.graph import Graph, Reference
from firn.dag.inputs import folders
from firn.dag.picking import INSPECTION, as_decided, inspected_apart, picking_plan
from firn.live import layout, targets

COLLECTABLE = ("import_movies",)
REFUSED, FIRST = layout.REFUSED_BATCH, layout.FIRST_BATCH


def live_imports(graph: Graph) -> list[str]:
    """Imports that watch folders: those of movies by patterns of names."""
    return [job for job in graph.names_of(*COLLECTABLE) if graph.jobs[job].get("files")]


def collected_imports(graph: Graph) -> list[str]:
    """Imports whose batches were cut by a live session in this run folder."""
    return [job for job in live_imports(graph) if (layout.LIVE / "batches" / job).is_dir()]


def as_collected(graph: Graph) -> Graph:
    """The graph as it stands in this run folder: with a live session's batches, and while it goes on, with jobs over all stepped over."""
    collected = collected_imports(graph)
    if not collected:
        return graph
    view = copy.copy(graph)
    view.collected = frozenset(collected) | frozenset(inspected_apart(graph))
    if not layout.ENDED.exists():
        inspections = graph.names_of(INSPECTION)
        view.references = stepped_over(graph)
        view.collected |= frozenset(inspections)
        view.jobs = graph.jobs | {job: _without_missing_decisions(graph.jobs[job]) for job in inspections}
    return view


def batch_view(graph: Graph, job: str, batch: str) -> Graph:
    """The graph as it counts for one batch of a job: with what was decided about its picker, and as it stands in this run folder."""
    return as_collected(as_decided(graph, job, batch))


def _without_missing_decisions(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an inspection; a human's decisions on all picks need not be there while movies come."""
    missing = settings.get("decisions") and not Path(settings["decisions"]).exists()
    return settings | {"decisions": None} if missing else settings


def whole_imports(graph: Graph) -> list[str]:
    """Imports of movies that look for all their files at once."""
    return [job for job in graph.names_of(*COLLECTABLE) if job not in collected_imports(graph)]


def live_plan(graph: Graph) -> dict[str, dict[str, Any]]:
    """Per import that watches folders: patterns, batch size, EER settings, its jobs in order with what they need, limits of curation,
    how is picked, and when this run of Snakemake began."""
    return {root: _plan(graph, root) for root in live_imports(graph)}


def live_jobs(graph: Graph, root: str) -> dict[str, list[str]]:
    """Jobs of one batch of an import in order, the import first, each with the jobs of the batch that it reads."""
    references = stepped_over(graph)
    jobs: dict[str, list[str]] = {root: []}
    for job in graph.order:
        if job != root and runs_by_batch(graph, job):
            needs = _batch_needs(graph, job, references[job], jobs)
            if needs:
                jobs[job] = needs
    return jobs


def runs_by_batch(graph: Graph, job: str) -> bool:
    """Whether a job can run on one batch alone while movies come."""
    return bool(graph.type_of(job).declared["scatter"]) or graph.jobs[job]["type"] == INSPECTION


def stepped_over(graph: Graph) -> dict[str, dict[str, list[Reference]]]:
    """References in which scattered jobs read past jobs that need all exposures at once."""
    references = {job: dict(slots) for job, slots in graph.references.items()}
    for job in (name for name in graph.jobs if runs_by_batch(graph, name)):
        for slot, sources in graph.references[job].items():
            if graph.follows_batches(job, slot):
                kind = graph.type_of(job).slots[slot]["slot"]
                references[job][slot] = [_step_over(graph, source, kind) for source in sources]
    return references


def collected_batches(graph: Graph, job: str) -> list[str] | None:
    """job.json of every batch of a job whose import's batches a live session cut, else None; an import also tells of refused files."""
    root = graph.root_import(job)
    if root not in collected_imports(graph):
        return None
    batches = layout.batch_ids(root)
    if job == root and layout.batch_file(root, REFUSED).exists():
        batches.append(REFUSED)
    return [str(layout.result_file(job, batch)) for batch in batches]


def import_inputs(job: str, batch: str) -> list[str]:
    """What one batch of an import waits for: its list of files, and the first batch, which settles the gain."""
    first = [] if batch in (REFUSED, FIRST) else [str(layout.result_file(job, FIRST))]
    return [str(layout.batch_file(job, batch)), *first]


def import_folders(job: str, batch: str) -> dict[str, list[str]]:
    """Folders that one batch of an import reads, by slot."""
    return {} if batch in (REFUSED, FIRST) else {"reference": [str(layout.result_file(job, FIRST).parent)]}


def listed(job: str, batch: str, what: str) -> list[Any]:
    """The `files` or `refused` of a batch, as they were cut."""
    return list(layout.read_json(layout.batch_file(job, batch), {}).get(what, []))


def import_settings(graph: Graph, job: str, batch: str) -> dict[str, Any]:
    """Settings of an import for the files of one batch."""
    files = [glob.escape(entry["path"]) for entry in listed(job, batch, "files")]
    return graph.settings(job) | {"files": files, "batch_size": max(len(files), 1)}


def batch_steps(graph: Graph, root: str, batch: str) -> list[dict[str, Any]]:
    """Every job of one batch in order: its name, settings, and folders by slot."""
    first = {"name": root, "settings": import_settings(graph, root, batch), "inputs": import_folders(root, batch)}
    others = [job for job in live_jobs(graph, root) if job != root]
    views = {job: batch_view(graph, job, batch) for job in others}
    return [first, *({"name": job, "settings": view.settings(job), "inputs": folders(view, job, batch)} for job, view in views.items())]


def _plan(graph: Graph, root: str) -> dict[str, Any]:
    settings = graph.settings(root)
    files = settings["files"]
    curation = [graph.settings(job) for job in graph.names_of("curate_exposures") if root in graph.ancestors(job)]
    jobs = live_jobs(graph, root)
    return {
        "files": [files] if isinstance(files, str) else list(files),
        "batch_size": settings["batch_size"],
        "eer_fractions": settings.get("eer_fractions") or 40,
        "eer_upsampling": settings.get("eer_upsampling") or 2,
        "jobs": jobs,
        "curation": curation,
        "picking": picking_plan(graph, root, jobs),
        "started": targets.STARTED,
    }


def _batch_needs(graph: Graph, job: str, slots: dict[str, list[Reference]], jobs: dict[str, list[str]]) -> list[str]:
    """Jobs of the batch that a job reads; none when it needs anything that is made of all exposures of an import."""
    needs: list[str] = []
    for slot, sources in slots.items():
        for source in sources:
            if graph.follows_batches(job, slot):
                if source.group or source.job not in jobs:
                    return []
                needs.append(source.job)
            elif {source.job, *graph.ancestors(source.job)} & set(live_imports(graph)):
                return []
    return needs


def _step_over(graph: Graph, source: Reference, kind: str) -> Reference:
    job_type = graph.type_of(source.job)
    if source.group or runs_by_batch(graph, source.job) or job_type.is_import:
        return source
    slot = next((name for name, field in job_type.slots.items() if field["slot"] == kind and graph.references[source.job].get(name)), None)
    return _step_over(graph, graph.references[source.job][slot][0], kind) if slot else source
