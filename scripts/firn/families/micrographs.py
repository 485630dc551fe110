"""The walk over the micrographs of a batch: what all jobs that look at exposures one by one share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from firn.errors import ExposureError
from firn.formats.exposures import failed_row, load_micrograph
from firn.formats.tables import read_table
from firn.runtime.ahead import made_ahead
from firn.runtime.job import Job


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
        panels.append((str(row["exposure_id"]), micrograph, picks[picks["exposure_id"] == row["exposure_id"]]))
    return panels
