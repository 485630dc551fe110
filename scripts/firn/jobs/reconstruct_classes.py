"""Reconstruct every class of a classification from the poses its particles have."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.posed_particles import read_posed
from firn.families.reconstruction import Reconstruction, ReconstructionParams, reconstruct_table
from firn.formats.tables import require_columns, write_table
from firn.report.ab_initio import draw_volumes
from firn.report.classes_3d import draw_class_fsc
from firn.runtime.job import Job
from firn.runtime.params import Kind


class Params(ReconstructionParams):
    """Reconstruct the particles of each class by themselves, at full resolution; classes keep their numbers."""

    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"class_*": ("volume", "particles", "mask")}
    best_group: ClassVar[str | None] = "class_1"
    classes: list[int] | None = Field(None, min_length=1)
    """Numbers of the classes to reconstruct, counted from 1; none = all."""
    fewest: int = Field(20, ge=2)
    """Classes with fewer particles are left out."""


def run(job: Job[Params]) -> None:
    """Reconstruct class by class."""
    path = job.input("particles", "particles.star")
    table = read_posed(path)
    require_columns(table, ("class_number",), path)
    numbers = _numbers(job, table)
    made = {}
    for number in numbers:
        members = table[table["class_number"] == number].reset_index(drop=True)
        made[number] = reconstruct_table(job, members, job.folder / f"class_{number}")
        job.metric(f"class_{number}_particles", len(members))
        job.metric(f"class_{number}_resolution", made[number].resolution("corrected"), "Å")
    write_table(job.folder / "particles.star", table[table["class_number"].isin(numbers)], "particles")
    _draw(job, made)


def _numbers(job: Job[Params], table: pd.DataFrame) -> list[int]:
    """Classes to reconstruct, ascending."""
    counts = table["class_number"].value_counts()
    wanted = sorted(job.params.classes or counts.index)
    small = [number for number in wanted if counts.get(number, 0) < job.params.fewest]
    if small:
        job.warn(f"Left out, with fewer than {job.params.fewest} particles: class {', '.join(str(number) for number in small)}.")
    kept = [int(number) for number in wanted if number not in small]
    if not kept:
        raise InputError(f"job {job.name}: no class has {job.params.fewest} particles")
    return kept


def _draw(job: Job[Params], made: dict[int, Reconstruction]) -> None:
    first = next(iter(made.values()))
    counts = np.array([len(one.angles) for one in made.values()])
    caption = f"Central slices and projections of class {', '.join(str(number) for number in made)}, from above, inside their masks."
    volumes = [(one.combined * one.mask).cpu().numpy() for one in made.values()]
    draw_volumes(job.figure("volumes", "Classes", caption), volumes, list(counts / counts.sum()), first.pixel_size)
    caption = "Corrected FSC of the half maps of each class. Smaller classes reach less far for that alone."
    curves = [one.curves["corrected"].cpu().numpy() for one in made.values()]
    frequency = first.table()["frequency"].to_numpy()
    draw_class_fsc(
        job.figure("fsc", "FSC of the classes", caption), curves, frequency, [one.resolution("corrected") for one in made.values()]
    )
