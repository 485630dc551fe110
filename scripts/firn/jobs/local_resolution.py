"""Estimate the resolution at every place of a map from its half maps."""

import shutil
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_independent_halves
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.local_resolution import band_frequencies, filter_locally, local_frequencies, local_fsc, resized, window_sigma
from firn.refine.validation import automatic_mask
from firn.report.local_resolution import draw_coloured_slices, draw_coloured_surfaces, draw_resolutions
from firn.report.volumes import surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

COARSEST_PART = 4
"""The coarsest resolution is at most the box by this."""
BYTES_PER_VOXEL = 80


class Params(JobParams):
    """Correlate the half maps in small windows, band by band, and read at each place where the correlation falls below a threshold."""

    stage: ClassVar[str] = "postprocess"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map with its two unfiltered half maps."""
    mask: str | None = slot("mask", optional=True)
    """Mask within which to measure; none = made from the half maps."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Local FSC at which the resolution is read."""
    window: float = Field(4.0, ge=2, le=20)
    """Width of a window in units of the resolution it tests; wide ones are smooth, narrow ones local but noisy."""
    step: int = Field(2, ge=1, le=8)
    """px. Spacing of the windows; between them the resolution is interpolated."""
    coarsest: float = Field(40.0, gt=0)
    """Å. Worst resolution told apart; a quarter of the box if that is less."""
    near: float = Field(6.0, ge=0)
    """Å from the molecule where a mask made here starts to fall."""
    far: float = Field(12.0, gt=0)
    """Å from the molecule where a mask made here ends."""


def run(job: Job[Params]) -> None:
    """Read, measure band by band, write."""
    first, second, pixel_size = read_independent_halves(job.input("volume"))
    n = first.shape[0]
    job.progress.note(box=n, memory_mb=round(BYTES_PER_VOXEL * n**3 / 2**20))
    halves = torch.tensor(first, device=job.device), torch.tensor(second, device=job.device)
    mask = _mask(job, *halves, pixel_size)
    frequencies = local_frequencies(_curves(job, halves, mask, pixel_size), job.params.threshold)
    resolution = pixel_size / resized(frequencies, n)
    local = torch.where(mask > 0.01, resolution, resolution.max()).cpu().numpy()
    write_volume(job.folder / "local_resolution.mrc", local, pixel_size)
    write_volume(job.folder / "mask.mrc", mask.cpu().numpy(), pixel_size)
    mean = (halves[0] + halves[1]) / 2
    _hand_on(job, mean.cpu().numpy(), pixel_size)
    overall = resolution_at(fsc(halves[0] * mask, halves[1] * mask), job.params.threshold, pixel_size, n)
    filtered = filter_locally(mean, pixel_size / torch.tensor(local, device=job.device))
    _report(job, filtered.cpu().numpy(), local, mask.cpu().numpy(), overall, pixel_size)


def _mask(job: Job[Params], first: Tensor, second: Tensor, pixel_size: float) -> Tensor:
    if job.has("mask"):
        mask = given_mask(job, first.shape[0], pixel_size)
    else:
        mask = automatic_mask(first, second, pixel_size, job.params.near, job.params.far)
    if not bool((mask > 0.5).any()):
        raise InputError(f"{job.input('mask', 'mask.mrc') if job.has('mask') else job.input('volume')}: the mask is empty")
    return mask


def _curves(job: Job[Params], halves: tuple[Tensor, Tensor], mask: Tensor, pixel_size: float) -> Iterator[tuple[float, Tensor]]:
    """(frequency, local correlation) from coarse to fine; only one band is held at a time."""
    n, p = mask.shape[0], job.params
    coarsest = min(p.coarsest, n * pixel_size / COARSEST_PART)
    if coarsest <= 2 * pixel_size:
        raise InputError(f"job {job.name}: coarsest {coarsest:g} Å must be coarser than two pixels ({2 * pixel_size:g} Å)")
    spectra = rfft3(halves[0]), rfft3(halves[1])
    coarse_mask = resized(mask, max(n // p.step, 8))
    for frequency in job.over(band_frequencies(pixel_size / coarsest, 0.5), "bands"):
        yield frequency, local_fsc(*spectra, coarse_mask, frequency, window_sigma(frequency, p.window, n))


def _hand_on(job: Job[Params], mean: np.ndarray, pixel_size: float) -> None:
    for name in ("half1.mrc", "half2.mrc"):
        shutil.copyfile(job.input("volume", name), job.folder / name)
    if job.input("volume", "map.mrc").exists():
        shutil.copyfile(job.input("volume", "map.mrc"), job.folder / "map.mrc")
    else:
        write_volume(job.folder / "map.mrc", mean, pixel_size)


def _report(job: Job[Params], volume: np.ndarray, local: np.ndarray, mask: np.ndarray, overall: float, pixel_size: float) -> None:
    inside = local[mask > 0.5]
    best, median, worst = (float(value) for value in np.percentile(inside, [5, 50, 95]))
    for name, value in (("median", median), ("best", best), ("worst", worst)):
        job.metric(f"local_resolution_{name}", value, "Å")
    if float((inside < 1.05 * 2 * pixel_size).mean()) > 0.1:
        job.warn(f"A part of the map reaches Nyquist ({2 * pixel_size:.2f} Å): extract with smaller pixels to see how far it goes.")
    limits = (best, max(worst, 1.05 * best))
    threshold = job.params.threshold
    caption = f"Central slices of the map, filtered at its local resolution, coloured by local resolution (FSC {threshold:g}) inside the mask, grey outside."
    draw_coloured_slices(job.figure("slices", "Local resolution", caption), volume, local, mask, limits)
    caption = "Surface of the map coloured by local resolution. Colours run over the middle nine tenths of the values."
    surface = job.figure("surface", "Local resolution on the surface", caption)
    draw_coloured_surfaces(surface, volume * mask, local, surface_level(volume, mask), limits)
    caption = (
        "Share of the voxels inside the mask by local resolution; the dashed line is the masked FSC of the whole map at the same threshold."
    )
    draw_resolutions(job.figure("histogram", "Distribution", caption), inside, median, overall)
