"""Reconstruct volumes from particles alone, without a starting model."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.aberrations import iterate_corrected, particle_optics
from firn.families.memory_needs import initial_needs
from firn.formats.mrc import read_shape, write_volume
from firn.formats.particles import read_particles
from firn.formats.poses import read_shifts
from firn.formats.tables import split_image_names, write_table
from firn.kernels.fourier import resize_volumes
from firn.kernels.rotation import matrix_angles
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.ab_initio import AbInitio, Settings
from firn.refine.ab_initio_course import Course, Result, reconstruct_ab_initio
from firn.refine.initial_data import Geometry, Observations, observe, solvent_power, working_geometry
from firn.report.ab_initio import draw_fractions, draw_history, draw_progress, draw_volumes
from firn.runtime.job import Job
from firn.runtime.memory_room import expect
from firn.runtime.params import JobParams, slot

FEWEST_PARTICLES = 50
IMAGES_AT_ONCE = 256
NOISE_PARTICLES = 2000
Snapshots = list[tuple[str, list[np.ndarray]]]


class Params(JobParams):
    """Make volumes from particles alone: stochastic expectation-maximisation from random starts, with growing resolution.

    Any number of classes sorts the particles at the same time; the classes are numbered by size.
    """

    stage = "initial"
    lane = "reconstruct"
    gpu_gb = 8
    revision = 6
    offers = ("volume", "particles")
    groups: ClassVar[dict[str, tuple[Any, ...]]] = {"class_*": ("volume", "particles")}
    particles: str = slot("particles")
    """Particles to reconstruct from."""
    classes: int = Field(1, ge=1, le=20)
    """Number of volumes."""
    symmetry: str = "C1"
    """Point group imposed from the start: Cn, Dn, T, O, I, I1 ... I4. C1 is the safe choice; a right group helps small data sets."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Longest extent of the particle; 0.7 of the box when empty."""
    initial_resolution: float = Field(35.0, gt=0)
    """Å. Resolution of the first iterations."""
    max_resolution: float = Field(12.0, gt=0)
    """Å. Finest detail used; coarser where the box is larger than 32 such lengths."""
    initial_iterations: int = Field(30, ge=1)
    """Iterations of each start; with one class, one in ten, the last ones, sees a final_minibatch."""
    final_iterations: int = Field(24, ge=1)
    """Iterations of the best start with growing resolution, before the passes over all particles; several classes first settle in as many."""
    initial_minibatch: int = Field(90, ge=10)
    """Particles per iteration at first; for K classes (K + 1) / 2 times as many, but at most a fifth of all."""
    final_minibatch: int = Field(300, ge=10)
    """Particles per iteration at last; for K classes (K + 1) / 2 times as many, but at most a fifth of all."""
    starts: int = Field(5, ge=1)
    """Random starts, compared at low resolution."""
    grown: int = Field(2, ge=1)
    """How many of the best starts grow to full resolution, where they are compared again; of several classes, the best set out of all
    starts is the first."""
    class_similarity: float = Field(0.1, ge=0, le=1)
    """How alike classes are taken to be at first: the share of each particle that goes to all classes alike; falls to 0."""
    rest_class: bool = True
    """With several classes: reconstruct one more, which takes false picks and whatever fits none, so that these spoil no class; left out at
    the end, when each particle goes to the best of the others."""
    max_shift: float = Field(15.0, ge=0)
    """Å. Largest distance of a particle from its box's centre, beyond the origins that the table already holds."""
    max_particles: int = Field(100_000, ge=50)
    """Particles used, drawn at random when there are more."""
    non_negative: bool = True
    """Allow no density below that of the solvent."""


def run(job: Job[Params]) -> None:
    """Reconstruct, and write map.mrc and particles.star of the largest class, class_1, class_2 ... and the figures."""
    params = job.params
    table = _chosen(job, read_particles(job.input("particles", "particles.star")))
    box_px, pixel_size = _check(job, table)
    diameter = params.particle_diameter or 0.7 * box_px * pixel_size
    settings = _settings(params, diameter)
    geometry = working_geometry(box_px, pixel_size, params.max_resolution, device=job.device)
    expect(job, initial_needs(len(table), len(geometry.disc.points), settings.volumes, geometry.n))
    observations, noise = _observations(job, table, pixel_size, diameter, geometry)
    engine = AbInitio(observations, noise, geometry, settings, job.generator())
    result, history, snapshots = _reconstruct(job, engine)
    order = torch.argsort(_counts(result), descending=True, stable=True)
    rows = _posed(table, result, order, geometry)
    volumes = [_full_size(result.volumes[int(number)], box_px) for number in order]
    _write(job, rows, volumes, pixel_size)
    ranked = [result.members[int(number)] for number in order]
    ranked += [number for number in range(settings.volumes) if number not in ranked]
    _report(job, result, order, volumes, pixel_size, history, [(title, [maps[k] for k in ranked]) for title, maps in snapshots], geometry)


