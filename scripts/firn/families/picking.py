"""What pickers share: the parameters, the walk over the exposures, the table of what was found."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.families.micrographs import each_micrograph, to_show
from firn.formats.exposures import PICK_COLUMNS, ctf_values, join_tables, picks_table, write_failed
from firn.formats.tables import write_table
from firn.preprocess.junk import clean_pixels
from firn.preprocess.pick import Picks, Scene, Shape, pick, template_box, template_factors
from firn.preprocess.reduced import Reduced, reduce_micrograph
from firn.preprocess.second_look import pick_twice
from firn.preprocess.whiten import whiten
from firn.report.picks import draw_picks
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

Row = Mapping[Any, Any]


class PickingParams(JobParams):
    """Parameters of every picker."""

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures to pick in."""
    angular_step: float = Field(5.0, gt=0, le=90)
    """Degrees between in-plane rotations."""
    use_ctf: bool = True
    """Filter what is looked for by each micrograph's CTF, where it has been estimated."""
    refuse_rims: bool = True
    """Refuse long lines and steps such as the rims of carbon and ice crystals; off for filaments and 2D crystals."""
    edge: float = Field(0.1, ge=0)
    """Smallest distance of a pick from the micrograph's edge, in (smallest) diameters."""
    max_picks: int = Field(4000, ge=1)
    """Picks kept per micrograph, best first."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their picks, per batch."""


P = TypeVar("P", bound=PickingParams)


def pick_exposures(job: Job[P], exposures: pd.DataFrame, pick_one: Callable[[np.ndarray, Row], pd.DataFrame], found: str) -> None:
    """Write picks.star of the batch, with every maximum found; exposures that cannot be read go to failed.star.

    pick_one: table of picks of a micrograph and its row. found: what was found, for the titles of figures.
    """
    tables: list[pd.DataFrame] = []
    failed: list[dict[str, str]] = []
    for row, micrograph in each_micrograph(job, exposures, failed):
        tables.append(pick_one(micrograph, row))
        if len(tables) <= job.params.plots:
            name = row["exposure_id"]
            path = job.figure(f"picks_{name}", f"{found} in {name}", "All maxima, coloured by their correlation.")
            draw_picks(path, to_show(row, micrograph), tables[-1], float(row["micrograph_pixel_size"]))
    picks = join_tables(tables, PICK_COLUMNS)
    write_table(job.folder / "picks.star", picks, "picks")
    write_failed(job.folder, failed)
    job.metric("exposures", len(tables))
    job.metric("picks", len(picks))
    job.metric("picks per exposure", len(picks) / max(len(tables), 1))


def reduce_exposure(micrograph: np.ndarray, row: Row, low_pass: float, diameter: float, device: torch.device) -> Reduced:
    """A micrograph at picking resolution; diameter is the largest that is looked for, in Å."""
    return reduce_micrograph(torch.from_numpy(micrograph).to(device), float(row["micrograph_pixel_size"]), low_pass, diameter)


def pick_shapes(
    reduced: Reduced,
    shapes: list[Shape],
    row: Row,
    params: PickingParams,
    low_pass: float,
    diameter: float,
    distances: tuple[float, float],
    white: bool,
) -> Picks:
    """Picks of a reduced micrograph; distances between picks and from the edge, and the largest diameter, in Å.

    white: match where the noise has equal power at all frequencies, for shapes that are known in detail; without a CTF these are
    weighted after the clearest particles.
    """
    box = template_box(diameter, reduced.pixel_size)
    factors = filters_of(row, params, box, reduced.pixel_size, low_pass, diameter, reduced.image.device)
    clean = clean_pixels(reduced, diameter, params.refuse_rims)
    matched, factors = whiten(reduced, factors, low_pass, diameter) if white else (reduced, factors)
    find = pick_twice if white and _used_ctf(row, params) is None else pick
    return find(Scene(matched, shapes, clean, factors), *distances, params.max_picks)


def filters_of(
    row: Row, params: PickingParams, box: int, pixel_size: float, low_pass: float, diameter: float, device: torch.device
) -> torch.Tensor:
    """Factors `(box, box // 2 + 1)` on spectra of what is looked for in a micrograph: its filters, and its CTF if it is known and used."""
    return template_factors(box, pixel_size, low_pass, diameter, _used_ctf(row, params), device)


def _used_ctf(row: Row, params: PickingParams) -> tuple[float, ...] | None:
    """Arguments of ctf_2d, where the CTF is known and used."""
    return ctf_values(row) if params.use_ctf else None


def table_of(picks: Picks, row: Row, **columns: np.ndarray) -> pd.DataFrame:
    """Pick table of one exposure, with further columns."""
    y_px, x_px = picks.points.cpu().numpy().T
    found = {"x_px": x_px, "y_px": y_px, "pick_score": picks.score.cpu().numpy(), "pick_power": picks.power.cpu().numpy()}
    return picks_table(row, found | columns)
