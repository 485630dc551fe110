"""Pick particles as blobs: discs, ellipses or rings, by normalised cross-correlation with each micrograph."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from firn.errors import ExposureError
from firn.formats.exposures import PICK_COLUMNS, ctf_values, failed_row, join_tables, load_micrograph, picks_table, write_failed
from firn.formats.tables import read_table, write_table
from firn.kernels.templates import draw_blobs
from firn.preprocess.pick import Picks, Shape, clean_pixels, pick, reduce_micrograph, template_box, template_factors
from firn.report.picks import draw_picks
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

STEP = 1.12
"""Largest ratio of neighbouring diameters tried."""


class Params(JobParams):
    """Find particles as blobs between two diameters, without knowing more about them.

    Each micrograph is reduced to 20 Å, its background removed, and correlated with blobs filtered by its CTF. All maxima are
    kept, with their correlation (NCC) and local power; inspect_picks then decides which are particles.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures to pick in."""
    min_diameter: float = Field(gt=0)
    """Å. Smallest diameter of a particle."""
    max_diameter: float = Field(gt=0)
    """Å. Largest diameter of a particle."""
    circle: bool = True
    """Try discs of several diameters between the two."""
    ellipse: bool = False
    """Try an ellipse with the two diameters as axes, in all directions."""
    ring: bool = False
    """Try rings, for hollow particles."""
    low_pass: float = Field(20.0, gt=0)
    """Å. Resolution that micrographs and blobs are filtered to."""
    angular_step: float = Field(5.0, gt=0, le=90)
    """Degrees between directions of the ellipse."""
    use_ctf: bool = True
    """Filter the blobs by each micrograph's CTF, where it has been estimated."""
    separation: float = Field(1.0, gt=0)
    """Smallest distance between picks, in smallest diameters."""
    edge: float = Field(0.1, ge=0)
    """Smallest distance of a pick from the micrograph's edge, in smallest diameters."""
    max_picks: int = Field(4000, ge=1)
    """Picks kept per micrograph, best first."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their picks, per batch."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.max_diameter < self.min_diameter:
            raise ValueError(f"max_diameter ({self.max_diameter:g} Å) is smaller than min_diameter ({self.min_diameter:g} Å)")
        if not (self.circle or self.ellipse or self.ring):
            raise ValueError("one of circle, ellipse and ring must be true")
        return self


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, with every maximum found."""
    exposures = read_table(
        job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "micrograph", "micrograph_pixel_size")
    )
    tables: list[pd.DataFrame] = []
    failed: list[dict[str, str]] = []
    for row in job.over(exposures.to_dict("records"), "exposures"):
        try:
            micrograph = load_micrograph(row)
        except ExposureError as error:
            failed.append(failed_row(row, error))
            continue
        tables.append(_pick_exposure(micrograph, row, job.params, job.device))
        if len(tables) <= job.params.plots:
            path = job.figure(
                f"picks_{row['exposure_id']}", f"Blobs found in {row['exposure_id']}", "All maxima, coloured by their correlation."
            )
            draw_picks(path, micrograph, tables[-1], float(row["micrograph_pixel_size"]))
    picks = join_tables(tables, PICK_COLUMNS)
    write_table(job.folder / "picks.star", picks, "picks")
    write_failed(job.folder, failed)
    job.metric("exposures", len(tables))
    job.metric("picks", len(picks))
    job.metric("picks per exposure", len(picks) / max(len(tables), 1))


def _pick_exposure(micrograph: np.ndarray, row: Mapping[Any, Any], params: Params, device: torch.device) -> pd.DataFrame:
    reduced = reduce_micrograph(
        torch.from_numpy(micrograph).to(device), float(row["micrograph_pixel_size"]), params.low_pass, params.max_diameter
    )
    box = template_box(params.max_diameter, reduced.pixel_size)
    shapes = _shapes(params, box, reduced.pixel_size, device)
    ctf = ctf_values(row) if params.use_ctf else None
    factors = template_factors(box, reduced.pixel_size, params.low_pass, params.max_diameter, ctf, device)
    distances = params.separation * params.min_diameter, params.edge * params.min_diameter
    return _table(pick(reduced, shapes, clean_pixels(reduced, params.max_diameter), factors, *distances, params.max_picks), shapes, row)


def _shapes(params: Params, box: int, pixel_size: float, device: torch.device) -> list[Shape]:
    low, high = params.min_diameter, params.max_diameter
    diameters = np.geomspace(low, high, 1 + int(np.ceil(np.log(high / low) / np.log(STEP) - 1e-9)))
    upright = torch.zeros(1, device=device)
    kinds = [kind for kind in ("circle", "ring") if getattr(params, kind)]
    shapes = [Shape(draw_blobs(kind, float(d), float(d), upright, box, pixel_size), upright, float(d)) for kind in kinds for d in diameters]
    if params.ellipse and high > low:
        angles = torch.arange(0, 180, params.angular_step, device=device)
        shapes.append(Shape(draw_blobs("ellipse", high, low, angles, box, pixel_size), angles, high))
    return shapes


def _table(picks: Picks, shapes: list[Shape], row: Mapping[Any, Any]) -> pd.DataFrame:
    diameters = np.array([shape.diameter for shape in shapes])
    y_px, x_px = picks.points.cpu().numpy().T
    columns = {"x_px": x_px, "y_px": y_px, "pick_score": picks.score.cpu().numpy(), "pick_power": picks.power.cpu().numpy()}
    columns["diameter"] = diameters[picks.shape.cpu().numpy()]
    if any(len(shape.angles) > 1 for shape in shapes):
        columns["psi"] = -picks.angle.cpu().numpy()
    return picks_table(row, columns)
