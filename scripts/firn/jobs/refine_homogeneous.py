"""Refine one structure from particles and a starting map, with independent halves."""

from typing import ClassVar

from firn.families.refinement import RefinementParams, mask_maker, origins_of, read_inputs
from firn.families.refinement_course import iterate, write_results
from firn.refine.homogeneous import Refinement
from firn.runtime.job import Job


class Params(RefinementParams):
    """Find the pose of every particle and reconstruct the map; two halves of the particles never meet, so that their agreement is honest."""

    revision: ClassVar[int] = 9


def run(job: Job[Params]) -> None:
    """Read, iterate, write maps, mask, FSC and poses."""
    inputs = read_inputs(job)
    starts = inputs.start, inputs.start
    refinement = Refinement(inputs.particles, starts, inputs.settings, mask_maker(job, inputs), job.over, job.generator("correlation"))
    refinement.poses.shifts = origins_of(inputs.table, inputs.pixel_size)
    result, history = iterate(job, refinement, inputs)
    write_results(job, inputs, refinement.poses, result, history)
