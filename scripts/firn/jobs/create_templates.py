"""Project a map in evenly spread directions, as templates to pick with."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.formats.mrc import write_stack
from firn.formats.tables import image_names, write_table
from firn.formats.volumes import read_volume
from firn.kernels.fourier import frequencies2, irfft2, resize_volumes
from firn.kernels.project import prepare_volume, project
from firn.kernels.rotation import euler_matrices
from firn.kernels.sampling import spiral_directions
from firn.kernels.templates import low_pass_filter
from firn.report.picks import draw_montage
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

SAMPLING = 4.0
"""Pixels per low-pass period of the templates: templates are interpolated when they are turned."""
SHOWN = 64


class Params(JobParams):
    """Make 2D templates from a map: low-passed projections in directions spread evenly over the sphere."""

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("templates",)

    volume: str = slot("volume")
    """Map to project, protein white."""
    count: int = Field(50, ge=1, le=2000)
    """Directions over the whole sphere."""
    symmetry: str = "C1"
    """Point group of the map; of directions that look the same, one is kept."""
    low_pass: float = Field(20.0, gt=0)
    """Å. Resolution of the templates."""


def run(job: Job[Params]) -> None:
    """Write classes.star and classes.mrcs."""
    params = job.params
    volume, pixel_size = read_volume(job.input("volume", "map.mrc"))
    given = torch.from_numpy(volume).to(job.device)
    n = _side(volume.shape[0], pixel_size, params.low_pass)
    small, small_pixel = resize_volumes(given, n), pixel_size * volume.shape[0] / n
    directions = spiral_directions(params.count, params.symmetry)
    images = _project(small, directions, small_pixel, params.low_pass).cpu().numpy()
    write_stack(job.folder / "classes.mrcs", images, small_pixel)
    table = pd.DataFrame(
        {"class_number": np.arange(1, len(images) + 1), "class_image": image_names(job.output_path("classes.mrcs"), len(images))}
    )
    table = table.assign(
        class_fraction=1 / len(images), class_resolution=params.low_pass, rot=directions[:, 0].numpy(), tilt=directions[:, 1].numpy()
    )
    write_table(job.folder / "classes.star", table, "classes")
    job.metric("templates", len(images))
    job.metric("pixel size", small_pixel, "Å")
    draw_montage(job.figure("templates", "Templates", "Projections of the map in evenly spread directions."), images[:SHOWN], small_pixel)


def _side(n: int, pixel_size: float, low_pass: float) -> int:
    """Even side of the cropped map, SAMPLING pixels per low-pass period, never more than the map's own."""
    wanted = 2 * round(n * pixel_size * SAMPLING / low_pass / 2)
    return n if wanted >= n else max(wanted, 16)


def _project(volume: Tensor, directions: Tensor, pixel_size: float, low_pass: float) -> Tensor:
    """Projections `(d, n, n)` along (rot, tilt) in degrees, with sd 1 over all of them."""
    n = volume.shape[-1]
    angles = torch.cat((directions, torch.zeros_like(directions[:, :1])), dim=-1)
    spectra = project(prepare_volume(volume), euler_matrices(angles).float().to(volume.device), n)
    frequencies = frequencies2((n, n), volume.device).norm(dim=-1) / pixel_size
    images = irfft2(spectra * low_pass_filter(frequencies, low_pass), (n, n))
    return images / images.std().clamp(min=1e-12)
