"""Refine the defocus of single particles against the half map of their own half-set."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.posed_particles import given_poses, load_posed, read_posed
from firn.formats.particles import common_box
from firn.formats.tables import write_table
from firn.formats.volumes import read_halves, read_like
from firn.kernels.ctf import ctf_phase, wavelength
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.fsc import resolution_at
from firn.kernels.grid import FourierDisc, fourier_disc, shell_sums
from firn.kernels.project import prepare_volume, project_points
from firn.refine.defocus import Evidence, best_offsets, offset_grid, prior_spread
from firn.refine.given_poses import GivenPoses, PosedImages, centred_spectra
from firn.refine.maximisation import falling
from firn.refine.state import Optics, on_disc
from firn.refine.subtraction import grey_factor, modelled, shell_filtered
from firn.refine.validation import automatic_mask, corrected_curves
from firn.report.defocus import draw_offsets
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

BATCH = 64
FITTED = 512
"""Particles of each half-set from which grey scale and noise are measured."""


class Params(JobParams):
    """Find how far each particle lies above or below its micrograph's defocus, by comparing its image with the map in its pose.

    Each particle is compared with the half map of its own half-set, so that the halves stay apart. Images that tell nothing keep
    their defocus.
    """

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    particles: str = slot("particles")
    """Particles with poses."""
    volume: str = slot("volume")
    """Map with half maps from these poses."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the half maps; none = one made from them."""
    defocus_range: float = Field(2000.0, gt=0)
    """Å. Largest change of defocus."""
    min_resolution: float = Field(20.0, gt=0)
    """Å. Coarsest detail used; what is coarser hardly depends on defocus."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Finest detail used; none = where the corrected FSC of the half maps falls to 0.143."""


def run(job: Job[Params]) -> None:
    """Prepare both half maps, measure grey scale and noise, then find each particle's offset."""
    table = read_posed(job.input("particles", "particles.star"))
    side, pixel_size = common_box(table)
    halves, finest = _references(job, side, pixel_size)
    disc = _band(job, side, pixel_size, finest)
    poses = given_poses(table, pixel_size)
    offsets, errors = torch.zeros(len(table)), torch.zeros(len(table))
    for number, prepared in enumerate(halves, start=1):
        rows = np.flatnonzero(table["half"].to_numpy() == number)
        if len(rows):
            offsets[rows], errors[rows], spread = _one_half(job, HalfSet(table, poses, prepared, disc, rows), number)
            job.metric(f"prior_half{number}", spread, "Å")
    moved = {name: table[name] + offsets.numpy() for name in ("defocus_u", "defocus_v")}
    write_table(job.folder / "particles.star", table.assign(**moved, defocus_change=offsets.numpy()), "particles")
    _report(job, offsets.numpy(), errors.numpy(), finest)


def _references(job: Job[Params], side: int, pixel_size: float) -> tuple[list[Tensor], float]:
    """(prepared spectra of the masked, FSC-weighted half maps; finest resolution in Å to use)."""
    first, second, own = read_halves(job.input("volume"))
    if first.shape[0] != side or abs(own - pixel_size) > 0.01 * pixel_size:
        raise InputError(
            f"{job.input('volume')}: its maps have {first.shape[0]} px of {own:g} Å, but the particles have {side} px of {pixel_size:g} Å"
        )
    halves = torch.tensor(first, device=job.device), torch.tensor(second, device=job.device)
    if job.has("mask"):
        mask = torch.tensor(read_like(job.input("mask", "mask.mrc"), side, pixel_size), device=job.device)
    else:
        mask = automatic_mask(*halves, pixel_size, 6.0, 12.0)
    if not bool((mask > 0).any()):
        raise InputError(f"job {job.name}: the mask is empty")
    curve = corrected_curves(*halves, mask, job.generator("phases"))["corrected"]
    weights = falling(curve).clamp(0, 1)
    finest = job.params.max_resolution or resolution_at(curve, 0.143, pixel_size, side)
    prepared = [prepare_volume(irfft3(shell_filtered(rfft3(half), weights), (side, side, side)) * mask) for half in halves]
    return prepared, finest


def _band(job: Job[Params], side: int, pixel_size: float, finest: float) -> FourierDisc:
    """Points of the disc between the coarsest and the finest resolution."""
    disc = fourier_disc(side, min((side - 1) / 2, side * pixel_size / finest), job.device)
    kept = disc.points.norm(dim=-1) >= side * pixel_size / job.params.min_resolution
    if int(kept.sum()) < 50:
        raise InputError(f"job {job.name}: from {job.params.min_resolution:g} to {finest:.1f} Å there is too little to find a defocus from")
    return FourierDisc(disc.points[kept], disc.index[kept], disc.weights[kept], disc.shells[kept])


@dataclass(frozen=True)
class HalfSet:
    """The particles of one half-set with their prepared half map, on a band of frequencies."""

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

    def evidence(self, rows: np.ndarray, factor: float, noise: Tensor) -> Evidence:
        """What some images say of their defocus."""
        batch, images = self.load(rows)
        scale = factor * self.poses.scale[rows].to(images.device, torch.float32)[:, None]
        model = scale * project_points(self.prepared, batch.rotations, self.disc.points)
        weights = self.disc.weights / noise
        optics = {name: getattr(self.poses.optics, name)[rows].to(images.device) for name in Optics.__dataclass_fields__}
        frequencies = self.disc.points / (batch.images.shape[-1] * self.poses.pixel_size)
        rate = torch.pi * wavelength(optics["voltage_kv"])[:, None] * frequencies.square().sum(-1)
        cross = weights * (images.real * model.real + images.imag * model.imag)
        return Evidence(cross, weights * model.abs().square(), ctf_phase(frequencies, **optics), rate.float())


def _one_half(job: Job[Params], half: HalfSet, number: int) -> tuple[Tensor, Tensor, float]:
    """(offsets, standard errors, width of the prior) in Å of a half-set."""
    sample = np.sort(job.numpy_generator(f"noise {number}").permutation(half.rows)[:FITTED])
    factor = half.factor(sample)
    noise = half.noise(sample, factor)
    batches = half.batches(half.rows)
    finest = half.evidence(half.rows[:1], factor, noise).rate.max()
    grid = offset_grid(job.params.defocus_range, float(finest)).to(job.device)
    seen = [
        half.evidence(rows, factor, noise).log_likelihood(grid.expand(len(rows), -1))
        for rows in job.over(batches, f"particles of half {number}, grid")
    ]
    spread = prior_spread(torch.cat(seen), grid)
    found = [
        best_offsets(half.evidence(rows, factor, noise), scores, grid, spread)
        for rows, scores in zip(job.over(batches, f"particles of half {number}, Newton"), seen, strict=True)
    ]
    offsets, errors = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return offsets, errors, spread


def _report(job: Job[Params], offsets: np.ndarray, errors: np.ndarray, finest: float) -> None:
    job.metric("particles", len(offsets))
    job.metric("finest_resolution", finest, "Å")
    job.metric("change_sd", float(np.std(offsets)), "Å")
    job.metric("median_error", float(np.median(errors)), "Å")
    stuck = float(np.mean(np.abs(offsets) > 0.99 * job.params.defocus_range))
    if stuck > 0.02:
        job.warn(f"{100 * stuck:.0f} % of the particles end at the limit of {job.params.defocus_range:g} Å: raise defocus_range.")
    caption = (
        "Change of defocus of the particles, and its standard error. A narrow error and a wide change mean that particles lie at "
        "different heights in the ice, or that their micrographs' defocus was wrong."
    )
    draw_offsets(job.figure("offsets", "Change of defocus", caption), offsets, errors)
