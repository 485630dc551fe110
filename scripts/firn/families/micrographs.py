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
