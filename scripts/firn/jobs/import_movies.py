"""Find movies, check their headers, give them stable ids and put them into batches."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError
from firn.formats import discovery, gain
from firn.formats.defects import read_defects
from firn.formats.frame_sums import spread_out, sum_movies
from firn.formats.movie import MovieHeader
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_batches, write_table
from firn.preprocess.gain_pattern import Finding, Orientation, estimate_gain, find_orientation, residual_pattern
from firn.report.imports import draw_import
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

DEFAULT_FRACTIONS = 40
FRAMES_COMPARED = 4
PIXEL_TOLERANCE = 0.05
LARGEST_ERROR = 0.5
"""Greatest error of an estimated gain, as a share of the detector's pattern, that needs no remark."""


class Params(JobParams):
    """Find movies by name or pattern, check that each is whole and like the others, and put them into batches; movies are never copied."""

    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    source: str | None = slot("movies", optional=True)
    """Simulated movies to take; what it tells (files, gain, optics, dose) need not be given."""
    files: str | list[str] | None = None
    """Pattern such as `raw/*.tif`, or a list of patterns; TIFF, EER, MRC, MRC packed as bz2, gz or xz, relative to the run folder."""
    gain: str | None = None
    """Gain reference (MRC, packed MRC, TIFF or .gain) that multiplies the counts; for EER, one not named .gain divides."""
    gain_flip_x: bool | None = None
    """Mirror the gain left against right, after turning it. Default: found from the movies."""
    gain_flip_y: bool | None = None
    """Mirror the gain top against bottom, after turning it. Default: found from the movies."""
    gain_rotate: int | None = Field(None, ge=0, le=3)
    """Quarter turns of the gain, counter-clockwise as seen with row 0 at the bottom. Default: found from the movies."""
    gain_divides: bool | None = None
    """The gain divides the counts instead of multiplying them. Default: found from the movies, or told by the file's name."""
    gain_check_movies: int = Field(8, ge=0, le=1000)
    """Movies whose first frames are compared with the gain in its eight orientations; 0 takes the gain as it is given."""
    gain_estimate_movies: int = Field(0, ge=0, le=10000)
    """Movies whose mean gives the gain when there is none; 0 applies no gain then."""
    defects: str | None = None
    """Defect pixels: rows `x y width height` or `x y`, a SerialEM defect file, or an image in which 1 means defect."""
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
    fractions = _fractions(job.params, told)
    headers, faults = _check_files(job, files, fractions)
    _need_one(job, headers, files, faults)
    reference, scores, unreadable = _make_gain(job, headers, _gain_file(job.params, told), fractions)
    headers = {path: header for path, header in headers.items() if path not in unreadable}
    faults |= unreadable
    _need_one(job, headers, files, faults)
    table = _describe(job, headers, told, fractions)
    if reference is not None:
        write_image(job.folder / "gain.mrc", reference, float(table["movie_pixel_size"].iloc[0]))
        table = table.assign(gain=job.output_path("gain.mrc"))
    _warn_of_pixel_size(job, headers)
    _write(job, table, faults)
    _report(job, table, faults, reference, scores)


def _need_one(job: Job[Params], headers: dict[str, MovieHeader], files: list[str], faults: dict[str, ExposureError]) -> None:
    if not headers:
        raise InputError(f"job {job.name}: none of {len(files)} movies can be used; the first: {next(iter(faults.values()))}")


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
    dose = params.total_dose * first.used / first.frames if params.total_dose else params.dose_per_frame
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


def _warn_of_pixel_size(job: Job[Params], headers: dict[str, MovieHeader]) -> None:
    """A header's pixel size that is another than the one given, or that programs write when they do not know."""
    path, header = next(iter(headers.items()))
    given, found = job.params.pixel_size, header.pixel_size
    if given is None and found is not None and abs(found - 1) < 1e-6 and job.params.source is None:
        job.warn(
            f"{path}: its header tells a pixel size of exactly 1 Å, as programs write when they do not know; give pixel_size to be sure"
        )
    if given is not None and found is not None and abs(found - 1) > 1e-6 and abs(found - given) > PIXEL_TOLERANCE * given:
        job.warn(f"{path}: its header tells a pixel size of {found:.4g} Å, but pixel_size is {given:g} Å, which is taken")


def _gain_file(params: Params, told: pd.DataFrame | None) -> str | None:
    return params.gain or _source_gain(told)


def _make_gain(
    job: Job[Params], headers: dict[str, MovieHeader], path: str | None, fractions: int
) -> tuple[np.ndarray | None, dict[str, float], dict[str, ExposureError]]:
    """(gain as it multiplies, 0 at defects, or None; correlation by orientation; faults of movies met while reading them)."""
    first = next(iter(headers.values()))
    shape = (first.height, first.width)
    reference: np.ndarray | None = None
    scores: dict[str, float] = {}
    faults: dict[str, ExposureError] = {}
    if path is not None:
        stored = gain.read_gain(path, invert=gain.is_divisor(path, first.format), rows_as_stored=gain.keeps_rows(path, first.format))
        stored = gain.coarsen_gain(stored, shape)
        orientation, scores, faults = _orient(job, headers, stored, path, fractions)
        stored = np.divide(1, stored, out=np.zeros_like(stored), where=stored > 0) if orientation.divides else stored
        reference = gain.fit_gain(np.ascontiguousarray(orientation.apply(stored)), shape, path)
    elif job.params.gain_estimate_movies:
        estimated, faults = _estimate(job, headers, fractions)
        reference = gain.fit_gain(estimated, shape, "estimate")
    if job.params.defects is not None:
        reference = np.ones(shape, dtype=np.float32) if reference is None else reference
        reference = np.where(read_defects(job.params.defects, shape), 0, reference)
    return reference, scores, faults


