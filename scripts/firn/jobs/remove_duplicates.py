"""Remove particles, or picks, that were found twice."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.formats.tables import concatenate, write_batches, write_table
from firn.preprocess.duplicates import find_duplicates, nearest_distances
from firn.report.picks import draw_distances
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEEDS = ("exposure_id", "batch", "x_px", "y_px", "micrograph_pixel_size")
QUALITY = ("pick_score", "class_probability")
"""Columns that tell the better of two, the first that all rows have."""


class Params(JobParams):
    """Of particles or picks closer than a distance in the same micrograph, keep the best.

    Given particles, their refined centres count, and picks at these centres are offered too.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles", "picks")
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"duplicates": ("particles",)}

    particles: str | list[str] | None = slot("particles", optional=True, many=True)
    """Particles; several sets are joined."""
    picks: str | list[str] | None = slot("picks", optional=True, many=True)
    """Picks instead of particles, such as those of two pickers; several sets are joined."""
    distance: float = Field(20.0, gt=0)
    """Å. Of two closer than this, one is removed."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if bool(self.particles) == bool(self.picks):
            raise ValueError("give either particles or picks to remove_duplicates")
        return self


def run(job: Job[Params]) -> None:
    """Write what is kept, what is not, and the picks of every batch."""
    kind = "particles" if job.has("particles") else "picks"
    folders = job.inputs[kind]
    table = concatenate([folder / f"{kind}.star" for folder in folders], kind, NEEDS)
    points, micrograph = _centres(table), pd.factorize(table["exposure_id"])[0]
    dropped = find_duplicates(points, micrograph, _quality(table), job.params.distance)
    kept = table[~dropped].reset_index(drop=True)
    write_table(job.folder / "duplicates" / f"{kind}.star", table[dropped], kind)
    if kind == "particles":
        write_table(job.folder / "particles.star", kept, "particles")
    picks = _as_picks(kept) if kind == "particles" else kept
    job.batches = _batches(table, folders)
    write_table(job.folder / "picks.star", picks, "picks")
    write_batches(job.folder, picks, "picks", job.batches)
    job.metric("kept", len(kept))
    job.metric("duplicates", int(dropped.sum()))
    path = job.figure("distances", "Distances to the nearest neighbour", "Before removal. Red: distance below which one of two is removed.")
    limit = 10 * job.params.distance
    draw_distances(path, nearest_distances(points, micrograph, limit), job.params.distance, limit)


def _centres(table: pd.DataFrame) -> np.ndarray:
    """True centres xy in Å: coordinate times pixel size, less the origin."""
    scale = table["micrograph_pixel_size"].to_numpy(dtype=np.float64)[:, None]
    centres = table[["x_px", "y_px"]].to_numpy(dtype=np.float64) * scale
    return centres - table[["origin_x", "origin_y"]].to_numpy(dtype=np.float64) if "origin_x" in table.columns else centres


def _quality(table: pd.DataFrame) -> np.ndarray:
    column = next((name for name in QUALITY if name in table.columns and table[name].notna().all()), None)
    return table[column].to_numpy(dtype=np.float64) if column else np.zeros(len(table))


def _as_picks(particles: pd.DataFrame) -> pd.DataFrame:
    """Picks at the true centres of particles."""
    centres = _centres(particles) / particles["micrograph_pixel_size"].to_numpy(dtype=np.float64)[:, None]
    gone = ["image", "origin_x", "origin_y", "half", "image_pixel_size", "box_px", "dimensionality"]
    return particles.drop(columns=gone, errors="ignore").assign(x_px=centres[:, 0], y_px=centres[:, 1])


def _batches(table: pd.DataFrame, folders: list[Path]) -> list[str]:
    """Batches of the table and those, perhaps empty, of the jobs it came from."""
    upstream = {path.name for folder in folders for path in (folder / "batches").glob("*") if path.is_dir()}
    return sorted(upstream | {str(batch) for batch in table["batch"]})
