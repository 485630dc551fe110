"""Particles in known poses, compared with half maps: what CTF refinement measures from.

What is found for single particles comes from their own half-set's map, so that the halves stay apart. A number shared by thousands of
particles of both half-sets comes from the other half-set's map: an image's own noise is in its own half's map and would hold every phase near
zero, where half of the map's power is noise to half of its size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.families.posed_particles import given_poses, load_posed
from firn.formats.particles import common_box
from firn.formats.volumes import read_halves
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.fsc import resolution_at
from firn.kernels.grid import FourierDisc, fourier_disc, shell_sums
from firn.kernels.project import prepare_volume, project_points
from firn.refine.given_poses import GivenPoses, PosedImages, centred_spectra
from firn.refine.maximisation import falling
from firn.refine.state import on_disc
from firn.refine.subtraction import grey_factor, modelled, shell_filtered
from firn.refine.validation import automatic_mask, corrected_curves
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

BATCH = 64
FITTED = 512
"""Particles of each half-set from which grey scale and noise are measured."""


class ComparisonParams(JobParams):
    """Parameters of jobs that compare particles with their half maps."""

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    sought: ClassVar[str]
    particles: str = slot("particles")
    """Particles with poses."""
    volume: str = slot("volume")
    """Map with half maps from these poses."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the half maps; none = one made from them."""
    min_resolution: float = Field(gt=0)
    """Å. Coarsest detail used."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Finest detail used; none = where the corrected FSC of the half maps falls to 0.143."""


P = TypeVar("P", bound=ComparisonParams)


@dataclass(frozen=True)
class HalfSet:
    """The particles of one half-set with a prepared half map, on a band of frequencies."""

    table: pd.DataFrame
    poses: GivenPoses
    prepared: Tensor
    disc: FourierDisc
    rows: np.ndarray

    def batches(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of the table, some at a time."""
        return np.array_split(rows, -(-len(rows) // BATCH))

    def load(self, rows: np.ndarray) -> tuple[PosedImages, Tensor]:
        """(what is known of some images, their spectra on the disc)."""
        batch = load_posed(self.table, self.poses, rows, self.disc, self.prepared.device)
        return batch, on_disc(centred_spectra(batch.images, batch.shifts), self.disc)

    def factor(self, sample: np.ndarray) -> float:
        """Grey scale of the images in units of the map."""
        return grey_factor(self.prepared, (self.load(rows)[0] for rows in self.batches(sample)), self.disc)

    def noise(self, sample: np.ndarray, factor: float) -> Tensor:
        """Variance of the coefficients of images `(m,)`, the same within a shell, from what the model leaves."""
        count, left = int(self.disc.shells.max()) + 1, torch.zeros_like(self.disc.weights)
        for rows in self.batches(sample):
            batch, images = self.load(rows)
            left += (images - factor * modelled(self.prepared, batch, self.disc)).abs().square().sum(0) / len(sample)
        numbers = shell_sums(torch.ones_like(left), self.disc.shells, count)
        return (shell_sums(left, self.disc.shells, count) / numbers.clamp(min=1))[self.disc.shells]

    def projections(self, rows: np.ndarray, rotations: Tensor, factor: float, offset: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Projections `(b, m)` on the grey scale of each image, without CTF, at the disc's points moved by an offset yx (units of 1/n)."""
        scale = factor * self.poses.scale[rows].to(rotations.device, torch.float32)[:, None]
        return scale * project_points(self.prepared, rotations, self.disc.points + self.disc.points.new_tensor(offset))

    def phase(self, rows: np.ndarray) -> Tensor:
        """chi `(b, m)` of some images."""
        return self.poses.optics.phase(torch.tensor(rows), self.disc.points, self.poses.pixel_size, self.side)

    @property
    def side(self) -> int:
        """Pixels along a side of an image."""
        return self.prepared.shape[0] // 2

    @property
    def frequencies(self) -> Tensor:
        """The disc's points yx in 1/Å."""
        return self.disc.points / (self.side * self.poses.pixel_size)


@dataclass(frozen=True)
class Comparison:
    """Both half maps ready for projection, the band of frequencies, and its finest resolution in Å."""

    prepared: list[Tensor]
    disc: FourierDisc
    finest: float

    @property
    def side(self) -> int:
        """Pixels along a side of an image."""
        return self.prepared[0].shape[0] // 2

    def half_sets(self, table: pd.DataFrame, pixel_size: float, crossed: bool = False) -> Iterator[tuple[int, HalfSet]]:
        """(number, particles) of the half-sets that hold some, with the map of their own half-set, or crossed, of the other."""
        poses = given_poses(table, pixel_size)
        for number, prepared in enumerate(self.prepared[::-1] if crossed else self.prepared, start=1):
            rows = np.flatnonzero(table["half"].to_numpy() == number)
            if len(rows):
                yield number, HalfSet(table, poses, prepared, self.disc, rows)


def compare_with_halves(job: Job[P], table: pd.DataFrame) -> tuple[Comparison, float]:
    """(what the particles are compared with, their pixel size); raises InputError when maps and particles do not fit."""
    side, pixel_size = common_box(table)
    prepared, finest = _references(job, side, pixel_size)
    return Comparison(prepared, _band(job, side, pixel_size, finest), finest), pixel_size


def grey_and_noise(job: Job[P], half: HalfSet, number: int) -> tuple[float, Tensor]:
    """(grey scale of the images in units of the half map, their noise variance `(m,)`), from a sample of a half-set."""
    sample = np.sort(job.numpy_generator(f"noise {number}").permutation(half.rows)[:FITTED])
    factor = half.factor(sample)
    return factor, half.noise(sample, factor)


def _references(job: Job[P], side: int, pixel_size: float) -> tuple[list[Tensor], float]:
    """(prepared spectra of the masked, FSC-weighted half maps; finest resolution in Å to use)."""
    first, second, own = read_halves(job.input("volume"))
    if first.shape[0] != side or abs(own - pixel_size) > 0.01 * pixel_size:
        raise InputError(
            f"{job.input('volume')}: its maps have {first.shape[0]} px of {own:g} Å, but the particles have {side} px of {pixel_size:g} Å"
        )
    halves = torch.tensor(first, device=job.device), torch.tensor(second, device=job.device)
    mask = given_mask(job, side, pixel_size) if job.has("mask") else automatic_mask(*halves, pixel_size, 6.0, 12.0)
    if not bool((mask > 0).any()):
        raise InputError(f"job {job.name}: the mask is empty")
    curve = corrected_curves(*halves, mask, job.generator("phases"))["corrected"]
    weights = falling(curve).clamp(0, 1)
    finest = job.params.max_resolution or resolution_at(curve, 0.143, pixel_size, side)
    prepared = [prepare_volume(irfft3(shell_filtered(rfft3(half), weights), (side, side, side)) * mask) for half in halves]
    return prepared, finest


def _band(job: Job[P], side: int, pixel_size: float, finest: float) -> FourierDisc:
    """Points of the disc between the coarsest and the finest resolution."""
    disc = fourier_disc(side, min((side - 1) / 2, side * pixel_size / finest), job.device)
    kept = disc.points.norm(dim=-1) >= side * pixel_size / job.params.min_resolution
    if int(kept.sum()) < 50:
        raise InputError(
            f"job {job.name}: from {job.params.min_resolution:g} to {finest:.1f} Å there is too little to find {job.params.sought} from"
        )
    return FourierDisc(disc.points[kept], disc.index[kept], disc.weights[kept], disc.shells[kept])