def _orient(
    job: Job[Params], headers: dict[str, MovieHeader], stored: np.ndarray, path: str, fractions: int
) -> tuple[Orientation, dict[str, float], dict[str, ExposureError]]:
    """(orientation to use, correlation by orientation, faults): as given, else as the first frames of the movies show beyond doubt."""
    p = job.params
    free = p.source is None and p.gain_rotate is None and p.gain_flip_x is None and p.gain_flip_y is None
    by_name = gain.is_divisor(path, next(iter(headers.values())).format)
    inverted = p.gain_divides is not None and p.gain_divides != by_name
    given = Orientation.given(p.gain_rotate or 0, bool(p.gain_flip_x), bool(p.gain_flip_y), inverted)
    if not p.gain_check_movies:
        return given, {}, {}
    sums, faults = _sum_first(job, headers, p.gain_check_movies, FRAMES_COMPARED, fractions)
    finding = find_orientation(gain.coarsen_sum(sums[0] + sums[1], stored.shape), stored)
    if finding is None:
        return given, {}, faults
    chosen = _decide(job, path, finding, given, free, p.gain_divides is None and p.source is None)
    _record_pattern(job, finding, sums, chosen, stored)
    return chosen, {orientation.short: score for orientation, score in finding.correlations.items()}, faults


def _decide(job: Job[Params], path: str, finding: Finding, given: Orientation, free: bool, free_sign: bool) -> Orientation:
    """The orientation found where it is clear and not given otherwise; a warning wherever the user should look."""
    best = finding.best
    if finding.clear:
        chosen = Orientation(
            *((best.rotate, best.flip_x) if free else (given.rotate, given.flip_x)), best.divides if free_sign else given.divides
        )
        if chosen != best:
            job.warn(f"{path}: the movies show this gain with {best}, but it was given with {given}, which is taken")
        elif chosen != given:
            job.warn(f"{path}: the movies show this gain with {best}, which is taken ({_spelled(best)})")
        return chosen
    if finding.absent:
        job.warn(
            f"{path}: the pattern of this gain is in none of the movies in any orientation; are they corrected already, or is it another camera's?"
        )
    elif free and Orientation(given.rotate, given.flip_x) not in finding.correlations:
        raise InputError(
            f"{path}: must be turned to fit the movies, but they do not show which way; give gain_rotate, gain_flip_x and gain_flip_y"
        )
    elif free:
        job.warn(f"{path}: the movies do not show beyond doubt how this gain lies, so it is taken as it is stored")
    return given


def _spelled(orientation: Orientation) -> str:
    """The parameters that say the same."""
    mirror, sign = str(orientation.flip_x).lower(), ", gain_divides: true" if orientation.divides else ""
    return f"gain_rotate: {orientation.rotate}, gain_flip_x: {mirror}{sign}"


def _record_pattern(
    job: Job[Params], finding: Finding, sums: tuple[np.ndarray, np.ndarray], chosen: Orientation, stored: np.ndarray
) -> None:
    """Metrics: how clear the orientation is, and how much of the detector's pattern the gain takes away."""
    job.metric("gain_evidence", finding.evidence)
    job.metric("gain_correlation_sigmas", finding.sigmas)
    applied = np.divide(1, stored, out=np.zeros_like(stored), where=stored > 0) if chosen.divides else stored
    turned = chosen.apply(applied)
    halves = (gain.coarsen_sum(sums[0], turned.shape), gain.coarsen_sum(sums[1], turned.shape))
    if turned.shape == halves[0].shape:
        before, after = residual_pattern(halves, turned)
        job.metric("detector_pattern", 100 * before, "%")
        job.metric("detector_pattern_left", 100 * after, "%")


def _estimate(job: Job[Params], headers: dict[str, MovieHeader], fractions: int) -> tuple[np.ndarray, dict[str, ExposureError]]:
    """(gain estimated from the mean of movies, faults); warns when the counts do not suffice for more than part of it."""
    halves, faults = _sum_first(job, headers, job.params.gain_estimate_movies, None, fractions)
    estimated, pattern, error = estimate_gain(halves)
    job.metric("detector_pattern", 100 * pattern, "%")
    job.metric("gain_error", 100 * error, "%")
    if error > LARGEST_ERROR * pattern:
        counts = float((halves[0] + halves[1]).mean())
        job.warn(
            f"The gain estimated from {counts:.0f} counts per pixel has an error of {100 * error:.1f} %, against a detector pattern of"
            f" {100 * pattern:.1f} %; more movies would give a better one"
        )
    return estimated, faults


def _sum_first(
    job: Job[Params], headers: dict[str, MovieHeader], movies: int, frames: int | None, fractions: int
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, ExposureError]]:
    first = next(iter(headers.values()))
    finer = job.params.eer_upsampling if first.format == "eer" else 1
    chosen = spread_out(list(headers), movies)
    shape = (first.height // finer, first.width // finer)
    return sum_movies(job.over(chosen, "gain", total=len(chosen)), shape, frames, fractions, job.threads)


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


def _report(
    job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError], reference: np.ndarray | None, scores: dict[str, float]
) -> None:
    job.metric("movies_accepted", len(table))
    job.metric("movies_failed", len(faults))
    job.metric("frames", float(table["frames"].iloc[0]))
    job.metric("total_dose", float(table["dose_per_frame"].iloc[0] * table["frames"].iloc[0]), "e/Å²")
    reasons = pd.Series([fault.code for fault in faults.values()], dtype=object).value_counts().to_dict()
    caption = f"{len(table)} movies of {Path(str(table['movie'].iloc[0])).suffix}, {len(faults)} refused (see failed.star)."
    draw_import(job.figure("import", "Imported movies", caption), len(table), reasons, reference, "Gain reference", scores=scores)
