"""Refine one structure whose parts differ in order, with regularisation that differs from place to place."""

from typing import ClassVar

from pydantic import Field

from firn.families.refinement import RefinementParams, mask_maker, origins_of, read_inputs
from firn.families.refinement_course import iterate, write_results
from firn.refine.homogeneous import Refinement
from firn.refine.nonuniform import CrossValidated
from firn.runtime.job import Job


class Params(RefinementParams):
    """As homogeneous refinement, but in every iteration each place of the map is filtered as far as the two half maps agree there.

    For membrane proteins in micelles, flexible parts, and small particles: disordered regions no longer bring noise into the poses.
    """

    revision: ClassVar[int] = 6

    filter_order: int = Field(8, ge=1)
    """Order of the Butterworth filters that part the bands of resolution."""
    window_factor: float = Field(3.0, gt=0)
    """Width of the neighbourhood in which the half maps are compared, in wavelengths of the band."""


def run(job: Job[Params]) -> None:
    """Read, iterate, write maps, mask, FSC and poses."""
    inputs = read_inputs(job)
    refinement = Refinement(
        inputs.particles,
        (inputs.start, inputs.start),
        inputs.settings,
        mask_maker(job, inputs),
        job.over,
        job.generator("correlation"),
        CrossValidated(job.params.filter_order, job.params.window_factor),
    )
    refinement.poses.shifts = origins_of(inputs.table, inputs.pixel_size)
    result, history = iterate(job, refinement, inputs)
    write_results(job, inputs, refinement.poses, result, history)
