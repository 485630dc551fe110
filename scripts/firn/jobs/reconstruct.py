"""Reconstruct a map and its half maps from particles whose poses are known."""

import math
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.posed_particles import given_poses, load_posed, read_posed
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.particles import common_box
from firn.formats.poses import read_angles, with_poses
from firn.formats.tables import write_table
from firn.formats.volumes import read_like
from firn.kernels.box import mirror
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.rotation import euler_matrices, matrix_angles
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.given_poses import Backprojection, GivenPoses, mirrored_rotations, predicted_memory
from firn.refine.maximisation import falling, filtered_map, full_correlation, unfiltered_map
from firn.refine.validation import automatic_mask, corrected_curves, spherical_mask
from firn.report.postprocess import draw_fsc
from firn.report.refine import draw_directions
from firn.report.volumes import draw_slices, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

BATCH = 128
CURVES = ("unmasked", "spherical", "loose", "tight", "corrected")
THRESHOLD = 0.143


class Params(JobParams):
    """Put particles together in the poses they have, without searching; half-sets are kept apart, so their FSC is that of the poses' job."""

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")
    particles: str = slot("particles")
    """Particles with poses."""
    mask: str | None = slot("mask", optional=True)
    """Mask for the FSC; none = made from the half maps."""
    symmetry: str = "C1"
    """Point group: Cn, Dn, T, O, I, I1 ... I4, with RELION's axes."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Finest detail of the maps; none = Nyquist."""
    flip_hand: bool = False
    """Mirror the maps in z, and change the poses so that they fit the mirrored map."""
    loose: tuple[float, float] = (25.0, 40.0)
    """Å. Distances from the molecule where the loose mask starts to fall and where it ends."""
    tight: tuple[float, float] = (6.0, 12.0)
    """Å. Distances from the molecule where the tight mask starts to fall and where it ends."""


class _Maps(NamedTuple):
    first: Tensor
    second: Tensor
    mask: Tensor
    curves: dict[str, Tensor]
    combined: Tensor
    pixel_size: float


def run(job: Job[Params]) -> None:
    """Read the images once, add them up by half-set, measure, write."""
    table = read_posed(job.input("particles", "particles.star"))
    _check_halves(job, table)
    side, pixel_size = common_box(table)
    poses, angles = given_poses(table, pixel_size), read_angles(table, "particles")
    radius = _radius(job, side, pixel_size)
    job.progress.note(particles=len(table), box=side, memory_mb=round(predicted_memory(side, 2) / 2**20))
    sums = _back_project(job, table, poses, side, radius)
    maps = _measure(job, sums, side, radius, pixel_size)
    _write(job, maps)
    if job.params.flip_hand:
        angles = matrix_angles(mirrored_rotations(euler_matrices(torch.tensor(angles)))).numpy()
    write_table(job.folder / "particles.star", with_poses(table, angles), "particles")
    _report(job, maps, angles)


def _check_halves(job: Job[Params], table: pd.DataFrame) -> None:
    counts = [int((table["half"] == half).sum()) for half in (1, 2)]
    if min(counts) < 1 or sum(counts) != len(table):
        raise InputError(f"job {job.name}: the half-sets hold {counts[0]} and {counts[1]} of {len(table)} particles; both need some")


def _radius(job: Job[Params], side: int, pixel_size: float) -> float:
    finest = job.params.max_resolution or 2 * pixel_size
    if finest < 2 * pixel_size:
        raise InputError(f"job {job.name}: max_resolution {finest:g} Å is finer than two pixels ({2 * pixel_size:g} Å)")
    return min((side - 1) / 2, side * pixel_size / finest)


