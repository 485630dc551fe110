"""Continue a refinement with more particles: each half-set from its own half map of the round before."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import Field

from firn.families.refinement import Inputs, RefinementParams, mask_maker, origins_of, read_inputs, volume_in_box
from firn.families.refinement_course import iterate, write_results
from firn.formats.fsc import read_fsc
from firn.formats.particles import read_particles
from firn.refine.homogeneous import Refinement
from firn.refine.schedule import first_below
from firn.runtime.job import Job

HALVES = ("half1.mrc", "half2.mrc")
TRUSTED = 0.5
"""Correlation of the half maps down to which each is where its half-set starts."""


class Params(RefinementParams):
    """Refine, going on from an earlier round's half maps with all particles there are now; from a map without halves, an ordinary refinement.

    Each half-set starts from the half map it made itself, low-passed to what the halves agree on, and half-sets never change: what the
    halves share is what the first map gave both at its low-pass.
    """

    revision: ClassVar[int] = 6

    passes: int = Field(5, ge=2)
    """Largest number of iterations when going on from half maps."""


def run(job: Job[Params]) -> None:
    """Read, iterate, write maps, mask, FSC and poses."""
    inputs = read_inputs(job)
    starts, iterations = (inputs.start, inputs.start), job.params.iterations
    folder = job.input("volume")
    if all((folder / half).exists() for half in HALVES):
        first, second = (volume_in_box(folder / half, inputs.side, inputs.pixel_size) for half in HALVES)
        starts, iterations = (first, second), min(job.params.passes, iterations)
        inputs = _continued(inputs, folder)
    chance = job.generator("correlation")
    refinement = Refinement(inputs.particles, starts, inputs.settings, mask_maker(job, inputs), job.over, chance)
    refinement.poses.shifts = origins_of(inputs.table, inputs.pixel_size)
    result, history = iterate(job, refinement, inputs, iterations)
    write_results(job, inputs, refinement.poses, result, history)


def _continued(inputs: Inputs, folder: Path) -> Inputs:
    """Particles where the round before found them, and a first radius up to which its half maps agree."""
    settings, box = inputs.settings, inputs.side * inputs.pixel_size
    curves = read_fsc(folder / "fsc.star")
    agreed = first_below(curves["corrected"].tolist(), TRUSTED)
    trusted = box * float(curves["frequency"].iloc[min(agreed, len(curves)) - 1])
    radius = min(max(trusted, settings.initial_radius), settings.max_radius)
    table = _where_found(inputs.table, folder / "particles.star")
    return replace(inputs, table=table, settings=replace(settings, initial_radius=radius))


def _where_found(table: pd.DataFrame, former: Path) -> pd.DataFrame:
    """The table with the origins that an earlier round found, for the particles it knew."""
    if not former.exists() or "particle_id" not in table.columns:
        return table
    known = read_particles(former, needs=("particle_id", "origin_x", "origin_y")).set_index("particle_id")
    found = {name: table["particle_id"].map(known[name]) for name in ("origin_x", "origin_y")}
    return table.assign(**{name: values.fillna(table[name]) if name in table else values.fillna(0.0) for name, values in found.items()})
