"""Pickers of the users' own: micrographs laid before them under numbers, their picks told as those of firn's pickers.

Convention: a micrograph is `m<number>.mrc` in the order of the batch, since names of micrographs may be alike, or hold what a program misreads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import ExposureError, InputError
from firn.families.micrographs import each_micrograph, read_exposures, to_show
from firn.formats.exposures import PICK_COLUMNS, failed_row, join_tables, picks_table, write_failed
from firn.formats.mrc import write_image
from firn.formats.mrc_header import read_mrc_header
from firn.formats.tables import ABSENT, write_table
from firn.report.picks import draw_decisions
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

USUAL_MODES = (0, 1, 2, 6)
"""Kinds of numbers in MRC files that every program reads; of half precision (12) few do."""
Put = Callable[[int, dict[Any, Any], np.ndarray], None]
"""Writes a micrograph for a program to read, given its number, its exposure's row and its pixels; raises ExposureError where it cannot."""


class OutsidePickerParams(JobParams):
    """Parameters of every picker of the user's own."""

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)
    exposures: str = slot("exposures")
    """Exposures to pick in."""
    executable: str | None = None
    """Path of the program; by default the one on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their picks, per batch."""


@dataclass(frozen=True)
class Laid:
    """Micrographs before a program: the folder, rows of their exposures in the order of their numbers, the first images, what failed."""

    folder: Path
    rows: list[dict[Any, Any]]
    shown: list[np.ndarray]
    failed: list[dict[str, str]]

    def path(self, number: int) -> Path:
        """The micrograph of a row."""
        return self.folder / f"{name_of(number)}.mrc"

    def pixel_size(self, program: str) -> float:
        """Å of all; raises InputError when there are several, since a program takes one."""
        sizes = {float(row["micrograph_pixel_size"]) for row in self.rows}
        if len(sizes) > 1:
            raise InputError(f"the micrographs have several pixel sizes ({min(sizes):g} to {max(sizes):g} Å); {program} takes one")
        return sizes.pop()


def name_of(number: int) -> str:
    """Name of a micrograph before a program; one of digits alone would be read as a number by some."""
    return f"m{number:06d}"


def lay_out(job: Job[Any], folder: Path, plain: bool = False, put: Put | None = None) -> Laid:
    """Lay the micrographs of the batch into a new folder: by `put`, or else linked, and written anew where their kind is unusual.

    plain: take the sums without dose weights where there are some.
    """
    folder.mkdir(parents=True)
    exposures = read_exposures(job)
    own = dict(zip(exposures["exposure_id"], exposures["micrograph"], strict=True))
    if plain and "micrograph_plain" in exposures.columns:
        there = ~exposures["micrograph_plain"].astype(str).isin(ABSENT)
        exposures = exposures.assign(micrograph=exposures["micrograph_plain"].where(there, exposures["micrograph"]))
    laid = Laid(folder, [], [], [])
    put = put or (lambda number, row, micrograph: _link(laid.path(number), row, micrograph))
    for row, micrograph in each_micrograph(job, exposures, laid.failed):
        try:
            put(len(laid.rows), row, micrograph)
        except ExposureError as error:
            laid.failed.append(failed_row(row, error))
            continue
        laid.rows.append(row | {"micrograph": own[row["exposure_id"]]})
        if len(laid.shown) < job.params.plots:
            laid.shown.append(micrograph)
    return laid


def _link(target: Path, row: dict[Any, Any], micrograph: np.ndarray) -> None:
    source = Path(str(row["micrograph"]))
    header = read_mrc_header(source)
    if header.mode in USUAL_MODES and not header.packed:
        target.symlink_to(source.absolute())
    else:
        write_image(target, micrograph, float(row["micrograph_pixel_size"]))


def write_picks(job: Job[Any], laid: Laid, read: Callable[[int], pd.DataFrame], diameter: float, program: str) -> None:
    """Write picks.star, failed.star, metrics and figures; read gives the picks (x, y in pixels, score) of a row by its number."""
    tables = [_table(read(number), row, diameter) for number, row in enumerate(laid.rows)]
    write_table(job.folder / "picks.star", join_tables(tables, PICK_COLUMNS), "picks")
    write_failed(job.folder, laid.failed)
    count = sum(map(len, tables))
    job.metric("exposures", len(tables))
    job.metric("picks", count)
    job.metric("picks per exposure", count / max(len(tables), 1))
    _draw(job, laid, tables, program)


def _table(found: pd.DataFrame, row: dict[Any, Any], diameter: float) -> pd.DataFrame:
    places = {"x_px": found["x"].to_numpy(float), "y_px": found["y"].to_numpy(float), "pick_score": found["score"].to_numpy(float)}
    return picks_table(row, places | {"diameter": np.full(len(found), diameter)})


def _draw(job: Job[Any], laid: Laid, tables: Sequence[pd.DataFrame], program: str) -> None:
    for row, micrograph, table in zip(laid.rows, laid.shown, tables, strict=False):
        name = str(row["exposure_id"])
        path = job.figure(f"picks_{name}", f"Picks of {program} in {name}", "All picks that the program keeps.")
        draw_decisions(path, [(name, to_show(row, micrograph), table.assign(kept=True))], float(row["micrograph_pixel_size"]))
