"""Write particles into few large stacks."""

from typing import ClassVar

from pydantic import Field

from firn.families.restacking import restack
from firn.formats.particles import common_box, load_images
from firn.formats.tables import read_table, write_table
from firn.report.picks import draw_montage
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

SHOWN = 64


class Params(JobParams):
    """Write the images of a particle set again, without those that were dropped on the way, into few large files.

    Images, identities and all else in the table stay as they are; the older stacks can then be deleted.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    particles: str = slot("particles")
    """Particles to write again."""
    per_stack: int = Field(10_000, ge=1)
    """Images in one file."""
    float16: bool = False
    """Write half-precision stacks of half the size (MRC mode 12)."""


def run(job: Job[Params]) -> None:
    """Write the stacks and particles.star."""
    table = read_table(job.input("particles", "particles.star"), "particles", needs=("image", "image_pixel_size"))
    box, pixel_size = common_box(table)
    restacked = restack(job, table, box, box, pixel_size, job.params.per_stack, job.params.float16, lambda images: images)
    write_table(job.folder / "particles.star", restacked, "particles")
    job.metric("particles", len(restacked))
    job.metric("stacks", -(-len(restacked) // job.params.per_stack))
    path = job.figure("particles", "First particles", "Smoothed for the eye; the same images as before.")
    draw_montage(path, load_images(table.iloc[:SHOWN]), pixel_size)
