"""Refinements of one structure: iterate with the state on disk, then write maps, mask, FSC, poses and figures."""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from firn.families.refinement import Inputs, RefinementParams
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.poses import with_poses
from firn.formats.tables import write_table
from firn.kernels.fsc import resolution_at
from firn.kernels.rotation import matrix_angles
from firn.refine.homogeneous import Iteration, Refinement
from firn.refine.state import Poses
from firn.refine.validation import automatic_mask, corrected_curves
from firn.report.postprocess import draw_fsc
from firn.report.refine import Moment, draw_convergence, draw_directions, draw_iterations, draw_moment, draw_scales
from firn.report.volumes import draw_slices, draw_surfaces, surface_level
from firn.runtime.job import Job

P = TypeVar("P", bound=RefinementParams)


def iterate(job: Job[P], refinement: Refinement, inputs: Inputs, iterations: int | None = None) -> tuple[Iteration, list[Moment]]:
    """Run to the end, from where a run that was cut short had got to; after each iteration the state and a picture are on disk.

    iterations: the most, those of the parameters when not given. Ranks other than 0 serve it, and end here.
    """
    if job.ranks.rank:
        refinement.serve()
        raise SystemExit
    state = job.checkpoint.load()
    history: list[Moment] = []
    if state is not None:
        refinement.restore(state["refinement"])
        history = [_unpacked(moment) for moment in state["history"]]
        job.progress.note(continued_after=len(history))
    for result in refinement.run(iterations or job.params.iterations):
        history.append(_note(job, result, inputs))
        job.checkpoint.save({"refinement": refinement.state(), "history": [_packed(moment) for moment in history]})
    job.ranks.tell(None)
    assert refinement.result is not None
    return refinement.result, history


def write_results(job: Job[P], inputs: Inputs, poses: Poses, result: Iteration, history: list[Moment]) -> None:
    """Everything a refinement leaves behind."""
    _write_particles(job, inputs, poses)
    write_maps(job, result.half_maps, result.combined, _fsc_mask(job, result, inputs.pixel_size), inputs.pixel_size)
    job.metric("iterations", result.number)
    _draw_course(job, history, inputs.pixel_size)
    _draw_particles(job, poses)


def _note(job: Job[P], result: Iteration, inputs: Inputs) -> Moment:
    resolution, searched = inputs.resolution(result.resolved), inputs.resolution(result.searched)
    job.progress.note(
        iteration=result.number,
        resolution=round(resolution, 2),
        searched=round(searched, 2),
        moved_degrees=round(result.moved, 2),
        everywhere=result.everywhere,
    )
    volume = result.combined.cpu().numpy()
    slices = tuple(np.take(volume, inputs.side // 2, axis) for axis in range(3))
    moment = Moment(result.number, resolution, searched, result.moved, slices, result.curve.cpu().numpy())
    draw_moment(job.watch(f"iteration_{result.number:02d}"), moment, inputs.side, inputs.pixel_size)
    return moment


def _packed(moment: Moment) -> dict[str, Any]:
    return vars(moment) | {"slices": [torch.tensor(part) for part in moment.slices], "curve": torch.tensor(moment.curve)}


def _unpacked(values: dict[str, Any]) -> Moment:
    return Moment(**values | {"slices": tuple(part.numpy() for part in values["slices"]), "curve": values["curve"].numpy()})


def _write_particles(job: Job[P], inputs: Inputs, poses: Poses) -> None:
    posed = with_poses(inputs.table, matrix_angles(poses.rotations).numpy(), poses.shifts.numpy(), inputs.pixel_size)
    posed = posed.assign(class_probability=poses.peak.numpy())
    if job.params.particle_scale:
        posed = posed.assign(scale=poses.scale.numpy())
    write_table(job.folder / "particles.star", posed, "particles")


def _fsc_mask(job: Job[P], result: Iteration, pixel_size: float) -> Tensor:
    """The mask the FSC is measured in."""
    if job.has("mask"):
        return result.mask
    mask = automatic_mask(*result.half_maps, pixel_size, job.params.dynamic_mask_near, job.params.dynamic_mask_far)
    return mask if bool((mask > 0).any()) else result.mask


def write_maps(job: Job[Any], halves: tuple[Tensor, Tensor], combined: Tensor, mask: Tensor, pixel_size: float) -> None:
    """Write unfiltered half maps, the map of all particles, the mask and the FSC under it, each with figures and metrics."""
    for name, tensor in (("half1", halves[0]), ("half2", halves[1]), ("map", combined), ("mask", mask)):
        write_volume(job.folder / f"{name}.mrc", tensor.cpu().numpy(), pixel_size)
    curves = corrected_curves(*halves, mask, job.generator("phases"))
    side = mask.shape[0]
    resolutions = {name: resolution_at(curves[name], 0.143, pixel_size, side) for name in ("corrected", "tight", "unmasked")}
    for name, value in resolutions.items():
        job.metric(f"resolution_{name}", value, "Å")
    table = fsc_table({name: curve.cpu().numpy() for name, curve in curves.items()}, side, pixel_size)
    write_fsc(job.folder / "fsc.star", table)
    if resolutions["corrected"] < 1.05 * 2 * pixel_size:
        job.warn(f"The FSC reaches Nyquist ({2 * pixel_size:.2f} Å): extract with smaller pixels to see how far the map goes.")
    caption = (
        "Agreement of the two independent half maps by resolution, without a mask, under the mask, and freed of what the mask alone adds "
        "(phases randomised). The corrected curve is the one to quote, read at 0.143."
    )
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), table, resolutions)
    volume = combined.cpu().numpy()
    caption = "Central slices of the map from all particles, filtered by its signal-to-noise ratio; the orange line is the mask's edge."
    draw_slices(job.figure("slices", "Map", caption), volume, pixel_size, mask.cpu().numpy())
    caption = "Surface of the map, unsharpened, seen along the three axes."
    draw_surfaces(job.figure("surface", "Surface", caption), volume * mask.cpu().numpy(), surface_level(volume, mask.cpu().numpy()))


def _draw_course(job: Job[P], history: list[Moment], pixel_size: float) -> None:
    caption = (
        "Resolution of each iteration (FSC 0.143 within the reference mask), how fine the images were used, and the median change of "
        "orientation. A refinement that is done has flat curves."
    )
    draw_convergence(job.figure("convergence", "Resolution by iteration", caption), history)
    caption = "Central slices of the map as it grew, one column per iteration."
    draw_iterations(job.figure("iterations", "Map by iteration", caption), history, pixel_size)


def _draw_particles(job: Job[P], poses: Poses) -> None:
    caption = (
        "Viewing directions of the particles, as the tables hold them: with symmetry, all lie in one asymmetric unit. Empty regions make "
        "resolution depend on direction."
    )
    angles = matrix_angles(poses.rotations).numpy()
    draw_directions(job.figure("directions", "Viewing directions", caption), angles[:, 0], angles[:, 1])
    job.metric("pose_certainty", 100 * float(poses.peak.mean()), "%")
    if job.params.particle_scale:
        job.metric("scale_spread", float(poses.scale.std()))
        caption = "Grey scale of each particle against the map; those far below 1 are thick in ice, broken, or no particles."
        draw_scales(job.figure("scales", "Particle scale", caption), poses.scale.numpy())