def _reconstruct(job: Job[Params], engine: AbInitio) -> tuple[Result, list[dict[str, float | int | str]], Snapshots]:
    """The result, the numbers of all iterations, and volumes on the way; goes on where a run cut short was."""
    state = job.checkpoint.load()
    history: list[dict[str, float | int | str]] = [] if state is None else state["history"]
    snapshots: Snapshots = []

    def note(fields: dict[str, float | int | str]) -> None:
        history.append(fields)
        job.progress.note(**fields)

    def snapshot(title: str, volumes: list[Tensor]) -> None:
        snapshots.append((title, [volume.cpu().numpy() for volume in volumes]))

    def keep(course: dict[str, Any]) -> None:
        job.checkpoint.save({"course": course, "history": history})

    result = reconstruct_ab_initio(Course(engine, note, snapshot, keep, None if state is None else state["course"]))
    return result, history, snapshots


def _chosen(job: Job[Params], table: pd.DataFrame) -> pd.DataFrame:
    if len(table) < FEWEST_PARTICLES:
        raise InputError(
            f"job {job.name}: {len(table)} particles are too few for an ab-initio reconstruction, which needs {FEWEST_PARTICLES}"
        )
    symmetry_matrices(job.params.symmetry)
    if len(table) <= job.params.max_particles:
        return table.reset_index(drop=True)
    rows = job.numpy_generator("subset").choice(len(table), job.params.max_particles, replace=False)
    return table.iloc[np.sort(rows)].reset_index(drop=True)


def _check(job: Job[Params], table: pd.DataFrame) -> tuple[int, float]:
    """(box in pixels, pixel size) of particles that all have the same."""
    sizes = table["image_pixel_size"].unique()
    if len(sizes) > 1:
        raise InputError(f"job {job.name}: the particles have different pixel sizes ({sizes[0]:g} and {sizes[1]:g} Å)")
    boxes = {stack: read_shape(stack)[0][1:] for stack in pd.unique(split_image_names(table["image"])[1])}
    shapes = set(boxes.values())
    if len(shapes) > 1 or any(y != x for y, x in shapes):
        raise InputError(f"job {job.name}: the particles need one square box, got {', '.join(f'{y} x {x}' for y, x in sorted(shapes))} px")
    box_px, pixel_size = shapes.pop()[0], float(sizes[0])
    if job.params.max_resolution < 2 * pixel_size:
        raise InputError(f"job {job.name}: max_resolution {job.params.max_resolution:g} Å is finer than two pixels ({2 * pixel_size:g} Å)")
    if job.params.initial_resolution < job.params.max_resolution:
        raise InputError(f"job {job.name}: initial_resolution {job.params.initial_resolution:g} Å is finer than max_resolution")
    return box_px, pixel_size


def _settings(params: Params, diameter: float) -> Settings:
    return Settings(
        diameter=diameter,
        classes=params.classes,
        group=params.symmetry,
        initial_resolution=params.initial_resolution,
        max_resolution=params.max_resolution,
        initial_iterations=params.initial_iterations,
        final_iterations=params.final_iterations,
        initial_minibatch=params.initial_minibatch * (params.classes + 1) // 2,
        final_minibatch=params.final_minibatch * (params.classes + 1) // 2,
        class_similarity=params.class_similarity,
        rest_class=params.rest_class,
        starts=params.starts,
        grown=params.grown,
        max_shift=params.max_shift,
        non_negative=params.non_negative,
    )


