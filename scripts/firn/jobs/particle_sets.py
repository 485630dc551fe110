"""Unite, intersect or subtract sets of particles."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.formats.particle_sets import split_by_membership, unite
from firn.formats.tables import read_table, require_columns, write_table
from firn.report.particle_sets import draw_overlap
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Compare sets of particles by their names: all of them, those in every set, or those of the first set that are in no other.

    Values such as poses are those of the first set that has the particle.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"rest": ("particles",)}

    particles: str = slot("particles")
    """First set."""
    others: str | list[str] = slot("particles", many=True)
    """Sets to compare it with."""
    action: Literal["union", "intersection", "difference"] = "intersection"
    """union: all particles; intersection: those of the first set that are in all others; difference: those that are in none."""
    field: Literal["particle_id", "image", "source_particle"] = Field("particle_id")
    """What tells that two rows are the same particle: its name, its image, or the particle it was copied from."""


def run(job: Job[Params]) -> None:
    """Write the result and, in rest/, the particles of the first set that are not in it."""
    folders = [job.input("particles"), *job.inputs["others"]]
    tables = [_read(folder, job.params.field) for folder in folders]
    result, rest = _combine(tables, job.params)
    if result.empty:
        raise InputError(f"job {job.name}: the {job.params.action} of {' and '.join(str(folder) for folder in folders)} is empty")
    write_table(job.folder / "particles.star", result, "particles")
    write_table(job.folder / "rest" / "particles.star", rest, "particles")
    job.metric("particles", len(result))
    job.metric("rest", len(rest))
    caption = "Number of particles that are in exactly these sets, and in the result."
    names = [folder.name for folder in folders]
    draw_overlap(job.figure("overlap", "Overlap", caption), names, _overlaps(tables, job.params.field), len(result))


def _read(folder: Path, key: str) -> pd.DataFrame:
    table = read_table(folder / "particles.star", "particles")
    require_columns(table, (key,), folder / "particles.star")
    return table


def _combine(tables: list[pd.DataFrame], params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(result, particles of the first set outside it)."""
    first, others, key = tables[0], tables[1:], params.field
    if params.action == "union":
        return unite(tables, key), first.iloc[:0]
    if params.action == "intersection":
        return split_by_membership(first, others, key)
    shared, own = split_by_membership(first, [unite(others, key)], key)
    return own, shared


def _overlaps(tables: list[pd.DataFrame], key: str) -> dict[tuple[bool, ...], int]:
    """Number of particles by membership in each set."""
    names = pd.unique(pd.concat([table[key] for table in tables], ignore_index=True))
    members = np.stack([np.isin(names, table[key].to_numpy()) for table in tables], axis=-1)
    patterns, counts = np.unique(members, axis=0, return_counts=True)
    return {tuple(bool(value) for value in pattern): int(count) for pattern, count in zip(patterns, counts, strict=True)}