def _back_project(job: Job[Params], table: pd.DataFrame, poses: GivenPoses, side: int, radius: float) -> list[tuple[Tensor, Tensor]]:
    """Completed, symmetrised Fourier sums of both half-sets."""
    parts = [Backprojection(side, radius, job.device) for _ in (1, 2)]
    half = torch.tensor(table["half"].to_numpy(np.int64))
    for rows in job.over(np.array_split(np.arange(len(table)), math.ceil(len(table) / BATCH)), "batches of particles"):
        batch = load_posed(table, poses, rows, parts[0].disc, job.device)
        for number, part in enumerate(parts, start=1):
            part.add(batch[(half[torch.tensor(rows)] == number).to(job.device)])
    operators = symmetry_matrices(job.params.symmetry).float().to(job.device)
    return [part.completed(operators) for part in parts]


def _measure(job: Job[Params], sums: list[tuple[Tensor, Tensor]], side: int, radius: float, pixel_size: float) -> _Maps:
    turned = mirror if job.params.flip_hand else _unchanged
    first, second = (turned(unfiltered_map(part, side, radius)) for part in sums)
    if job.has("mask"):
        mask = torch.tensor(read_like(job.input("mask", "mask.mrc"), side, pixel_size), device=job.device)
    else:
        mask = automatic_mask(first, second, pixel_size, *job.params.tight)
        mask = mask if bool((mask > 0).any()) else spherical_mask(side, pixel_size, device=job.device)
    curves = corrected_curves(first, second, mask, job.generator("phases"))
    loose = automatic_mask(first, second, pixel_size, *job.params.loose)
    for name, other in (("spherical", spherical_mask(side, pixel_size, device=job.device)), ("loose", loose)):
        curves[name] = fsc(first * other, second * other)
    total = (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
    combined = filtered_map(total, side, radius, full_correlation(falling(curves["corrected"])))
    return _Maps(first, second, mask, curves, turned(combined), pixel_size)


def _unchanged(volume: Tensor) -> Tensor:
    return volume


def _write(job: Job[Params], maps: _Maps) -> None:
    for name, volume in (("half1", maps.first), ("half2", maps.second), ("map", maps.combined), ("mask", maps.mask)):
        write_volume(job.folder / f"{name}.mrc", volume.cpu().numpy(), maps.pixel_size)
    table = fsc_table({name: curve.cpu().numpy() for name, curve in maps.curves.items()}, maps.first.shape[0], maps.pixel_size)
    write_fsc(job.folder / "fsc.star", table)


def _report(job: Job[Params], maps: _Maps, angles: np.ndarray) -> None:
    side, pixel_size = maps.first.shape[0], maps.pixel_size
    resolutions = {name: resolution_at(maps.curves[name], THRESHOLD, pixel_size, side) for name in CURVES}
    for name in ("corrected", "tight", "unmasked"):
        job.metric(f"resolution_{name}", resolutions[name], "Å")
    job.metric("particles", len(angles))
    if resolutions["corrected"] < 1.05 * 2 * pixel_size:
        job.warn(f"The FSC reaches Nyquist ({2 * pixel_size:.2f} Å): extract with smaller pixels to see how far the map goes.")
    table = fsc_table({name: curve.cpu().numpy() for name, curve in maps.curves.items()}, side, pixel_size)
    caption = (
        "Agreement of the two half maps by resolution. The corrected curve is the one to quote, read at 0.143; it is honest as far as the "
        "two half-sets never met while their poses were found."
    )
    draw_fsc(job.figure("fsc", "Fourier shell correlation", caption), table, resolutions, THRESHOLD)
    volume, mask = maps.combined.cpu().numpy(), maps.mask.cpu().numpy()
    caption = "Central slices of the map from all particles, weighted by its signal-to-noise ratio; the orange line is the mask's edge."
    draw_slices(job.figure("slices", "Map", caption), volume, pixel_size, mask)
    caption = "Surface of the map, unsharpened, seen along the three axes."
    draw_surfaces(job.figure("surface", "Surface", caption), volume * mask, surface_level(volume, mask))
    caption = "Viewing directions of the particles. Empty regions make resolution depend on direction."
    draw_directions(job.figure("directions", "Viewing directions", caption), angles[:, 0], angles[:, 1])
