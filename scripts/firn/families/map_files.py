"""Maps, half maps and masks: read, checked against each other, and written under firn's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_like, read_mask, read_volume, require_mask
from firn.report.volumes import draw_slices
from firn.runtime.job import Job


def read_maps(files: Mapping[str, str | Path], given_pixel_size: float | None = None) -> tuple[dict[str, np.ndarray], float]:
    """(maps `(n, n, n)` by firn's name, pixel size in Å) of files by map, half1, half2 and mask; without a map, it is the half maps' mean.

    Raises InputError when they do not fit together, no pixel size is known, or a mask leaves the range from 0 to 1.
    """
    lead, *rest = files
    first, found = read_volume(files[lead])
    pixel_size = given_pixel_size or found
    if pixel_size <= 0:
        raise InputError(f"{files[lead]}: names no pixel size in its header; give pixel_size")
    volumes = {lead: first} | {name: read_like(files[name], first.shape[0], found or pixel_size) for name in rest}
    if "map" not in volumes and "half1" in volumes:
        volumes["map"] = (volumes["half1"] + volumes["half2"]) / 2
    if "mask" in volumes:
        require_mask(volumes["mask"], files["mask"])
    return volumes, pixel_size


def given_mask(job: Job[Any], side: int, pixel_size: float, slot: str = "mask") -> Tensor:
    """The mask in a slot, which must fit to maps of a side and a pixel size and hold something, on the job's device."""
    return torch.tensor(read_mask(job.input(slot, "mask.mrc"), side, pixel_size), device=job.device)


def write_maps(folder: Path, volumes: Mapping[str, np.ndarray], pixel_size: float) -> None:
    """Write each map as `<name>.mrc`."""
    for name, volume in volumes.items():
        write_volume(folder / f"{name}.mrc", volume, pixel_size)


def describe_maps(job: Job[Any], volumes: Mapping[str, np.ndarray], pixel_size: float, files: Mapping[str, str | Path]) -> None:
    """Box, pixel size, and slices of the map, or of a mask alone; a pair of half maps that are one is told."""
    shown = volumes["map"] if "map" in volumes else volumes["mask"]
    job.metric("box", shown.shape[0], "px")
    job.metric("pixel_size", pixel_size, "Å")
    if "half1" in volumes and np.array_equal(volumes["half1"], volumes["half2"]):
        job.warn("The two half maps are the same: their FSC will be 1 and mean nothing.")
    what = ", ".join(Path(files.get(name, f"{name}.mrc")).name for name in volumes)
    caption = f"Central slices of what was imported ({what})."
    draw_slices(job.figure("slices", "Imported volume", caption), shown, pixel_size, volumes.get("mask") if "map" in volumes else None)
