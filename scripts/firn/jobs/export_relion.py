"""Hand exposures, particles and maps on to RELION as a project folder."""

from typing import ClassVar

from pydantic import model_validator

from firn.families.particle_figures import draw_particles
from firn.formats.linked_files import PLAIN
from firn.formats.particles import common_box
from firn.formats.relion_project import Project
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.report.volumes import draw_slices
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot

SHOWN = 24


class Params(JobParams):
    """Make a folder that RELION 3.1 or later opens as a project: the micrographs, particles, map, half maps and mask as its imports.

    Optics groups, poses, half-sets and every other column are kept. The folder `project` links to
    the session's files by relative paths.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"

    exposures: str | None = slot("exposures", optional=True)
    """Exposures to hand on."""
    particles: str | None = slot("particles", optional=True)
    """Particles to hand on."""
    volume: str | None = slot("volume", optional=True)
    """Map to hand on, with its half maps and mask where it has them."""
    mask: str | None = slot("mask", optional=True)
    """Mask to hand on, in place of the map's own."""
    copy_files: bool = False
    """Copy all files that are named, so that the folder can be taken elsewhere."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if not any((self.exposures, self.particles, self.volume, self.mask)):
            raise ValueError("give exposures, particles, volume or mask")
        return self


def run(job: Job[Params]) -> None:
    """Write the folder `project`."""
    project = Project(job.folder / "project", job.home / "project", job.params.copy_files)
    if job.has("exposures"):
        _add_exposures(job, project)
    if job.has("particles"):
        _add_particles(job, project)
    if job.has("volume") or job.has("mask"):
        _add_maps(job, project)
    project.finish()
    small = project.half_precision
    if small:
        job.warn(f"{len(small)} files are of half precision, which RELION reads from version 4 on, the first is {min(small)}")
    if project.renamed:
        job.warn(
            f"{len(project.renamed)} files have names that RELION does not read (with one of # : % \" ' or a tab) and got others in "
            f"project/{PLAIN}, the first is {min(project.renamed.values())}"
        )
    if project.outside:
        first = sorted(project.outside)[0]
        job.warn(f"{len(project.outside)} files lie outside the run folder and are found by their absolute paths, the first is {first}")


def _add_exposures(job: Job[Params], project: Project) -> None:
    table = read_table(job.input("exposures", "exposures.star"), "exposures")
    project.add_table(table, "exposures")
    job.metric("exposures", len(table))


def _add_particles(job: Job[Params], project: Project) -> None:
    table = read_table(job.input("particles", "particles.star"), "particles", needs=("image", "image_pixel_size"))
    box, _ = common_box(table)
    project.add_table(table.assign(box_px=box, dimensionality=2), "particles")
    job.metric("particles", len(table))
    if "half" in table.columns:
        job.metric("half_1", int((table["half"] == 1).sum()))
    draw_particles(job, "First particles", "As RELION will see them: protein is white.", table.iloc[:SHOWN])


def _add_maps(job: Job[Params], project: Project) -> None:
    volume = job.input("volume") if job.has("volume") else None
    project.add_maps(volume, job.input("mask", "mask.mrc") if job.has("mask") else None)
    if volume is not None:
        density, pixel_size = read_volume(volume / "map.mrc")
        draw_slices(job.figure("map", "Map", "Central slices of the map that is handed on."), density, pixel_size)
