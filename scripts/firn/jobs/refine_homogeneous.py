"""Refine one structure from particles and a starting map, with independent halves."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.ids import half_set
from firn.formats.mrc import write_volume
from firn.formats.particles import common_box, load_images, read_particles
from firn.formats.tables import write_table
from firn.formats.volumes import read_like, read_volume
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import resize_volumes
from firn.kernels.fsc import resolution_at
from firn.kernels.project import crop_volume, pad_volume
from firn.kernels.rotation import matrix_angles
from firn.refine.homogeneous import Iteration, Refinement
from firn.refine.state import Optics, Particles, Settings
from firn.refine.validation import MASK_RESOLUTION, automatic_mask, corrected_curves, molecule_mask
from firn.report.postprocess import draw_fsc
from firn.report.refine import Moment, draw_convergence, draw_directions, draw_iterations
from firn.report.volumes import draw_slices, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

FEWEST_PER_HALF = 20
WINDOW = (0.85, 0.99)
EDGE = 10.0
"""Å. Width of the soft edge of the particle's disc."""


class Params(JobParams):
    """Find the pose of every particle and reconstruct the map; two halves of the particles never meet, so that their agreement is honest."""

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")
    particles: str = slot("particles")
    """Particles to refine."""
    volume: str = slot("volume")
    """Map to start from; low-passed, so that only its coarse shape counts. Its hand is kept."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the references; none = a disc at first, then one made from the map in each iteration."""
    symmetry: str = "C1"
    """Point group: Cn, Dn, T, O, I, I1 ... I4, with RELION's axes."""
    initial_lowpass: float = Field(30.0, gt=0)
    """Å. Low-pass filter of the starting map."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Finest detail used to find poses; none = as far as the half maps agree, up to Nyquist."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Longest extent; images are masked to it. None = a window over 0.85 to 0.99 of the box."""
    shift_range: float | None = Field(None, gt=0)
    """Å. How far particles may lie from their present centres; none = a tenth of the box."""
    dynamic_mask_from: float = Field(12.0, gt=0)
    """Å. Resolution from which on a mask made from the map is used; coarser, a ball."""
    dynamic_mask_threshold: float = Field(0.2, gt=0, lt=1)
    """Density, as a part of the largest, of the edge of the mask made from the map."""
    dynamic_mask_near: float = Field(6.0, ge=0)
    """Å from the density where the mask made from the map starts to fall."""
    dynamic_mask_far: float = Field(14.0, gt=0)
    """Å from the density where the mask made from the map ends."""
    iterations: int = Field(30, ge=2)
    """Largest number of iterations; fewer when nothing improves any more."""


def run(job: Job[Params]) -> None:
    """Read, iterate, write maps, mask, FSC and poses."""
    table = _with_halves(job, read_particles(job.input("particles", "particles.star")))
    side, pixel_size = common_box(table)
    settings = _settings(job, side, pixel_size)
    particles = _particles(table, pixel_size)
    start = _starting_map(job, side, pixel_size)
    mask_of = _mask_maker(job, side, pixel_size)
    refinement = Refinement(particles, start, settings, mask_of, lambda rows, step: job.over(rows, step), job.generator("correlation"))
    if "origin_x" in table.columns:
        refinement.poses.shifts = torch.tensor(table[["origin_y", "origin_x"]].to_numpy(np.float32) / pixel_size)
    history: list[Moment] = []
    for result in refinement.run(job.params.iterations):
        history.append(_note(job, result, side, pixel_size))
    _write_particles(job, table, refinement, pixel_size)
    mask, curves = _write_maps(job, result, pixel_size)
    _report(job, result, curves, mask, pixel_size)
    _draw_course(job, history, refinement, pixel_size)


