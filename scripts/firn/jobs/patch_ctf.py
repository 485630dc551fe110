"""Estimate the CTF of exposures: defocus, astigmatism, a defocus surface, and how far the rings can be followed."""

import math
from typing import Any, ClassVar

import pandas as pd

from firn.errors import ExposureError
from firn.families.ctf import NEEDS, CtfParams, ctf_columns, draw_fit, fit_exposure, read_image, record_fits, without_fit
from firn.formats.exposures import failed_row, write_failed
from firn.formats.tables import read_table, require_columns, write_table
from firn.runtime.job import Job


class Params(CtfParams):
    """Estimate the contrast transfer function: defocus, astigmatism, tilt and bend of the specimen, and how far the rings can be followed."""

    revision: ClassVar[int] = 3


def run(job: Job[Params]) -> None:
    """Fit every exposure of the batch; one that cannot be fitted goes to failed.star with its reason."""
    path = job.input("exposures", "exposures.star")
    table = read_table(path, "exposures")
    require_columns(table, NEEDS if len(table) else (), path)
    if job.params.model != "fit":
        write_table(job.folder / "exposures.star", without_fit(table, job.params), "exposures")
        job.metric("exposures", len(table))
        return
    fitted: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for row in job.over(table.to_dict("records"), "exposures"):
        try:
            image = read_image(row)
            estimate = fit_exposure(job, row, image)
        except ExposureError as error:
            failed.append(failed_row(row, error))
            job.warn(str(error))
            continue
        fitted.append(row | ctf_columns(estimate, image.shape, float(row["micrograph_pixel_size"])))
        if len(fitted) <= job.params.plots:
            draw_fit(job, row, estimate, image.shape)
    write_table(job.folder / "exposures.star", pd.DataFrame(fitted, columns=None if fitted else table.columns), "exposures")
    write_failed(job.folder, failed)
    _record(job, pd.DataFrame(fitted), len(failed))


def _record(job: Job[Params], table: pd.DataFrame, failures: int) -> None:
    record_fits(job, table, failures)
    if table.empty:
        return
    score = float(table["ctf_score"].median())
    job.metric("median_ctf_score", score if math.isfinite(score) else 0.0)
    job.metric("median_specimen_tilt", float(table["specimen_tilt"].median()), "degrees")
