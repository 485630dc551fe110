"""Cut particle images out of micrographs, at picks or at the refined centres of particles."""

import numpy as np
import pandas as pd
from pydantic import model_validator

from firn.families.extraction import COLUMNS, ExtractionParams, extract_exposure, without_images
from firn.families.micrographs import each_micrograph, read_exposures
from firn.families.particle_figures import draw_particles
from firn.formats.exposures import join_tables, write_failed
from firn.formats.tables import read_table, write_table
from firn.runtime.job import Job
from firn.runtime.params import slot

SHOWN = 64


class Params(ExtractionParams):
    """Cut a box around each particle, make protein white, level and normalise the background, attach the local CTF."""

    picks: str | None = slot("picks", optional=True)
    """Picks to cut at."""
    particles: str | None = slot("particles", optional=True)
    """Particles to cut again, instead of picks; poses, identities and half-sets are kept."""
    recentre: bool = True
    """Cut particles at their refined centres rather than at their former coordinates."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if (self.picks is None) == (self.particles is None):
            raise ValueError("give either picks or particles to extract_particles")
        return self


def run(job: Job[Params]) -> None:
    """Write particles.star and one stack per micrograph."""
    exposures = read_exposures(job)
    sources = _sources(job)
    tables: list[pd.DataFrame] = []
    failed: list[dict[str, str]] = []
    lost = 0
    for row, micrograph in each_micrograph(job, exposures, failed):
        rows = sources[sources["exposure_id"] == row["exposure_id"]].reset_index(drop=True)
        tables.append(extract_exposure(job, row, micrograph, rows))
        lost += len(rows) - len(tables[-1])
    particles = join_tables(tables, COLUMNS)
    write_table(job.folder / "particles.star", particles, "particles")
    write_failed(job.folder, failed)
    _report(job, particles, lost)


def _sources(job: Job[Params]) -> pd.DataFrame:
    """Picks, or particles at their true centres, each with an identity; optics and old images left out."""
    if job.has("particles"):
        table = read_table(
            job.input("particles", "particles.star"), "particles", needs=("exposure_id", "particle_id", "x_px", "y_px", "half")
        )
        table = _recentred(table) if job.params.recentre else table
    else:
        table = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px"))
    return without_images(table)


def _recentred(table: pd.DataFrame) -> pd.DataFrame:
    """Particles with their origins moved into the coordinates: true centre = coordinate - origin / pixel_size."""
    if "origin_x" not in table.columns:
        return table
    centres = {f"{axis}_px": table[f"{axis}_px"] - table[f"origin_{axis}"] / table["micrograph_pixel_size"] for axis in "xy"}
    return table.assign(**centres, origin_x=0.0, origin_y=0.0)


def _report(job: Job[Params], particles: pd.DataFrame, lost: int) -> None:
    job.metric("particles", len(particles))
    job.metric("boxes over the edge", lost)
    if particles.empty:
        job.warn("no particle could be extracted from this batch")
        return
    chosen = np.sort(job.numpy_generator("montage").permutation(len(particles))[:SHOWN])
    shown = particles.iloc[chosen]
    draw_particles(job, "Particles, chosen by chance", "Smoothed for the eye. Each should hold one whole particle, centred.", shown)
