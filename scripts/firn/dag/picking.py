"""Pickers as they were decided while the microscope collects: which settings they have in which batch. Torch-free.

A live session writes each decision to `live/pickers.json` (firn.live.pickers): what changes in the config's jobs, and the first batch of each
import that it concerns. The graph of the config with these changes is what runs, while movies come and in the whole graph afterwards.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from firn.dag.graph import Graph
from firn.live import layout

PICKERS = ("blob_picker", "template_picker", "topaz_picker")
FUSED, INSPECTION = "preprocess", "inspect_picks"
STEPS = ("templates", "blob_", "template_", "limit_")
"""Beginnings of the names of the fused job's parameters that a decision may change."""
UNDECIDED = ("seed", "revision", "exposures", "picks", "plots", "decisions")
"""Settings of pickers and inspections that are no part of how is picked."""
OTHER_MEANING = ("low_pass", "separation")
"""Parameters that pickers by blobs and by templates have both, with other values."""


def decision_at(root: str, batch: str | None) -> dict[str, Any] | None:
    """The decision that counts in a batch of an import, without a batch the last one; None where the config's settings count."""
    known = (one for one in layout.read_json(layout.PICKERS, []) if root in one["first"])
    counts = [one for one in known if batch is None or int(one["first"][root]) <= int(batch)]
    return counts[-1] if counts else None


def inspected_apart(graph: Graph) -> list[str]:
    """Inspections of batches that are picked in several ways, whose limits are set batch by batch for good."""
    if not layout.PICKERS.exists():
        return []
    roots = {job: graph.root_import(job) for job in graph.names_of(INSPECTION)}
    return [job for job, root in roots.items() if decision_at(root, None) != decision_at(root, layout.FIRST_BATCH)]


def as_decided(graph: Graph, job: str, batch: str | None = None) -> Graph:
    """The graph as it counts for a job, in one batch or in whole: with the last decision about how is picked."""
    if graph.jobs[job]["type"] not in (*PICKERS, FUSED, INSPECTION) or not layout.PICKERS.exists():
        return graph
    decision = decision_at(graph.root_import(job), batch)
    if decision is None or job not in decision["jobs"]:
        return graph
    view = copy.copy(graph)
    view.jobs = graph.jobs | {job: changed(graph.jobs[job], decision["jobs"][job], graph)}
    given = {slot: [folder] for slot, folder in decision["jobs"][job]["folders"].items()}
    slots = {slot for slot in view.type_of(job).slots if view.jobs[job].get(slot) is not None}
    kept = {slot: sources for slot, sources in graph.references[job].items() if slot in slots and slot not in given}
    view.references, view.given = graph.references | {job: kept}, graph.given | {job: given}
    return view


def changed(settings: Mapping[str, Any], change: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """Settings of a job with a change: type, settings, and folders by slot. Of another type's settings, those it has too are kept."""
    kind = graph.catalogue.types[change["type"]]
    other = OTHER_MEANING if change["type"] != settings["type"] else ()
    own = {name: value for name, value in settings.items() if name in kind.schema["properties"] and name not in other}
    return own | change["settings"] | change["folders"] | {"type": change["type"]}


def picking_plan(graph: Graph, root: str, batch_jobs: Iterable[str]) -> dict[str, Any]:
    """What a session must know to decide how is picked in the batches of an import.

    pickers, inspections: settings of the jobs that pick and of those that set limits, as the config has them; picked: from which batch on
    which decision counts, and what decides the picks of each job there.
    """
    types = {job: graph.jobs[job]["type"] for job in batch_jobs}
    pickers = [job for job, kind in types.items() if kind in (*PICKERS, FUSED)]
    inspections = [job for job, kind in types.items() if kind == INSPECTION]
    firsts = {1, *(int(one["first"][root]) for one in layout.read_json(layout.PICKERS, []) if root in one["first"])}
    picked = []
    for first in sorted(firsts):
        number = (decision_at(root, str(first)) or {"number": 0})["number"]
        picked.append({"first": first, "number": number, "jobs": {job: how(graph, job, str(first)) for job in (*pickers, *inspections)}})
    return {
        "pickers": {job: graph.settings(job) for job in pickers},
        "inspections": {job: graph.settings(job) for job in inspections},
        "picked": picked,
    }


def how(graph: Graph, job: str, batch: str) -> dict[str, Any]:
    """The settings of a job that decide the picks of a batch."""
    settings = as_decided(graph, job, batch).settings(job)
    if graph.jobs[job]["type"] == FUSED:
        return {name: value for name, value in settings.items() if name.startswith(STEPS)}
    return {name: value for name, value in settings.items() if name not in UNDECIDED}
