"""Make a soft mask from a map."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.kernels.filter import low_pass_volume
from firn.kernels.mask import mask_from_map, solvent_threshold
from firn.report.postprocess import draw_histogram
from firn.report.volumes import draw_slices
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, slot


class Params(JobParams):
    """Low-pass a map, take what is denser than a threshold, fill its holes, grow it and soften its edge."""

    stage: ClassVar[str] = "postprocess"
    offers: ClassVar[tuple[Kind, ...]] = ("mask",)
    volume: str = slot("volume")
    """Map to mask."""
    threshold: float | None = None
    """Density of the low-passed map at the molecule's surface; none = found from the densities of molecule and solvent."""
    low_pass: float = Field(15.0, gt=0)
    """Å. Resolution the map is low-passed to before the threshold."""
    dilate: float = Field(6.0, ge=0)
    """Å. How far the mask reaches beyond the surface."""
    soft_edge: float = Field(12.0, ge=0)
    """Å. Width of the cosine edge beyond that."""
    components: int | None = Field(1, ge=1)
    """How many separate pieces to keep, the largest first; none = all."""


def run(job: Job[Params]) -> None:
    """Filter, threshold, soften, write."""
    p = job.params
    volume, pixel_size = read_volume(job.input("volume", "map.mrc"))
    smooth = low_pass_volume(torch.tensor(volume, device=job.device), pixel_size, max(p.low_pass, 2 * pixel_size))
    threshold = solvent_threshold(smooth) if p.threshold is None else p.threshold
    if not bool((smooth > threshold).any()):
        raise InputError(
            f"{job.input('volume', 'map.mrc')}: nothing is denser than the threshold {threshold:.4g}; the densest voxel has {float(smooth.max()):.4g}"
        )
    mask = mask_from_map(smooth, threshold, p.dilate / pixel_size, p.soft_edge / pixel_size, p.components).cpu().numpy()
    write_volume(job.folder / "mask.mrc", mask, pixel_size)
    _describe(job, volume, smooth.cpu().numpy(), mask, threshold, pixel_size)


def _describe(job: Job[Params], volume: np.ndarray, smooth: np.ndarray, mask: np.ndarray, threshold: float, pixel_size: float) -> None:
    fraction = float(mask.mean())
    job.metric("mask_volume", float(mask.sum()) * (pixel_size / 10) ** 3, "nm³")
    job.metric("threshold", threshold)
    job.metric("mask_fraction", fraction)
    rim = [np.take(mask, end, axis).max() for axis in range(3) for end in (0, -1)]
    if max(rim) > 0.01:
        job.warn("The mask touches the edge of the box: the box is too small, or the threshold too low.")
    if fraction > 0.5:
        job.warn(f"The mask covers {fraction:.0%} of the box; look at its outline and raise the threshold if it holds solvent.")
    caption = "Central slices of the map; the orange line is where the mask is one half. It should enclose the molecule with a margin."
    draw_slices(job.figure("slices", "Mask on the map", caption), volume, pixel_size, mask)
    caption = (
        "Densities of the low-passed map: the peak is solvent, its tail to the right the molecule; the mask is made of all beyond the line."
    )
    draw_histogram(job.figure("densities", "Densities and threshold", caption), smooth, threshold)
