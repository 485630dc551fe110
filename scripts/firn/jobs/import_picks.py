"""Bring in coordinates that another program picked, and give each to its exposure."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError, brief
from firn.families.micrographs import decision_panels
from firn.formats.discovery import expand_files
from firn.formats.exposure_names import find_exposure, names_of
from firn.formats.exposures import PICK_COLUMNS, join_tables, picks_table
from firn.formats.foreign_picks import read_foreign_picks
from firn.formats.tables import read_table, write_batches, write_table
from firn.report.picks import draw_decisions
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEEDS = ("exposure_id", "batch", "micrograph", "micrograph_pixel_size", "width_px", "height_px")
FEWEST = 20
"""Picks all over a micrograph that all lie in one quarter of it are met by chance once in 4^20 times."""
SHOWN_SHARE = 0.04
"""Circles drawn where neither a diameter nor a box is known, in widths of the micrograph."""


class Params(JobParams):
    """Read picks of EMAN (`.box`), crYOLO (`.cbox`), RELION and others (`.star`), Topaz (`.txt`) or any program (`.csv`).

    A file, or a row that names a micrograph, belongs to the exposure whose movie or micrograph is called so, apart from folder, ending and
    words such as `_autopick`, `_manualpick` and `_DW`. What belongs to no exposure is told; picks outside their micrograph are refused.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures that were picked in."""
    files: str | list[str]
    """Pattern such as `picks/*.star`, or a list of patterns, relative to the run folder."""
    binning: float = Field(1.0, gt=0, le=64)
    """Pixels of the micrograph per pixel of the image that was picked in; coordinates are multiplied by it."""
    flip_y: bool = False
    """Count rows from the other edge, for programs that show or store micrographs upside down."""
    min_score: float | None = None
    """Smallest score of a pick, in the units of the program that gave it."""
    diameter: float | None = Field(None, gt=0)
    """Å. Diameter of a particle, if it is to stand in the table."""


def run(job: Job[Params]) -> None:
    """Write picks.star of all exposures, and that of every batch."""
    exposures = read_table(job.input("exposures", "exposures.star"), "exposures", needs=NEEDS)
    files = expand_files(job.params.files)
    found = pd.concat([read_foreign_picks(path).assign(file=path) for path in job.over(files, "files")], ignore_index=True)
    found = _of_exposures(job, found, exposures, files)
    placed = _placed(found, exposures, job.params)
    _warn_of_places(job, placed, exposures)
    kept = _kept_table(placed[placed["kept"]], exposures, job.params.diameter)
    write_table(job.folder / "picks.star", kept, "picks")
    job.batches = sorted({str(batch) for batch in exposures["batch"]})
    write_batches(job.folder, kept, "picks", job.batches)
    _report(job, placed, exposures)


def _of_exposures(job: Job[Params], found: pd.DataFrame, exposures: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    """Picks with `row`, that of their exposure; those of none are told and left out, and a file may hold no picks at all."""
    names = names_of(exposures)
    called = dict.fromkeys([*found["name"].astype(str), *(path for path in files if path not in set(found["file"]))])
    rows = {name: find_exposure(names, name) for name in called}
    strange = [name for name, row in rows.items() if row is None]
    job.metric("files", len(files))
    job.metric("micrographs unmatched", len(strange))
    if len(strange) == len(rows):
        first = exposures.iloc[:1].get("movie", exposures["micrograph"][:1])
        known = f"'{brief(first.iloc[0])}'" if len(first) else "none"
        raise InputError(
            f"job {job.name}: none of {len(rows)} names fits an exposure; the first is '{brief(strange[0])}', an exposure is {known}"
        )
    if strange:
        job.warn(f"{len(strange)} of {len(rows)} files or names belong to no exposure: {brief(', '.join(strange))}")
    found = found.assign(row=found["name"].astype(str).map(rows))
    found = found[found["row"].notna()].astype({"row": int})
    _warn_of_twice(job, found, exposures)
    return found.reset_index(drop=True)


def _warn_of_twice(job: Job[Params], found: pd.DataFrame, exposures: pd.DataFrame) -> None:
    sources = found.groupby("row")["file"].nunique()
    twice = sources[sources > 1]
    if len(twice):
        name = exposures["micrograph"].iloc[twice.index[0]]
        job.warn(f"{len(twice)} exposures have picks in more than one file, {brief(name)} for one; all of them are taken")


def _placed(found: pd.DataFrame, exposures: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Picks with x_px, y_px, size and score in the micrograph, whether they lie `inside` it, score enough, and are `kept`."""
    width, height = (exposures[name].to_numpy(dtype=float)[found["row"]] for name in ("width_px", "height_px"))
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = found["x"].to_numpy() * params.binning, found["y"].to_numpy() * params.binning
        y = height - 1 - y if params.flip_y else y
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    if params.min_score is not None and len(found) and found["score"].isna().all():
        raise InputError("min_score is given, but the picks have no scores")
    weak = found["score"] < params.min_score if params.min_score is not None else np.zeros(len(found), dtype=bool)
    return found.assign(x_px=x, y_px=y, inside=inside, weak=weak, kept=inside & ~weak, size=found["size"] * params.binning)