def _note(job: Job[Params], result: Iteration, side: int, pixel_size: float) -> Moment:
    resolution = side * pixel_size / result.resolved
    searched = side * pixel_size / result.searched
    job.progress.note(
        iteration=result.number,
        resolution=round(resolution, 2),
        searched=round(searched, 2),
        moved_degrees=round(result.moved, 2),
        everywhere=result.everywhere,
    )
    volume = result.combined.cpu().numpy()
    slices = tuple(np.take(volume, side // 2, axis) for axis in range(3))
    return Moment(result.number, resolution, searched, result.moved, slices)


def _with_halves(job: Job[Params], table: pd.DataFrame) -> pd.DataFrame:
    """Table with half-sets: the ones it has, or drawn from the particles' names."""
    if "half" not in table.columns:
        names = table["particle_id"] if "particle_id" in table.columns else table["image"]
        table = table.assign(half=[half_set(str(name)) for name in names])
    counts = [int((table["half"] == half).sum()) for half in (1, 2)]
    if min(counts) < FEWEST_PER_HALF or sum(counts) != len(table):
        raise InputError(
            f"job {job.name}: the half-sets hold {counts[0]} and {counts[1]} of {len(table)} particles, but each needs {FEWEST_PER_HALF}"
        )
    return table.reset_index(drop=True)


def _settings(job: Job[Params], side: int, pixel_size: float) -> Settings:
    params, box = job.params, side * pixel_size
    if params.initial_lowpass < 2 * pixel_size or (params.max_resolution or box) < 2 * pixel_size:
        raise InputError(f"job {job.name}: initial_lowpass and max_resolution must be coarser than two pixels ({2 * pixel_size:g} Å)")
    diameter = params.particle_diameter or WINDOW[0] * box
    if diameter > box:
        raise InputError(f"job {job.name}: particle_diameter {diameter:g} Å is larger than the box, {box:g} Å")
    radius = diameter / 2 if params.particle_diameter else WINDOW[0] * box / 2
    edge = min(EDGE, box / 2 - radius) if params.particle_diameter else (WINDOW[1] - WINDOW[0]) * box / 2
    return Settings(
        group=params.symmetry,
        diameter=diameter / pixel_size,
        mask_radius=radius / pixel_size,
        mask_edge=max(edge / pixel_size, 1.0),
        initial_radius=box / params.initial_lowpass,
        max_radius=min(side / 2 - 1, box / params.max_resolution) if params.max_resolution else side / 2 - 1,
        shift_reach=(params.shift_range or 0.1 * box) / pixel_size,
        device=job.device,
    )


def _particles(table: pd.DataFrame, pixel_size: float) -> Particles:
    optics = Optics(*(torch.tensor(table[name].to_numpy(np.float64)) for name in Optics.__dataclass_fields__))
    return Particles(torch.tensor(load_images(table)), optics, torch.tensor(table["half"].to_numpy(np.int64)), pixel_size)


def _starting_map(job: Job[Params], side: int, pixel_size: float) -> Tensor:
    """The starting map brought to the particles' pixel size and box."""
    volume, own = read_volume(job.input("volume", "map.mrc"))
    start = torch.tensor(volume)
    if own > 0 and abs(own - pixel_size) > 0.002 * pixel_size:
        start = resize_volumes(start, round(volume.shape[0] * own / pixel_size))
    if not bool(start.any()):
        raise InputError(f"{job.input('volume', 'map.mrc')}: the starting map is empty")
    return crop_volume(pad_volume(start, side) if start.shape[0] < side else start, side)


def _mask_maker(job: Job[Params], side: int, pixel_size: float) -> Callable[[Tensor, float], Tensor | None]:
    """The given mask always, or one made from the map once its resolution is good enough, or none."""
    params = job.params
    given = torch.tensor(read_like(job.input("mask", "mask.mrc"), side, pixel_size), device=job.device) if job.has("mask") else None

    def mask_of(volume: Tensor, resolved: float) -> Tensor | None:
        if given is not None or side * pixel_size / resolved > params.dynamic_mask_from:
            return given
        smooth = low_pass_volume(volume, pixel_size, max(MASK_RESOLUTION, 2 * pixel_size))
        threshold = params.dynamic_mask_threshold * float(smooth.max())
        return molecule_mask(volume, pixel_size, params.dynamic_mask_near, params.dynamic_mask_far, threshold=threshold)

    return mask_of


def _write_particles(job: Job[Params], table: pd.DataFrame, refinement: Refinement, pixel_size: float) -> None:
    poses = refinement.poses
    angles = matrix_angles(poses.rotations).numpy()
    origins = poses.shifts.numpy() * pixel_size
    posed = table.assign(
        rot=angles[:, 0],
        tilt=angles[:, 1],
        psi=angles[:, 2],
        origin_x=origins[:, 1],
        origin_y=origins[:, 0],
        class_probability=poses.peak.numpy(),
    )
    write_table(job.folder / "particles.star", posed, "particles")


def _write_maps(job: Job[Params], result: Iteration, pixel_size: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Write the maps and the mask the FSC is measured in; returns mask and curves."""
    first, second = result.half_maps
    for name, volume in (("half1", first), ("half2", second), ("map", result.combined)):
        write_volume(job.folder / f"{name}.mrc", volume.cpu().numpy(), pixel_size)
    if job.has("mask"):
        mask = result.mask
    else:
        mask = automatic_mask(first, second, pixel_size, job.params.dynamic_mask_near, job.params.dynamic_mask_far)
    mask = mask if bool((mask > 0).any()) else result.mask
    write_volume(job.folder / "mask.mrc", mask.cpu().numpy(), pixel_size)
    return mask, corrected_curves(first, second, mask, job.generator("phases"))


def _report(job: Job[Params], result: Iteration, curves: dict[str, Tensor], mask: Tensor, pixel_size: float) -> None:
    side = mask.shape[0]
    resolutions = {name: resolution_at(curves[name], 0.143, pixel_size, side) for name in ("corrected", "tight", "unmasked")}
    for name, value in resolutions.items():
        job.metric(f"resolution_{name}", value, "Å")
    job.metric("iterations", result.number)
    table = fsc_table({name: curve.cpu().numpy() for name, curve in curves.items()}, side, pixel_size)
    write_fsc(job.folder / "fsc.star", table)
    if resolutions["corrected"] < 1.05 * 2 * pixel_size:
        job.warn(f"The FSC reaches Nyquist ({2 * pixel_size:.2f} Å): extract with smaller pixels to see how far the map goes.")
    caption = (
        "Agreement of the two independent half maps by resolution, without a mask, under the mask, and freed of what the mask alone adds "
        "(phases randomised). The corrected curve is the one to quote, read at 0.143."
    )
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), table, resolutions)
    volume = result.combined.cpu().numpy()
    caption = "Central slices of the map from all particles, filtered by its signal-to-noise ratio; the orange line is the mask's edge."
    draw_slices(job.figure("slices", "Map", caption), volume, pixel_size, mask.cpu().numpy())
    caption = "Surface of the map, unsharpened, seen along the three axes."
    draw_surfaces(job.figure("surface", "Surface", caption), volume * mask.cpu().numpy(), surface_level(volume, mask.cpu().numpy()))


def _draw_course(job: Job[Params], history: list[Moment], refinement: Refinement, pixel_size: float) -> None:
    caption = (
        "Resolution of each iteration (FSC 0.143 within the reference mask), how fine the images were used, and the median change of "
        "orientation. A refinement that is done has flat curves."
    )
    draw_convergence(job.figure("convergence", "Resolution by iteration", caption), history)
    caption = "Central slices of the map as it grew, one column per iteration."
    draw_iterations(job.figure("iterations", "Map by iteration", caption), history, pixel_size)
    caption = (
        "Viewing directions of the particles, as the tables hold them: with symmetry, all lie in one asymmetric unit. Empty regions make "
        "resolution depend on direction."
    )
    angles = matrix_angles(refinement.poses.rotations).numpy()
    draw_directions(job.figure("directions", "Viewing directions", caption), angles[:, 0], angles[:, 1])
    job.metric("certainty", float(refinement.poses.peak.mean()))
