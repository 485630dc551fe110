"""Refine a masked part of a structure near the poses that its particles have."""

import math
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.families.refinement import Inputs, RefinementParams, origins_of, read_inputs, volume_in_box
from firn.families.refinement_course import iterate, write_results
from firn.formats.poses import read_angles
from firn.kernels.rotation import euler_matrices
from firn.refine.local import Limits, LocalRefinement, from_fulcrum, mask_centre, mask_reach, moved_back, to_fulcrum, to_origin
from firn.refine.nonuniform import CrossValidated
from firn.refine.regularise import Regulariser, wiener
from firn.runtime.job import Job
from firn.runtime.params import slot


class Params(RefinementParams):
    """Refine the part of a structure inside a mask, searching only near the given poses; the rest of the particle stays in the images.

    For domains that move against the rest: take the rest out of the images first (subtract_particles) where it is large. Half maps
    of the starting map, where there are any, start the two halves, so that they stay independent.
    """

    revision: ClassVar[int] = 4

    mask: str = slot("mask")
    """Mask of the part to refine."""
    initial_lowpass: float = Field(12.0, gt=0)
    """Å. Low-pass filter of the starting maps."""
    fulcrum: list[float] | None = Field(None, min_length=3, max_length=3)
    """Å. x, y, z of the point about which the part turns, as ChimeraX shows them in the starting map; none = the mask's centre."""
    rotation_extent: float = Field(20.0, gt=0, le=90)
    """Degrees. Farthest rotation from the given pose."""
    shift_range: float = Field(10.0, gt=0)
    """Å. Farthest shift from the given pose."""
    rotation_prior: float | None = Field(None, gt=0)
    """Degrees. Standard deviation of rotations about the given pose; none = all within the extent are alike."""
    shift_prior: float | None = Field(None, gt=0)
    """Å. Standard deviation of shifts about the given pose; none = all within the range are alike."""
    non_uniform: bool = True
    """Regularise as non-uniform refinement does; off = one filter for the whole map."""


def run(job: Job[Params]) -> None:
    """Move the fulcrum to the origin, iterate about the given poses, move back, write."""
    inputs = read_inputs(job)
    if job.params.symmetry.upper() != "C1":
        raise InputError(f"job {job.name}: symmetry {job.params.symmetry} does not hold for a part; expand the particles and use C1")
    mask = given_mask(job, inputs.side, inputs.pixel_size)
    fulcrum = _fulcrum(job, inputs, mask)
    rotations = euler_matrices(torch.tensor(read_angles(inputs.table, str(job.input("particles", "particles.star"))))).float()
    refinement = _refinement(job, inputs, mask, fulcrum)
    shifts = to_fulcrum(origins_of(inputs.table, inputs.pixel_size), rotations, fulcrum)
    refinement.begin(rotations, shifts, _limits(job.params, inputs.pixel_size))
    result, history = iterate(job, refinement, inputs)
    poses = replace(refinement.poses, shifts=from_fulcrum(refinement.poses.shifts, refinement.poses.rotations, fulcrum))
    job.metric("median_turn", _median_turn(rotations, poses.rotations), "°")
    write_results(job, inputs, poses, moved_back(result, fulcrum), history)


def _refinement(job: Job[Params], inputs: Inputs, mask: Tensor, fulcrum: tuple[int, int, int]) -> LocalRefinement:
    settings, side = inputs.settings, inputs.side
    if job.params.particle_diameter is None:
        radius = min(mask_reach(mask, fulcrum), side / 2 - 1 - settings.mask_edge)
        settings = replace(settings, diameter=2 * radius, mask_radius=radius)
    files = [name for name in ("half1.mrc", "half2.mrc") if job.input("volume", name).exists()]
    files = files if len(files) == 2 else ["map.mrc", "map.mrc"]
    first, second = (
        to_origin(volume_in_box(job.input("volume", file), side, inputs.pixel_size).to(job.device) * mask, fulcrum) for file in files
    )
    centred = to_origin(mask, fulcrum)
    regularise: Regulariser = CrossValidated() if job.params.non_uniform else wiener
    chance = job.generator("correlation")
    return LocalRefinement(inputs.particles, (first, second), settings, lambda volume, shell: centred, job.over, chance, regularise)


def _fulcrum(job: Job[Params], inputs: Inputs, mask: Tensor) -> tuple[int, int, int]:
    """zyx in whole pixels from the box's origin."""
    if job.params.fulcrum is None:
        return mask_centre(mask)
    x, y, z = (round(value / inputs.pixel_size) - inputs.side // 2 for value in job.params.fulcrum)
    if max(abs(x), abs(y), abs(z)) > inputs.side // 2:
        raise InputError(f"job {job.name}: fulcrum {job.params.fulcrum} lies outside the box of {inputs.side * inputs.pixel_size:g} Å")
    return z, y, x


def _limits(params: Params, pixel_size: float) -> Limits:
    return Limits(
        params.rotation_prior or math.inf,
        (params.shift_prior or math.inf) / pixel_size,
        params.rotation_extent,
        params.shift_range / pixel_size,
    )


def _median_turn(before: Tensor, after: Tensor) -> float:
    traces = torch.einsum("nij,nij->n", before, after)
    return float(torch.rad2deg(torch.acos(((traces - 1) / 2).clamp(-1, 1))).median())
