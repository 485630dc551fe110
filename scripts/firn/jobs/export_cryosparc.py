"""Hand particles on to CryoSPARC as a group of results."""

from pathlib import Path
from typing import ClassVar

import pandas as pd

from firn.formats.cryosparc import particles_to_cs, write_cs, write_group
from firn.formats.linked_files import bring_files, files_of
from firn.formats.mrc_header import read_mrc_header
from firn.formats.particles import common_box, load_images
from firn.formats.tables import read_table
from firn.report.picks import draw_montage
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot

SHOWN = 24
NEEDS = ("image", "image_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast", "defocus_u", "defocus_v", "defocus_angle")


class Params(JobParams):
    """Write particles as `.cs` and `.csg`, which CryoSPARC's Import Result Group takes, in a folder that links to their images.

    Poses, shifts, half-sets, classes, CTF and places on the micrographs become CryoSPARC's columns; all others are kept beside them.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"

    particles: str = slot("particles")
    """Particles to hand on."""
    copy_files: bool = False
    """Copy all files that are named, so that the folder can be taken elsewhere."""


def run(job: Job[Params]) -> None:
    """Write the folder `project`."""
    table = read_table(job.input("particles", "particles.star"), "particles", needs=NEEDS)
    box, pixel_size = common_box(table)
    fields = particles_to_cs(table.assign(box_px=box), _micrograph_shapes(table))
    folder = job.folder / "project"
    write_cs(folder / "particles.cs", fields)
    write_group(folder / "particles.csg", job.name, "particles.cs", fields)
    outside = bring_files(folder, job.home / "project", files_of(table), job.params.copy_files)
    if outside:
        job.warn(f"{len(outside)} files lie outside the run folder and are named by their absolute paths, the first is {min(outside)}")
    job.metric("particles", len(table))
    job.metric("fields", len(fields))
    path = job.figure("particles", "First particles", "As they are handed on: protein is white.")
    draw_montage(path, load_images(table.iloc[:SHOWN]), pixel_size)


def _micrograph_shapes(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """(height, width) of the micrographs that are there."""
    names = [str(name) for name in table["micrograph"].unique()] if "micrograph" in table.columns else []
    headers = {name: read_mrc_header(name) for name in names if Path(name).is_file()}
    return {name: (header.ny, header.nx) for name, header in headers.items()}
