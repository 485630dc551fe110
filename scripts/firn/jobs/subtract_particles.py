"""Subtract a part of the map from every particle image."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.aberrations import correct_, record_
from firn.families.map_files import given_mask
from firn.families.posed_particles import given_poses, load_posed, read_posed
from firn.formats.mrc import write_stack, write_volume
from firn.formats.particles import common_box, load_images
from firn.formats.tables import image_names, write_table
from firn.formats.volumes import read_halves
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.grid import FourierDisc, fourier_disc
from firn.kernels.project import prepare_volume
from firn.refine.given_poses import GivenPoses
from firn.refine.maximisation import falling
from firn.refine.subtraction import contributed, grey_factor, shell_filtered
from firn.refine.validation import automatic_mask, corrected_curves
from firn.report.simulate import draw_gallery
from firn.report.volumes import draw_slices
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

BATCH, STACK = 128, 4096
FITTED = 1024
"""Particles of each half-set that the grey scale is fitted to."""
FIT_RESOLUTION = 15.0
SHOWN = 8


class Params(JobParams):
    """Project what a mask holds of the map in each particle's pose, with its CTF and scale, and take it off the image.

    Each half-set is treated with its own half map.
    """

    stage: ClassVar[str] = "refine"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    particles: str = slot("particles")
    """Particles with poses."""
    volume: str = slot("volume")
    """Map with half maps from these poses."""
    mask: str = slot("mask")
    """Mask of what to subtract; the rest of the map stays in the images."""
    fsc_filter: bool = True
    """Weight the half maps by their FSC, so that little of their noise is subtracted."""
    low_pass: float | None = Field(None, gt=0)
    """Å. Subtract only what is coarser; none = all."""
    fit_scale: bool = True
    """Bring the map to the images' grey scale by one factor per half-set; maps of reconstruct and of the refinements have it already."""
    float16: bool = False
    """Write images with half precision, in half the space."""


def run(job: Job[Params]) -> None:
    """Prepare both half maps, then read, subtract and write stack by stack."""
    table = read_posed(job.input("particles", "particles.star"))
    side, pixel_size = common_box(table)
    poses = given_poses(table, pixel_size)
    parts, wholes = _maps(job, side, pixel_size)
    factors = [_factor(job, table, poses, whole, half) for half, whole in enumerate(wholes, start=1)]
    disc = fourier_disc(side, (side - 1) / 2, job.device)
    names: list[str] = []
    for number, start in enumerate(job.over(range(0, len(table), STACK), "stacks"), start=1):
        rows = np.arange(start, min(start + STACK, len(table)))
        batches = np.array_split(rows, -(-len(rows) // BATCH))
        images = np.concatenate([_subtract(job, table, poses, parts, factors, disc, batch) for batch in batches])
        write_stack(job.folder / f"particles_{number:04d}.mrcs", images, pixel_size, job.params.float16)
        names += image_names(job.output_path(f"particles_{number:04d}.mrcs"), len(rows))
        if start == 0:
            _show(job, load_images(table.iloc[:SHOWN]), images[:SHOWN], pixel_size)
    write_table(job.folder / "particles.star", table.assign(image=names, unsubtracted_image=table["image"]), "particles")
    job.metric("particles", len(table))
    for half, factor in enumerate(factors, start=1):
        job.metric(f"grey_factor_half{half}", factor)


def _maps(job: Job[Params], side: int, pixel_size: float) -> tuple[list[Tensor], list[Tensor]]:
    """Prepared spectra of the part to subtract and of the whole map, for each half-set."""
    first, second, own = read_halves(job.input("volume"))
    if first.shape[0] != side or abs(own - pixel_size) > 0.01 * pixel_size:
        raise InputError(
            f"{job.input('volume')}: its maps have {first.shape[0]} px of {own:g} Å, but the particles have {side} px of {pixel_size:g} Å"
        )
    mask = given_mask(job, side, pixel_size)
    halves = torch.tensor(first, device=job.device), torch.tensor(second, device=job.device)
    filtered = list(halves)
    if job.params.fsc_filter:
        loose = automatic_mask(*halves, pixel_size, 6.0, 12.0)
        weights = falling(corrected_curves(*halves, loose, job.generator("phases"))["corrected"]).clamp(0, 1)
        filtered = [irfft3(shell_filtered(rfft3(half), weights), (side, side, side)) for half in halves]
    if job.params.low_pass:
        filtered = [low_pass_volume(half, pixel_size, max(job.params.low_pass, 2 * pixel_size)) for half in filtered]
    _show_mask(job, filtered, mask, pixel_size)
    return [prepare_volume(half * mask) for half in filtered], [prepare_volume(half) for half in filtered]


def _factor(job: Job[Params], table: pd.DataFrame, poses: GivenPoses, whole: Tensor, half: int) -> float:
    """Grey scale of one half-set's images in units of its map."""
    members = np.flatnonzero(table["half"].to_numpy() == half)
    if not job.params.fit_scale or not len(members):
        return 1.0
    chosen = np.sort(job.numpy_generator(f"scale {half}").permutation(members)[:FITTED])
    side = whole.shape[0] // 2
    radius = min((side - 1) / 2, max(side * poses.pixel_size / FIT_RESOLUTION, 4.0))
    disc = fourier_disc(side, radius, job.device)
    batches = np.array_split(chosen, -(-len(chosen) // BATCH))
    return grey_factor(whole, (load_posed(table, poses, part, disc, job.device) for part in batches), disc)


def _subtract(
    job: Job[Params], table: pd.DataFrame, poses: GivenPoses, parts: list[Tensor], factors: list[float], disc: FourierDisc, rows: np.ndarray
) -> np.ndarray:
    """Images of some rows, each less its half-set's map."""
    chosen = table.iloc[rows]
    recorded = load_images(chosen)
    posed = poses.of(torch.tensor(rows), correct_(torch.tensor(recorded, device=job.device), chosen), disc)
    half = torch.tensor(table["half"].to_numpy(np.int64)[rows], device=job.device)
    removed = torch.zeros_like(posed.images)
    for number, (part, factor) in enumerate(zip(parts, factors, strict=True), start=1):
        removed[half == number] = contributed(part, posed[half == number], disc, factor)
    return recorded - record_(removed, chosen).cpu().numpy()


def _show_mask(job: Job[Params], halves: list[Tensor], mask: Tensor, pixel_size: float) -> None:
    volume = ((halves[0] + halves[1]) / 2).cpu().numpy()
    write_volume(job.folder / "subtracted.mrc", volume * mask.cpu().numpy(), pixel_size)
    caption = "Central slices of the map; what lies inside the orange line is subtracted from the images."
    draw_slices(job.figure("slices", "What is subtracted", caption), volume, pixel_size, mask.cpu().numpy())


def _show(job: Job[Params], before: np.ndarray, after: np.ndarray, pixel_size: float) -> None:
    caption = "Eight particles before (above) and after subtraction (below)."
    shown = np.concatenate((before, after))
    draw_gallery(job.figure("particles", "Subtracted particles", caption), shown, pixel_size, [""] * len(shown))
