"""Reconstruction from known poses: the parameters all such jobs share, and how a set of particles becomes maps on disk."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.families.memory_needs import reconstruction_needs
from firn.families.posed_particles import given_poses, load_posed
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.particles import common_box
from firn.formats.poses import read_angles, with_poses
from firn.formats.tables import write_table
from firn.kernels.backproject import reconstruct, shell_weights
from firn.kernels.box import mirror
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.rotation import euler_matrices, matrix_angles
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.given_poses import Backprojection, GivenPoses, mirrored_rotations
from firn.refine.maximisation import falling, filtered_map, full_correlation
from firn.refine.validation import automatic_mask, corrected_curves, spherical_mask
from firn.runtime.job import Job
from firn.runtime.memory_room import expect
from firn.runtime.params import JobParams, Lane, slot

BATCH = 128
THRESHOLD = 0.143
RIDGE = 0.1
"""Part of a shell's mean weight that is added to every weight of half maps: where few images fall, noise would be amplified."""


class ReconstructionParams(JobParams):
    """Parameters of every reconstruction from known poses."""

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    revision: ClassVar[int] = 2
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


P = TypeVar("P", bound=ReconstructionParams)


@dataclass(frozen=True)
class Reconstruction:
    """Unfiltered half maps, mask, correlations and the filtered map of all; angles (rot, tilt, psi) `(n, 3)` that fit them."""

    first: Tensor
    second: Tensor
    mask: Tensor
    curves: dict[str, Tensor]
    combined: Tensor
    pixel_size: float
    angles: np.ndarray

    def resolution(self, curve: str) -> float:
        """Å. Where a curve falls below 0.143."""
        return resolution_at(self.curves[curve], THRESHOLD, self.pixel_size, self.first.shape[0])

    def table(self) -> pd.DataFrame:
        """All curves by shell."""
        return fsc_table({name: curve.cpu().numpy() for name, curve in self.curves.items()}, self.first.shape[0], self.pixel_size)


def reconstruct_table(job: Job[P], table: pd.DataFrame, folder: Path) -> Reconstruction:
    """Read the images of a table once, add them up by half-set, measure, and write maps, mask, FSC and particles below a folder."""
    halves_held(job, table)
    side, pixel_size = common_box(table)
    poses, angles = given_poses(table, pixel_size), read_angles(table, "particles")
    radius = _radius(job, side, pixel_size)
    expect(job, reconstruction_needs(len(table), side, radius))
    sums = _back_project(job, table, poses, side, radius)
    if job.params.flip_hand:
        angles = matrix_angles(mirrored_rotations(euler_matrices(torch.tensor(angles)))).numpy()
    made = _measure(job, sums, radius, side, pixel_size, angles)
    for name, volume in (("half1", made.first), ("half2", made.second), ("map", made.combined), ("mask", made.mask)):
        write_volume(folder / f"{name}.mrc", volume.cpu().numpy(), pixel_size)
    write_fsc(folder / "fsc.star", made.table())
    write_table(folder / "particles.star", with_poses(table, angles), "particles")
    return made


def halves_held(job: Job[P], table: pd.DataFrame) -> None:
    """Raise InputError unless every particle belongs to a half-set and both have some."""
    counts = [int((table["half"] == half).sum()) for half in (1, 2)]
    if min(counts) < 1 or sum(counts) != len(table):
        raise InputError(f"job {job.name}: the half-sets hold {counts[0]} and {counts[1]} of {len(table)} particles; both need some")


def _radius(job: Job[P], side: int, pixel_size: float) -> float:
    finest = job.params.max_resolution or 2 * pixel_size
    if finest < 2 * pixel_size:
        raise InputError(f"job {job.name}: max_resolution {finest:g} Å is finer than two pixels ({2 * pixel_size:g} Å)")
    return min((side - 1) / 2, side * pixel_size / finest)


def _back_project(job: Job[P], table: pd.DataFrame, poses: GivenPoses, side: int, radius: float) -> list[tuple[Tensor, Tensor]]:
    """Completed, symmetrised Fourier sums of both half-sets."""
    parts = [Backprojection(side, radius, job.device) for _ in (1, 2)]
    half = torch.tensor(table["half"].to_numpy(np.int64))
    for rows in job.over(np.array_split(np.arange(len(table)), math.ceil(len(table) / BATCH)), "batches of particles"):
        batch = load_posed(table, poses, rows, parts[0].disc, job.device)
        for number, part in enumerate(parts, start=1):
            part.add(batch[(half[torch.tensor(rows)] == number).to(job.device)])
    operators = symmetry_matrices(job.params.symmetry).float().to(job.device)
    return [part.completed(operators) for part in parts]


def _measure(
    job: Job[P], sums: list[tuple[Tensor, Tensor]], radius: float, side: int, pixel_size: float, angles: np.ndarray
) -> Reconstruction:
    turned = mirror if job.params.flip_hand else _unchanged
    first, second = (turned(_half_map(part, side, radius)) for part in sums)
    if job.has("mask"):
        mask = given_mask(job, side, pixel_size)
    else:
        mask = automatic_mask(first, second, pixel_size, *job.params.tight)
        mask = mask if bool((mask > 0).any()) else spherical_mask(side, pixel_size, device=job.device)
    curves = corrected_curves(first, second, mask, job.generator("phases"))
    loose = automatic_mask(first, second, pixel_size, *job.params.loose)
    for name, other in (("spherical", spherical_mask(side, pixel_size, device=job.device)), ("loose", loose)):
        curves[name] = fsc(first * other, second * other)
    total = (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])
    combined = filtered_map(total, side, radius, full_correlation(falling(curves["corrected"])))
    return Reconstruction(first, second, mask, curves, turned(combined), pixel_size, angles)


def _half_map(sums: tuple[Tensor, Tensor], side: int, radius: float) -> Tensor:
    """Map of one half-set, unfiltered: the ridge takes nothing off where a shell's weights are even."""
    return (1 + RIDGE) * reconstruct(*sums, side, prior=RIDGE * shell_weights(sums[1], side), radius=radius)


def _unchanged(volume: Tensor) -> Tensor:
    return volume