def _observations(
    job: Job[Params], table: pd.DataFrame, pixel_size: float, diameter: float, geometry: Geometry
) -> tuple[Observations, Tensor]:
    """All particles on the working disc, and the noise outside them."""
    parts, powers, seen = [], [], 0
    total = -(-len(table) // IMAGES_AT_ONCE)
    for rows, images in job.over(iterate_corrected(table, IMAGES_AT_ONCE), "stacks of images", total):
        part = table.iloc[rows]
        batch = images.to(job.device)
        parts.append(observe(batch, pixel_size, particle_optics(part), _origins(part, job.device), geometry))
        if seen < NOISE_PARTICLES:
            powers.append(solvent_power(batch, diameter / pixel_size, geometry) * len(rows))
            seen += len(rows)
    joined = Observations(torch.cat([part.spectra for part in parts]), torch.cat([part.ctf for part in parts]))
    return joined, torch.stack(powers).sum(0) / seen


def _origins(table: pd.DataFrame, device: torch.device) -> Tensor:
    """yx origins in Å; 0 where the table has none."""
    return torch.as_tensor(read_shifts(table, 1.0), dtype=torch.float32, device=device)


def _counts(result: Result) -> Tensor:
    return torch.bincount(result.found.classes, minlength=len(result.volumes)).cpu()


def _posed(table: pd.DataFrame, result: Result, order: Tensor, geometry: Geometry) -> pd.DataFrame:
    """The table with class (numbered by size), pose, origin and probability."""
    found = result.found
    origins = _origins(table, found.shifts.device) + found.shifts * geometry.pixel_size
    angles = matrix_angles(found.rotations).cpu().numpy()
    number = torch.argsort(order)[found.classes.cpu()].numpy() + 1
    share = found.class_posterior.gather(1, found.classes[:, None])[:, 0].cpu().numpy()
    y, x = origins.cpu().numpy().T
    return table.assign(
        class_number=number, class_probability=share, rot=angles[:, 0], tilt=angles[:, 1], psi=angles[:, 2], origin_x=x, origin_y=y
    )


def _full_size(volume: Tensor, box_px: int) -> np.ndarray:
    """The map in the particles' own box, on the grey scale whose projections are the images'."""
    return (resize_volumes(volume, box_px) * (volume.shape[-1] / box_px)).cpu().numpy()


def _write(job: Job[Params], rows: pd.DataFrame, volumes: list[np.ndarray], pixel_size: float) -> None:
    for number, volume in enumerate(volumes, start=1):
        own = rows[rows["class_number"] == number]
        folders = [job.folder / f"class_{number}", *([job.folder] if number == 1 else [])]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            write_volume(folder / "map.mrc", volume, pixel_size)
            write_table(folder / "particles.star", own, "particles")


def _report(
    job: Job[Params],
    result: Result,
    order: Tensor,
    volumes: list[np.ndarray],
    pixel_size: float,
    history: list[dict[str, float | int | str]],
    snapshots: Snapshots,
    geometry: Geometry,
) -> None:
    counts = _counts(result)[order].numpy()
    fractions = counts / counts.sum()
    job.metric("particles", len(result.found.classes))
    job.metric("largest_class", 100 * float(fractions[0]), "%")
    job.metric("log_likelihood", float(result.found.log_likelihood.mean()), "per particle")
    job.metric("pose_certainty", 100 * float(result.found.peak.mean()), "%")
    job.metric("best_start_margin", _margin(result), "log-likelihood per particle")
    job.metric("box_extent", geometry.n * geometry.pixel_size, "Å")
    draw_volumes(
        job.figure("volumes", "Volumes", "Central slices and projections of each class along z, y and x, largest class first."),
        volumes, fractions, pixel_size,
    )  # fmt: skip
    caption = "Projection along z of each class at the end of every start, half-way and at the end; a class for the rest is the last row."
    draw_progress(job.figure("progress", "Volumes on the way", caption), snapshots, geometry.pixel_size)
    draw_history(
        job.figure(
            "history",
            "Convergence",
            "Log-likelihood per particle against iteration: every start (grey), those that grew (blue), and the best with angular degrees turned round or a hand drawn (green).",
        ),
        history,
    )
    draw_fractions(job.figure("classes", "Particles per class", "Number of particles of each class after the last full pass."), counts)


def _margin(result: Result) -> float:
    """How much better the best start explains the particles than the next one."""
    ranked = sorted(result.evidences, reverse=True)
    return ranked[0] - ranked[1] if len(ranked) > 1 else float("nan")