def _warn_of_places(job: Job[Params], placed: pd.DataFrame, exposures: pd.DataFrame) -> None:
    outside = int((~placed["inside"]).sum())
    job.metric("picks outside", outside)
    job.metric("picks below min_score", int((placed["inside"] & placed["weak"]).sum()))
    if outside:
        names = exposures["micrograph"].iloc[placed["row"][~placed["inside"]].unique()]
        job.warn(
            f"{outside} of {len(placed)} picks lie outside their micrographs and are refused, in {len(names)} of them, the first "
            f"{brief(names.iloc[0])}; if they are many, binning is wrong"
        )
    inside = placed[placed["inside"]]
    reach = [
        (inside[f"{axis}_px"] / exposures[side].to_numpy()[inside["row"]]).max() for axis, side in (("x", "width_px"), ("y", "height_px"))
    ]
    if len(inside) >= FEWEST and max(reach) < 0.5:
        job.warn("all picks lie in one quarter of their micrographs, so they may have been picked in smaller images; see binning")


def _kept_table(kept: pd.DataFrame, exposures: pd.DataFrame, diameter: float | None) -> pd.DataFrame:
    """Pick table in the order of the exposures; scores and diameters where there are any."""
    tables = []
    scored = kept["score"].notna().any()
    for row, picks in kept.groupby("row"):
        columns = {"x_px": picks["x_px"].to_numpy(), "y_px": picks["y_px"].to_numpy()}
        columns |= {"pick_score": picks["score"].to_numpy()} if scored else {}
        columns |= {"diameter": np.full(len(picks), diameter)} if diameter else {}
        tables.append(picks_table(exposures.iloc[row].to_dict(), columns))
    return join_tables(tables, PICK_COLUMNS)


def _report(job: Job[Params], placed: pd.DataFrame, exposures: pd.DataFrame) -> None:
    counts = np.bincount(placed["row"][placed["kept"]], minlength=len(exposures))
    job.metric("picks", int(counts.sum()))
    job.metric("exposures with picks", int((counts > 0).sum()))
    job.metric("picks per exposure", float(np.median(counts)))
    if not counts.any():
        job.warn("no pick was kept")
    elif (counts == 0).any():
        job.warn(f"{int((counts == 0).sum())} of {len(counts)} exposures have no picks")
    pixel_size = float(exposures["micrograph_pixel_size"].iloc[0])
    size = placed["size"].fillna(SHOWN_SHARE * float(exposures["width_px"].iloc[0])) * pixel_size
    shown = placed[placed["inside"]].assign(
        exposure_id=exposures["exposure_id"].to_numpy()[placed["row"][placed["inside"]]], diameter=job.params.diameter or size
    )
    panels = decision_panels(exposures, shown, counts)
    if panels:
        caption = (
            "The exposures with most, median and fewest picks; green: kept, red: below min_score. Particles must be centred in the circles."
        )
        draw_decisions(job.figure("micrographs", "Imported picks", caption), panels, pixel_size)
