"""Find movies, check their headers, give them stable ids and put them into batches."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError
from firn.formats import discovery, gain
from firn.formats.defects import read_defects
from firn.formats.movie import MovieHeader
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_batches, write_table
from firn.report.imports import draw_import
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

DEFAULT_FRACTIONS = 40


class Params(JobParams):
    """Find movies by name or pattern, check that each is whole and like the others, and put them into batches; movies are never copied."""

    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    source: str | None = slot("movies", optional=True)
    """Simulated movies to take; what it tells (files, gain, optics, dose) need not be given."""
    files: str | list[str] | None = None
    """Pattern such as `raw/*.tif`, or a list of patterns; TIFF, EER, MRC, MRC.bz2, relative to the run folder."""
    gain: str | None = None
    """Gain reference (MRC, TIFF or .gain) that multiplies the counts; for EER, one not named .gain divides."""
    gain_flip_x: bool = False
    """Mirror the gain left against right, after turning it."""
    gain_flip_y: bool = False
    """Mirror the gain top against bottom, after turning it."""
    gain_rotate: int = Field(0, ge=0, le=3)
    """Quarter turns of the gain, counter-clockwise as seen with row 0 at the bottom."""
    defects: str | None = None
    """Defect pixels: a text file with rows `x y width height`, or an image in which 1 means defect."""
    pixel_size: float | None = Field(None, gt=0, le=20)
    """Å. Physical pixel of the detector; default from the source or the MRC header. EER upsampling divides it."""
    voltage_kv: float | None = Field(None, ge=60, le=1000)
    """kV. Acceleration voltage."""
    cs_mm: float | None = Field(None, ge=0, le=10)
    """mm. Spherical aberration; 0.001 for a corrected microscope."""
    amplitude_contrast: float | None = Field(None, ge=0, lt=1)
    """Fraction of amplitude contrast; 0.1 unless the source tells otherwise."""
    dose_per_frame: float | None = Field(None, gt=0)
    """e/Å². Dose of one frame (of one fraction, for EER)."""
    total_dose: float | None = Field(None, gt=0)
    """e/Å². Dose of a whole movie, instead of dose_per_frame."""
    pre_exposure: float | None = Field(None, ge=0)
    """e/Å². Dose before the first frame; 0 unless the source tells otherwise."""
    eer_fractions: int | None = Field(None, ge=1, le=1000)
    """Number of fractions that the raw frames of an EER movie are summed to; 40 unless the source tells otherwise."""
    eer_upsampling: int = Field(2, ge=1, le=4)
    """1, 2 or 4. Finer grid on which the events of an EER movie are placed."""
    batch_size: int = Field(10, ge=1)
    """Movies that later jobs take together."""
    skip_header_check: bool = False
    """Take the first movie's header for all, which saves time on slow disks; damage is then noticed later."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if (self.files is None) == (self.source is None):
            raise ValueError("either files or source must be given, not both")
        if self.dose_per_frame is not None and self.total_dose is not None:
            raise ValueError("dose_per_frame and total_dose exclude each other")
        return self


def run(job: Job[Params]) -> None:
    """Write exposures.star, its batches, failed.star, the gain as it will be applied, and one figure."""
    told = _read_source(job)
    files = list(told["movie"]) if told is not None else discovery.expand_files(job.params.files or [])
    headers, faults = _check_files(job, files, _fractions(job.params, told))
    if not headers:
        raise InputError(f"job {job.name}: none of {len(files)} movies can be used; the first: {next(iter(faults.values()))}")
    table = _describe(job, headers, told, _fractions(job.params, told))
    table, reference = _attach_gain(job, table, next(iter(headers.values())), told)
    _write(job, table, faults)
    _report(job, table, faults, reference)


def _read_source(job: Job[Params]) -> pd.DataFrame | None:
    return read_table(job.input("source", "movies.star"), "movies", needs=("movie",)) if job.has("source") else None


def _fractions(params: Params, told: pd.DataFrame | None) -> int:
    if params.eer_fractions is not None:
        return params.eer_fractions
    return int(told["frames"].iloc[0]) if told is not None and "frames" in told.columns else DEFAULT_FRACTIONS


def _check_files(job: Job[Params], files: list[str], fractions: int) -> tuple[dict[str, MovieHeader], dict[str, ExposureError]]:
    eer = (fractions, job.params.eer_upsampling)
    if job.params.skip_header_check:
        return discovery.first_like_all(files, *eer), {}
    sound, faults = discovery.check_headers(job.over(files, "movies"), *eer)
    good, odd = discovery.split_odd_ones(sound)
    return good, faults | odd


