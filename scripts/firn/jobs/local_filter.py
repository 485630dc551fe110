"""Filter each place of a map at its local resolution."""

import shutil
from typing import ClassVar

import torch
from pydantic import Field

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_like, read_volume
from firn.kernels.local_resolution import filter_locally
from firn.report.volumes import draw_slice_pairs, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Low-pass every voxel at the resolution found there, so that weak parts show no noise and strong parts keep their detail."""

    stage: ClassVar[str] = "postprocess"
    lane: ClassVar[Lane] = "reconstruct"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    volume: str = slot("volume")
    """Map to filter, sharpened or not."""
    resolution: str = slot("volume")
    """A local_resolution job of the same map."""
    b_factor: float = Field(0.0, ge=-2000, le=2000)
    """Å². Negative sharpens before filtering; 0 leaves the map as it is."""
    order: int = Field(8, ge=1, le=32)
    """Order of the Butterworth filter; higher falls more steeply."""
    factor: float = Field(1.0, gt=0.2, le=5)
    """The cut-off is the local resolution times this."""


def run(job: Job[Params]) -> None:
    """Read both maps, filter, write."""
    volume, pixel_size = read_volume(job.input("volume", "map.mrc"))
    path = job.input("resolution", "local_resolution.mrc")
    if not path.exists():
        raise InputError(f"job {job.name}: {path.parent} has no local_resolution.mrc; slot resolution needs a local_resolution job")
    local = read_like(path, volume.shape[0], pixel_size)
    if local.min() <= 0:
        raise InputError(f"{path}: holds a resolution of {local.min():g} Å; all must be positive")
    frequencies = (pixel_size / torch.tensor(local * job.params.factor, device=job.device)).clamp(max=0.5)
    filtered = filter_locally(torch.tensor(volume, device=job.device), frequencies, job.params.order, job.params.b_factor, pixel_size)
    after = filtered.cpu().numpy()
    write_volume(job.folder / "map.mrc", after, pixel_size)
    for folder, name in ((job.input("volume"), "half1.mrc"), (job.input("volume"), "half2.mrc"), (path.parent, "mask.mrc")):
        if (folder / name).exists():
            shutil.copyfile(folder / name, job.folder / name)
    job.metric("finest_cutoff", pixel_size / float(frequencies.max()), "Å")
    caption = "Central slices before and after: weak regions should lose grain, strong ones no detail."
    draw_slice_pairs(job.figure("slices", "Before and after", caption), volume, after, pixel_size, ("before", "filtered"))
    mask = read_like(path.parent / "mask.mrc", volume.shape[0], pixel_size) if (path.parent / "mask.mrc").exists() else None
    caption = "Surface of the locally filtered map, seen along the three axes."
    shown = after if mask is None else after * mask
    draw_surfaces(job.figure("surface", "Locally filtered map", caption), shown, surface_level(after, mask))
