"""The walk over the micrographs of a batch: what all jobs that look at exposures one by one share."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from firn.errors import ExposureError
from firn.formats.exposures import failed_row, load_micrograph
from firn.formats.tables import read_table
from firn.runtime.ahead import made_ahead
from firn.runtime.job import Job

DENOISED = "micrograph_denoised"
"""Column of exposures: a denoised micrograph of the same size, to look at; particles are never cut from it."""


def read_exposures(job: Job[Any]) -> pd.DataFrame:
    """The exposures of the job's batch."""
    return read_table(job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "micrograph", "micrograph_pixel_size"))


def each_micrograph(job: Job[Any], exposures: pd.DataFrame, failed_: list[dict[str, str]]) -> Iterator[tuple[dict[Any, Any], np.ndarray]]:
    """(row, micrograph `(y, x)`) of each exposure, the next one being read; one that cannot be read is added to the failed and left out."""
    for row, reading in made_ahead(job.over(exposures.to_dict("records"), "exposures"), load_micrograph):
        try:
            micrograph = reading.result()
        except ExposureError as error:
            failed_.append(failed_row(row, error))
            continue
        yield row, micrograph


def to_show(row: Mapping[Any, Any], micrograph: np.ndarray) -> np.ndarray:
    """What people are shown of an exposure: its denoised micrograph where one was made and can be read, else the micrograph itself."""
    if not isinstance(row.get(DENOISED), str):
        return micrograph
    try:
        denoised = load_micrograph({"micrograph": row[DENOISED]})
    except ExposureError:
        return micrograph
    return denoised if denoised.shape == micrograph.shape else micrograph


def decision_panels(exposures: pd.DataFrame, picks: pd.DataFrame, counts: np.ndarray) -> list[tuple[str, np.ndarray, pd.DataFrame]]:
    """(id, micrograph, its picks) of the exposures with most, median and fewest counts; those that cannot be read are left out."""
    order = np.argsort(-counts, kind="stable")
    chosen = dict.fromkeys([int(order[0]), int(order[len(order) // 2]), int(order[-1])])
    panels = []
    for number in chosen:
        row = exposures.iloc[number]
        try:
            micrograph = load_micrograph(row.to_dict())
        except ExposureError:
            continue
        panels.append((str(row["exposure_id"]), to_show(row.to_dict(), micrograph), picks[picks["exposure_id"] == row["exposure_id"]]))
    return panels
