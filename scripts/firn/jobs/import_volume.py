"""Bring a map, its half maps and a mask into the session."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_like, read_volume
from firn.report.volumes import draw_slices
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind

NAMES = ("map", "half1", "half2", "mask")


class Params(JobParams):
    """Read a map, half maps or a mask (MRC, also packed as gz, bz2 or xz), check that they are cubes that fit together, and offer them to other jobs."""

    stage: ClassVar[str] = "import"
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "mask")
    map: str | None = None
    """File of the map; without one, the mean of the half maps is the map."""
    half1: str | None = None
    """File of the first unfiltered half map."""
    half2: str | None = None
    """File of the second unfiltered half map."""
    mask: str | None = None
    """File of a mask with values between 0 and 1."""
    pixel_size: float | None = Field(None, gt=0)
    """Å. Overrides the pixel size in the headers."""


def run(job: Job[Params]) -> None:
    """Read, check, write under the fixed names."""
    volumes, pixel_size = _read_all(job.params)
    if "map" not in volumes and "half1" in volumes:
        volumes["map"] = (volumes["half1"] + volumes["half2"]) / 2
    if "mask" in volumes and (volumes["mask"].min() < -0.01 or volumes["mask"].max() > 1.01):
        low, high = volumes["mask"].min(), volumes["mask"].max()
        raise InputError(f"{job.params.mask}: has values from {low:.3g} to {high:.3g}, but a mask has values from 0 to 1")
    for name, volume in volumes.items():
        write_volume(job.folder / f"{name}.mrc", volume, pixel_size)
    _describe(job, volumes, pixel_size)


def _read_all(params: Params) -> tuple[dict[str, np.ndarray], float]:
    files = {name: getattr(params, name) for name in NAMES if getattr(params, name)}
    if not files:
        raise InputError("import_volume: names no file; give map, half1 and half2, or mask")
    if ("half1" in files) != ("half2" in files):
        raise InputError("import_volume: half maps come in pairs; give both half1 and half2, or neither")
    lead, *rest = files
    first, found = read_volume(files[lead])
    pixel_size = params.pixel_size or found
    if pixel_size <= 0:
        raise InputError(f"{files[lead]}: names no pixel size in its header; give pixel_size")
    others = {name: read_like(files[name], first.shape[0], found or pixel_size) for name in rest}
    return {lead: first, **others}, pixel_size


def _describe(job: Job[Params], volumes: dict[str, np.ndarray], pixel_size: float) -> None:
    shown = volumes.get("map", volumes.get("mask"))
    assert shown is not None
    job.metric("box", shown.shape[0], "px")
    job.metric("pixel_size", pixel_size, "Å")
    if "half1" in volumes and np.array_equal(volumes["half1"], volumes["half2"]):
        job.warn("The two half maps are the same: their FSC will be 1 and mean nothing.")
    what = ", ".join(Path(getattr(job.params, name) or f"{name}.mrc").name for name in volumes)
    caption = f"Central slices of what was imported ({what})."
    draw_slices(job.figure("slices", "Imported volume", caption), shown, pixel_size, volumes.get("mask") if "map" in volumes else None)
