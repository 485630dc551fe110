"""Refine the defocus of single particles against the half map of their own half-set."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from firn.families.compared_particles import ComparisonParams, HalfSet, compare_with_halves, grey_and_noise
from firn.families.posed_particles import read_posed
from firn.formats.tables import write_table
from firn.kernels.ctf import wavelength
from firn.refine.defocus import Evidence, best_offsets, offset_grid, prior_spread
from firn.report.defocus import draw_offsets
from firn.runtime.job import Job


class Params(ComparisonParams):
    """Find how far each particle lies above or below its micrograph's defocus, by comparing its image with the map in its pose.

    Each particle is compared with the half map of its own half-set, so that the halves stay apart. Images that tell nothing keep
    their defocus.
    """

    sought: ClassVar[str] = "a defocus"
    defocus_range: float = Field(2000.0, gt=0)
    """Å. Largest change of defocus."""
    min_resolution: float = Field(20.0, gt=0)
    """Å. Coarsest detail used; what is coarser hardly depends on defocus."""


def run(job: Job[Params]) -> None:
    """Prepare both half maps, measure grey scale and noise, then find each particle's offset."""
    table = read_posed(job.input("particles", "particles.star"))
    comparison, pixel_size = compare_with_halves(job, table)
    offsets, errors = torch.zeros(len(table)), torch.zeros(len(table))
    for number, half in comparison.half_sets(table, pixel_size):
        offsets[half.rows], errors[half.rows], spread = _one_half(job, half, number)
        job.metric(f"prior_half{number}", spread, "Å")
    moved = {name: table[name] + offsets.numpy() for name in ("defocus_u", "defocus_v")}
    write_table(job.folder / "particles.star", table.assign(**moved, defocus_change=offsets.numpy()), "particles")
    _report(job, offsets.numpy(), errors.numpy(), comparison.finest)


def _evidence(half: HalfSet, rows: np.ndarray, factor: float, noise: Tensor) -> Evidence:
    """What some images say of their defocus."""
    batch, images = half.load(rows)
    model = half.projections(rows, batch.rotations, factor)
    weights = half.disc.weights / noise
    rate = torch.pi * wavelength(half.poses.optics.voltage_kv[rows]).to(images.device)[:, None] * half.frequencies.square().sum(-1)
    cross = weights * (images.real * model.real + images.imag * model.imag)
    return Evidence(cross, weights * model.abs().square(), half.phase(rows), rate.float())


def _one_half(job: Job[Params], half: HalfSet, number: int) -> tuple[Tensor, Tensor, float]:
    """(offsets, standard errors, width of the prior) in Å of a half-set."""
    factor, noise = grey_and_noise(job, half, number)
    batches = half.batches(half.rows)
    finest = _evidence(half, half.rows[:1], factor, noise).rate.max()
    grid = offset_grid(job.params.defocus_range, float(finest)).to(job.device)
    seen = [
        _evidence(half, rows, factor, noise).log_likelihood(grid.expand(len(rows), -1))
        for rows in job.over(batches, f"particles of half {number}, grid")
    ]
    spread = prior_spread(torch.cat(seen), grid)
    found = [
        best_offsets(_evidence(half, rows, factor, noise), scores, grid, spread)
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
