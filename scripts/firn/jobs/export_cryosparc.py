"""Hand exposures and particles on to CryoSPARC as groups of results."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import model_validator

from firn.families.particle_figures import draw_particles
from firn.formats.cryosparc import Fields, exposures_to_cs, particles_to_cs, write_cs, write_group
from firn.formats.cryosparc_aberrations import measured
from firn.formats.linked_files import bring_files, files_of
from firn.formats.mrc_header import read_mrc_header
from firn.formats.particles import NEEDS, common_box
from firn.formats.tables import read_table
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot

SHOWN = 24
EXPOSURES_NEED = ("micrograph", "micrograph_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast")


class Params(JobParams):
    """Write exposures and particles as `.cs` and `.csg`, which CryoSPARC's Import Result Group takes, in a folder that links to their images.

    Poses, shifts, half-sets, classes, CTF and places on the micrographs become CryoSPARC's columns; all others are kept beside them.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"

    exposures: str | None = slot("exposures", optional=True)
    """Exposures to hand on; they need micrographs."""
    particles: str | None = slot("particles", optional=True)
    """Particles to hand on."""
    copy_files: bool = False
    """Copy all files that are named, so that the folder can be taken elsewhere."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if not (self.exposures or self.particles):
            raise ValueError("give exposures or particles")
        return self


def run(job: Job[Params]) -> None:
    """Write the folder `project`."""
    if job.has("exposures"):
        table = read_table(job.input("exposures", "exposures.star"), "exposures", needs=EXPOSURES_NEED)
        _write(job, "exposures", table, exposures_to_cs(table, _shapes(table, ("micrograph", "micrograph_plain"))))
    if job.has("particles"):
        table = read_table(job.input("particles", "particles.star"), "particles", needs=NEEDS)
        box, _ = common_box(table)
        if kinds := measured(table):
            job.warn(
                f"CryoSPARC is told of no aberrations ({', '.join(kinds)}), since its signs are not known; they stay in firn's own fields, "
                "and Global CTF Refinement measures them there"
            )
        _write(job, "particles", table, particles_to_cs(table.assign(box_px=box), _shapes(table, ("micrograph",))))
        draw_particles(job, "First particles", "As they are handed on: protein is white.", table.iloc[:SHOWN])


def _write(job: Job[Params], kind: str, table: pd.DataFrame, fields: Fields) -> None:
    folder = job.folder / "project"
    write_cs(folder / f"{kind}.cs", fields)
    write_group(folder / f"{kind}.csg", f"{job.name}_{kind}", f"{kind}.cs", fields)
    outside = bring_files(folder, job.home / "project", files_of(table), job.params.copy_files)
    if outside:
        job.warn(f"{len(outside)} files lie outside the run folder and are named by their absolute paths, the first is {min(outside)}")
    job.metric(kind, len(table))


def _shapes(table: pd.DataFrame, columns: Iterable[str]) -> dict[str, tuple[int, int]]:
    """(height, width) of the micrographs that are there."""
    names = {str(name) for column in columns if column in table.columns for name in table[column].unique()}
    headers = {name: read_mrc_header(name) for name in sorted(names) if Path(name).is_file()}
    return {name: (header.ny, header.nx) for name, header in headers.items()}
