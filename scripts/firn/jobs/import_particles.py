"""Bring a particle stack of RELION's or CryoSPARC's into the session: links its images, keeps its CTF, poses and half-sets."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.particle_figures import draw_particles
from firn.families.restacking import restack
from firn.formats.cryosparc import SIGN
from firn.formats.cryosparc_aberrations import COLUMN as ABERRATIONS
from firn.formats.foreign_particles import read_foreign
from firn.formats.mrc import read_shape
from firn.formats.particles import common_box
from firn.formats.tables import split_image_names, write_table
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane

SHOWN = 24
PER_STACK = 10_000


class Params(JobParams):
    """Import particles from a RELION 3.0, 3.1 or later STAR file, or a CryoSPARC `.cs` or `.csg` file, and its image stacks.

    Images are linked, not copied, and must show protein white, as RELION extracts them; only where a `.cs` file says that protein is dark are
    they written anew. Half-sets are kept where the file has them.
    """

    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    file: str
    """STAR, `.cs` or `.csg` file with the particles."""
    passthrough: str | None = None
    """Second `.cs` file of the same job, with the columns that the first lacks."""
    folder: str | None = None
    """Folder in which the stacks' paths begin; by default the run folder, the file's folder, and those above it."""
    pixel_size: float | None = Field(None, gt=0)
    """Å. Pixel size of the images; replaces the file's."""
    voltage_kv: float | None = Field(None, gt=0)
    """kV. Acceleration voltage; replaces the file's."""
    cs_mm: float | None = Field(None, ge=0)
    """mm. Spherical aberration; replaces the file's."""
    amplitude_contrast: float | None = Field(None, ge=0, lt=1)
    """Fraction of amplitude contrast; replaces the file's."""
    ignore_poses: bool = False
    """Forget angles, shifts and classes."""


def run(job: Job[Params]) -> None:
    """Read, check and write particles.star."""
    params = job.params
    given = {
        "image_pixel_size": params.pixel_size,
        "voltage_kv": params.voltage_kv,
        "cs_mm": params.cs_mm,
        "amplitude_contrast": params.amplitude_contrast,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    table = read_foreign(params.file, params.folder, overrides, params.ignore_poses, params.passthrough)
    table = _protein_white(job, table)
    write_table(job.folder / "particles.star", table, "particles")
    _warn(job, table)
    _describe(job, table)


def _protein_white(job: Job[Params], table: pd.DataFrame) -> pd.DataFrame:
    """Particles whose images show protein white: where the file says that all show it dark, they are written with the other sign."""
    if SIGN not in table.columns:
        return table
    signs, table = table[SIGN], table.drop(columns=SIGN)
    if signs.nunique() > 1:
        raise InputError(f"{job.params.file}: shows protein white in some images and dark in others; import them one by one")
    job.warn("the file says that protein is dark, so the images are written anew with the other sign")
    box, pixel_size = common_box(table)
    return restack(job, table, box, box, pixel_size, PER_STACK, False, np.negative)


def _warn(job: Job[Params], table: pd.DataFrame) -> None:
    _, stacks = split_image_names(table["image"].iloc[:1])
    header, used = read_shape(job.staged_path(stacks[0]))[1], float(table["image_pixel_size"].iloc[0])
    if header > 0 and abs(header - used) > 0.01 * used:
        job.warn(f"{stacks[0]}: its header says {header:.4g} Å per pixel, but {used:.4g} Å is used")
    if ABERRATIONS in table.columns:
        job.warn(
            f"{job.params.file}: tells of aberrations or of shifts with them, which are kept for export_cryosparc and not used, since "
            "CryoSPARC's signs are not known; ctf_refine_global measures aberrations"
        )
    smaller = int(table["half"].value_counts().reindex([1, 2], fill_value=0).min())
    if smaller < 0.4 * len(table):
        job.warn(f"{job.params.file}: its half-sets are uneven, the smaller holds {smaller} of {len(table)} particles")


def _describe(job: Job[Params], table: pd.DataFrame) -> None:
    job.metric("particles", len(table))
    job.metric("exposures", table["exposure_id"].nunique())
    job.metric("box", int(table["box_px"].iloc[0]), "px")
    job.metric("pixel_size", float(table["image_pixel_size"].iloc[0]), "Å")
    chosen = table.iloc[np.unique(np.linspace(0, len(table) - 1, SHOWN).astype(int))]
    draw_particles(job, "Imported particles", f"{len(chosen)} of {len(table)} imported particles; protein must be white.", chosen)
