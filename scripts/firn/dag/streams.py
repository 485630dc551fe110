"""The streams of a session: which of the config's jobs are made again and again while the microscope collects. Torch-free.

A stream starts at the first classification or ab-initio reconstruction after particles that are extracted batch by batch, and takes the
jobs that follow it in the config, with their parameters: classes, their selection, a first map, a refinement. Each round of a job is a
result of its own, `results/<job>/rounds/<round>`.
"""

from collections.abc import Iterable
from typing import Any

from firn.dag.collection import live_imports, live_jobs
from firn.dag.graph import Graph

HEADS = ("classify_2d", "ab_initio")
REFINEMENTS = ("refine_homogeneous", "refine_nonuniform")
CONTINUED = {"classify_2d": "stream_2d", "refine_homogeneous": "stream_refine", "refine_nonuniform": "stream_refine"}
"""Job types whose rounds go on from the round before, and the type that does so."""
NOT_IN_ROUNDS = {"decisions": None}
"""Parameters that name classes by number, which mean others in every round."""


def stream_plan(graph: Graph) -> list[dict[str, Any]]:
    """Per stream: `sources`, the extraction job of each import by its name, and `jobs` by role.

    Roles are classify, select, initial and refine; a job tells its name, settings, and what it reads from folders that no stream makes.
    """
    batch_jobs = {job: root for root in live_imports(graph) for job in live_jobs(graph, root)}
    streams = []
    for head in graph.order:
        if graph.jobs[head]["type"] not in HEADS or _follows(graph, head, graph.names_of(*HEADS)):
            continue
        sources = {batch_jobs[job]: job for job in _sources(graph, head) if job in batch_jobs}
        if sources:
            streams.append({"sources": sources, "jobs": _jobs_of(graph, head, set(batch_jobs))})
    return streams


def stream_jobs(graph: Graph, *roles: str) -> list[str]:
    """Names of the jobs that have one of the roles, or any when none is given, in a stream."""
    return [job["name"] for stream in stream_plan(graph) for role, job in stream["jobs"].items() if role in roles or not roles]


def _jobs_of(graph: Graph, head: str, batch_jobs: set[str]) -> dict[str, dict[str, Any]]:
    roles: dict[str, str | None] = {}
    if graph.jobs[head]["type"] == "classify_2d":
        roles["classify"] = head
        roles["select"] = _first_after(graph, head, ("select_2d",))
        roles["initial"] = _first_after(graph, roles["select"] or head, ("ab_initio",))
    else:
        roles["initial"] = head
    last = roles["initial"] or roles.get("select") or head
    roles["refine"] = _first_after(graph, last, REFINEMENTS)
    jobs = {role: _told(graph, job, batch_jobs) for role, job in roles.items() if job}
    if "refine" in jobs and "initial" not in jobs and "volume" not in jobs["refine"]["given"]:
        del jobs["refine"]
    return jobs


def _told(graph: Graph, job: str, batch_jobs: set[str]) -> dict[str, Any]:
    """Name and settings of a job as its rounds need them, and folders of inputs that do not depend on movies to come."""
    declared = graph.type_of(job)
    kind = CONTINUED.get(declared.name, declared.name)
    target = graph.catalogue.types[kind]
    own = {name: value for name, value in graph.settings(job).items() if name in target.schema["properties"] and name not in target.slots}
    own |= {"type": kind, "revision": target.declared["revision"], "seed": graph.seed}
    settings = target.defaults | own | {name: value for name, value in NOT_IN_ROUNDS.items() if name in own}
    groups = {slot: reference.group for slot, references in graph.references[job].items() for reference in references[:1]}
    given = {
        slot: [reference.folder() for reference in references]
        for slot, references in graph.references[job].items()
        if not any({reference.job, *graph.ancestors(reference.job)} & batch_jobs for reference in references)
    }
    needs = sorted({f"results/{reference.job}/job.json" for slot in given for reference in graph.references[job][slot]})
    return {"name": job, "settings": settings, "groups": groups, "given": given, "needs": needs}


def _sources(graph: Graph, job: str) -> list[str]:
    """Jobs by batch from which the particles of a job come."""
    found: list[str] = []
    slots = [slot for slot, declared in graph.type_of(job).slots.items() if declared["slot"] == "particles"]
    for reference in (reference for slot in slots for reference in graph.references[job].get(slot, [])):
        by_batch = graph.type_of(reference.job).declared["scatter"]
        found += [reference.job] if by_batch else _sources(graph, reference.job)
    return list(dict.fromkeys(found))


def _first_after(graph: Graph, job: str, types: Iterable[str]) -> str | None:
    return next((other for other in graph.order if graph.jobs[other]["type"] in types and job in graph.ancestors(other)), None)


def _follows(graph: Graph, job: str, others: Iterable[str]) -> bool:
    return bool(graph.ancestors(job) & set(others))