def _describe(job: Job[Params], headers: dict[str, MovieHeader], told: pd.DataFrame | None, fractions: int) -> pd.DataFrame:
    paths = list(headers)
    first = headers[paths[0]]
    table = pd.DataFrame(
        {"exposure_id": [discovery.identify(path) for path in paths], "batch": discovery.batch_names(len(paths), job.params.batch_size)}
    )
    table = table.assign(movie=paths, frames=first.frames, width_px=first.width, height_px=first.height)
    if first.format == "eer":
        table = table.assign(eer_fractions=fractions, eer_upsampling=job.params.eer_upsampling)
    rows = told.set_index("movie").loc[paths].reset_index() if told is not None else pd.DataFrame(index=range(len(paths)))
    return table.assign(**_settings(job.params, rows, first))


def _settings(params: Params, rows: pd.DataFrame, first: MovieHeader) -> dict[str, Any]:
    """Optics and dose of each row: as given, else as the source tells, else the header's or a default."""
    finer = params.eer_upsampling if first.format == "eer" else 1
    if {"dose_per_frame", "frames"} <= set(rows.columns):
        rows = rows.assign(dose_per_frame=rows["dose_per_frame"] * rows["frames"] / first.frames)
    dose = params.total_dose / first.frames if params.total_dose else params.dose_per_frame
    pixel = _given("pixel_size", params.pixel_size, rows, "movie_pixel_size", first.pixel_size) / finer
    return {
        "dose_per_frame": _given("dose_per_frame (or total_dose)", dose, rows, "dose_per_frame", None),
        "pre_exposure": _given("pre_exposure", params.pre_exposure, rows, "pre_exposure", 0.0),
        "voltage_kv": _given("voltage_kv", params.voltage_kv, rows, "voltage_kv", None),
        "cs_mm": _given("cs_mm", params.cs_mm, rows, "cs_mm", None),
        "amplitude_contrast": _given("amplitude_contrast", params.amplitude_contrast, rows, "amplitude_contrast", 0.1),
        "movie_pixel_size": pixel,
        "micrograph_pixel_size": pixel,
    }


def _given(parameter: str, value: float | None, rows: pd.DataFrame, column: str, default: float | None) -> Any:
    if value is not None:
        return float(value)
    if column in rows.columns:
        return rows[column].to_numpy()
    if default is None:
        raise InputError(f"import_movies: {parameter} must be given, since neither a source nor the movies tell it")
    return float(default)


def _attach_gain(
    job: Job[Params], table: pd.DataFrame, first: MovieHeader, told: pd.DataFrame | None
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The table with the column `gain`, and the gain as it multiplies, written to gain.mrc with 0 at defects."""
    path = job.params.gain or _source_gain(told)
    shape = (first.height, first.width)
    if path is None and job.params.defects is None:
        return table, None
    if path is None:
        reference = np.ones(shape, dtype=np.float32)
    else:
        p = job.params
        divides = p.gain is not None and gain.is_divisor(path, first.format)
        reference = gain.read_gain(path, p.gain_flip_x, p.gain_flip_y, p.gain_rotate, divides)
        reference = gain.fit_gain(reference, shape, path)
    if job.params.defects is not None:
        reference = np.where(read_defects(job.params.defects, shape), 0, reference)
    write_image(job.folder / "gain.mrc", reference, float(table["movie_pixel_size"].iloc[0]))
    return table.assign(gain=job.output_path("gain.mrc")), reference


def _source_gain(told: pd.DataFrame | None) -> str | None:
    if told is None or "gain" not in told.columns:
        return None
    names = {str(name) for name in told["gain"]} - {"", "None", "nan"}
    if len(names) > 1:
        raise InputError(f"source: names {len(names)} gain references, but one import takes one")
    return names.pop() if names else None


def _write(job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError]) -> None:
    job.batches = list(dict.fromkeys(table["batch"]))
    write_table(job.folder / "exposures.star", table, "exposures")
    write_batches(job.folder, table, "exposures", job.batches)
    if faults:
        write_table(job.folder / "failed.star", discovery.failed_rows(faults, "movie"), "failed")
        job.warn(f"{len(faults)} of {len(faults) + len(table)} movies cannot be used; the first: {next(iter(faults.values()))}")


def _report(job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError], reference: np.ndarray | None) -> None:
    job.metric("movies_accepted", len(table))
    job.metric("movies_failed", len(faults))
    job.metric("frames", float(table["frames"].iloc[0]))
    job.metric("total_dose", float(table["dose_per_frame"].iloc[0] * table["frames"].iloc[0]), "e/Å²")
    reasons = pd.Series([fault.code for fault in faults.values()], dtype=object).value_counts().to_dict()
    caption = f"{len(table)} movies of {Path(str(table['movie'].iloc[0])).suffix}, {len(faults)} refused (see failed.star)."
    draw_import(job.figure("import", "Imported movies", caption), len(table), reasons, reference, "Gain reference")
