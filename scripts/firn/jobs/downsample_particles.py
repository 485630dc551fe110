"""Crop or pad particle images, and Fourier-crop them to larger pixels."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.families.restacking import restack
from firn.formats.particles import common_box, load_images
from firn.formats.tables import read_table, write_table
from firn.kernels.box import crop_or_pad_images
from firn.kernels.fourier import resize_images
from firn.preprocess.extract import normalise_background
from firn.report.picks import draw_montage
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

SHOWN = 64
CIRCLE = 0.75
"""Diameter of the particle circle in box sides, when not given."""


class Params(JobParams):
    """Change the box of particle images in real space, then Fourier-crop them; the background is normalised again.

    Poses, origins and CTF stay valid, since they are in Å. To gain back detail, extract the particles again.
    """

    stage: ClassVar[str] = "extract"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    particles: str = slot("particles")
    """Particles to downsample."""
    box_px: int | None = Field(None, ge=8, le=4096, multiple_of=2)
    """px of the given images. Side that boxes are cropped to, or padded to with 0, in real space; as it is when not given."""
    crop_to_px: int | None = Field(None, ge=8, le=4096, multiple_of=2)
    """px. Side that boxes are Fourier-cropped to; not at all when not given."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Diameter of the circle outside of which is background; three quarters of the box when not given."""
    per_stack: int = Field(10_000, ge=1)
    """Images in one file."""
    float16: bool = False
    """Write half-precision stacks of half the size (MRC mode 12)."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.box_px is None and self.crop_to_px is None:
            raise ValueError("nothing to do: give box_px or crop_to_px (restack_particles rewrites images as they are)")
        return self


def run(job: Job[Params]) -> None:
    """Write the stacks and particles.star."""
    params = job.params
    table = read_table(job.input("particles", "particles.star"), "particles", needs=("image", "image_pixel_size"))
    old, pixel_size = common_box(table)
    box = params.box_px or old
    crop = params.crop_to_px or box
    if crop > box:
        raise InputError(f"job {job.name}: crop_to_px ({crop}) is larger than the box ({box} px)")
    small_pixel = pixel_size * box / crop
    circle = params.particle_diameter / (crop * small_pixel) if params.particle_diameter else CIRCLE * min(1.0, old / box)

    def change(images: np.ndarray) -> np.ndarray:
        boxes = crop_or_pad_images(torch.from_numpy(images).to(job.device), box)
        return normalise_background(resize_images(boxes, (crop, crop)), circle).cpu().numpy()

    written = restack(job, table, old, crop, small_pixel, params.per_stack, params.float16, change)
    write_table(job.folder / "particles.star", written.assign(image_pixel_size=small_pixel, box_px=crop), "particles")
    job.metric("particles", len(written))
    job.metric("pixel size", small_pixel, "Å")
    path = job.figure("particles", "First particles", "Smoothed for the eye.")
    draw_montage(path, change(load_images(table.iloc[:SHOWN])), small_pixel)
