"""Find carbon, ice crystals, thick ice, contamination and padding, and refuse picks near them."""

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.families.micrographs import each_micrograph, read_exposures
from firn.formats.exposures import PICK_COLUMNS, join_tables, write_failed
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.preprocess.junk import GOOD, NAMES, classify_pixels, grow
from firn.preprocess.reduced import Reduced, reduce_micrograph
from firn.report.picks import draw_junk
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

LOW_PASS = 20.0
"""Å. What junk is looked for at."""
Junk = Literal["unknown", "rim", "uneven", "rough", "cut_off"]


class Params(JobParams):
    """Label each micrograph's padding, rims of carbon and crystals, uneven ice, contamination, and ice that these cut off.

    Features are local mean, local variance and long lines, each measured against the micrograph's own spread. Picks nearer to junk
    than a distance are left out; exposures get the fraction of their area that is junk, to curate by.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("exposures", "picks")

    exposures: str = slot("exposures")
    """Exposures to look at."""
    picks: str | None = slot("picks", optional=True)
    """Picks to keep away from junk."""
    diameter: float = Field(gt=0)
    """Å. Diameter of the particle: junk is what no particle of this size could be."""
    distance: float | None = Field(None, ge=0)
    """Å. Smallest distance of a pick from junk; half a diameter when not given."""
    refuse: list[Junk] = Field(["unknown", "rim", "uneven", "rough", "cut_off"], min_length=1)
    """Kinds of junk that picks keep away from; leave out rim and cut_off for filaments and 2D crystals."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their junk, per batch."""


def run(job: Job[Params]) -> None:
    """Write exposures.star with fractions and maps of junk, and picks.star with the picks that keep away from it."""
    table = read_exposures(job)
    picks = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px")) if job.has("picks") else None
    rows: list[dict[Any, Any]] = []
    kept: list[pd.DataFrame] = []
    failed: list[dict[str, str]] = []
    for row, micrograph in each_micrograph(job, table, failed):
        reduced, kinds = _look(job, row, micrograph, drawn=len(rows) < job.params.plots)
        path = f"junk/{row['exposure_id']}.mrc"
        write_image(job.folder / path, kinds.astype(np.float32), reduced.pixel_size, float16=True)
        rows.append({**row, "junk_fraction": float((kinds != GOOD).mean()), "junk_map": job.output_path(path)})
        if picks is not None:
            kept.append(_away(picks[picks["exposure_id"] == row["exposure_id"]], reduced, torch.from_numpy(kinds), job.params))
    away = join_tables(kept, PICK_COLUMNS)
    write_table(job.folder / "exposures.star", pd.DataFrame(rows) if rows else table.iloc[:0], "exposures")
    write_table(job.folder / "picks.star", away, "picks")
    write_failed(job.folder, failed)
    job.metric("exposures", len(rows))
    job.metric("median junk", float(np.median([row["junk_fraction"] for row in rows])) if rows else 0.0)
    if picks is not None:
        job.metric("picks kept", len(away))
        job.metric("picks near junk", len(picks) - len(away))


def _look(job: Job[Params], row: dict[Any, Any], micrograph: np.ndarray, drawn: bool) -> tuple[Reduced, np.ndarray]:
    """(reduced micrograph, kind of each of its pixels)."""
    image = torch.from_numpy(micrograph).to(job.device)
    reduced = reduce_micrograph(image, float(row["micrograph_pixel_size"]), LOW_PASS, job.params.diameter)
    kinds = classify_pixels(reduced, job.params.diameter).cpu().numpy()
    if drawn:
        path = job.figure(
            f"junk_{row['exposure_id']}", f"Junk in {row['exposure_id']}", "Coloured: where no particle is expected, by its kind."
        )
        draw_junk(path, micrograph, kinds, NAMES, float(row["micrograph_pixel_size"]))
    return reduced, kinds


def _away(picks: pd.DataFrame, reduced: Reduced, kinds: torch.Tensor, params: Params) -> pd.DataFrame:
    """The picks of an exposure that are far enough from the kinds of junk to refuse."""
    refused = torch.isin(kinds, torch.tensor([NAMES.index(name) for name in params.refuse], dtype=kinds.dtype))
    distance = params.diameter / 2 if params.distance is None else params.distance
    near = grow(refused.to(reduced.image.device), reduced, 2 * distance).cpu().numpy()
    at = [
        np.clip(np.round(picks[name].to_numpy(dtype=float) / stride).astype(int), 0, side - 1)
        for name, stride, side in zip(("y_px", "x_px"), reduced.stride, near.shape, strict=True)
    ]
    return picks[~near[at[0], at[1]]]
