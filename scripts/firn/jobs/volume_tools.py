"""Change a map: low-pass, resample, crop or pad, flip the hand, invert."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_like, read_volume
from firn.kernels.box import crop_or_pad, mirror
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import resize_volumes
from firn.report.volumes import draw_slices
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, slot


class Params(JobParams):
    """Change a map in the order of the parameters below; half maps and mask change with it, but are never low-passed or inverted."""

    stage: ClassVar[str] = "postprocess"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map to change."""
    low_pass: float | None = Field(None, gt=0)
    """Å. Resolution to filter the map to."""
    resample_to_px: int | None = Field(None, ge=8, le=2048)
    """px. New side of the same field of view, by cutting or padding in Fourier space; the pixel size changes."""
    box_px: int | None = Field(None, ge=8, le=2048)
    """px. New side of the box at the same pixel size, by cutting or padding with zeros."""
    flip_hand: bool = False
    """Mirror the map. Poses found with the old hand do not fit the new one."""
    invert: bool = False
    """Turn the sign of the map's densities."""


def run(job: Job[Params]) -> None:
    """Read what there is, change it alike, write."""
    p = job.params
    first, pixel_size = read_volume(job.input("volume", "map.mrc"))
    if pixel_size <= 0:
        raise InputError(f"{job.input('volume', 'map.mrc')}: names no pixel size; import it again with pixel_size")
    n = first.shape[0]
    new_pixel_size = pixel_size * n / (p.resample_to_px or n)
    companions = [name for name in ("half1", "half2", "mask") if job.input("volume", f"{name}.mrc").exists()]
    volume = torch.tensor(first, device=job.device)
    if p.low_pass:
        volume = low_pass_volume(volume, pixel_size, p.low_pass)
    changed = _reshape(-volume if p.invert else volume, p)
    write_volume(job.folder / "map.mrc", changed.cpu().numpy(), new_pixel_size)
    for name in companions:
        other = _reshape(torch.tensor(read_like(job.input("volume", f"{name}.mrc"), n, pixel_size), device=job.device), p)
        write_volume(job.folder / f"{name}.mrc", (other.clamp(0, 1) if name == "mask" else other).cpu().numpy(), new_pixel_size)
    job.metric("box", changed.shape[0], "px")
    job.metric("pixel_size", new_pixel_size, "Å")
    draw_slices(job.figure("slices", "Changed map", "Central slices of the map after all changes."), changed.cpu().numpy(), new_pixel_size)


def _reshape(volume: Tensor, p: Params) -> Tensor:
    if p.resample_to_px:
        volume = resize_volumes(volume, p.resample_to_px)
    if p.box_px:
        volume = crop_or_pad(volume, p.box_px)
    return mirror(volume) if p.flip_hand else volume
