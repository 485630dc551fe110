"""Find movies, check their headers, give them stable ids and put them into batches."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError
from firn.families.detector import DetectorParams, Reference, make_reference
from firn.formats import discovery
from firn.formats.movie import MovieHeader
from firn.formats.mrc import write_image
from firn.formats.sidecar import Sidecar, find_sidecars, read_sidecar
from firn.formats.tables import read_table, write_batches, write_table
from firn.report.imports import draw_import
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot

DEFAULT_FRACTIONS = 40


class Params(DetectorParams):
    """Find movies by name or pattern, check that each is whole and like the others, and put them into batches; movies are never copied."""

    revision: ClassVar[int] = 3
    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    source: str | None = slot("movies", optional=True)
    """Simulated movies to take; what it tells (files, gain, optics, dose) need not be given."""
    files: str | list[str] | None = None
    """Pattern such as `raw/*.tif`, or a list of patterns; TIFF, EER, MRC, MRC packed as bz2, gz or xz, relative to the run folder."""
    pixel_size: float | None = Field(None, gt=0, le=20)
    """Å. Physical pixel of the detector; default from the source, the metadata or the header. EER upsampling divides it."""
    voltage_kv: float | None = Field(None, ge=60, le=1000)
    """kV. Acceleration voltage; default from the source or the metadata."""
    cs_mm: float | None = Field(None, ge=0, le=10)
    """mm. Spherical aberration; 0.001 for a corrected microscope."""
    amplitude_contrast: float | None = Field(None, ge=0, lt=1)
    """Fraction of amplitude contrast; 0.1 unless the source tells otherwise."""
    dose_per_frame: float | None = Field(None, gt=0)
    """e/Å². Dose of one frame (of one fraction, for EER); default from the source or the metadata."""
    total_dose: float | None = Field(None, gt=0)
    """e/Å². Dose of a whole movie, instead of dose_per_frame."""
    pre_exposure: float | None = Field(None, ge=0)
    """e/Å². Dose before the first frame; 0 unless the source tells otherwise."""
    eer_fractions: int | None = Field(None, ge=1, le=1000)
    """Number of fractions that the raw frames of an EER movie are summed to; 40 unless the source tells otherwise."""
    batch_size: int = Field(10, ge=1)
    """Movies that later jobs take together."""
    read_metadata: bool = True
    """Read what the microscope's program wrote of each movie (EPU's XML, SerialEM's mdoc): kV, pixel size, dose, frames, beam shift, stage position."""
    metadata: str | None = None
    """Folder below which such files are looked for by the movies' names. Default: beside the movies."""
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
    listed = discovery.expand_files if job.batch is None else discovery.named_files
    files = list(told["movie"]) if told is not None else listed(job.params.files or [])
    fractions = _fractions(job.params, told)
    headers, faults = _check_files(job, files, fractions)
    sidecars = _read_sidecars(job, headers)
    faults |= _find_contradictions(job, headers, sidecars)
    headers = _without(job, headers, faults, len(files))
    reference = Reference()
    if not job.has("reference"):
        reference = make_reference(job, headers, job.params.gain or _source_gain(told), fractions, job.params.gain is None)
    faults |= reference.faults
    headers = _without(job, headers, faults, len(files))
    table = _describe(job, headers, told, sidecars, fractions)
    gain = _place_gain(job, reference, float(table["movie_pixel_size"].iloc[0]))
    table = table if gain is None else table.assign(gain=gain)
    doubt = discovery.doubt_pixel_size(headers, job.params.pixel_size) if told is None and not sidecars else None
    if doubt is not None:
        job.warn(doubt)
    _write(job, table, faults)
    _report(job, table, faults, reference)


def _without(job: Job[Params], headers: dict[str, MovieHeader], faults: dict[str, ExposureError], found: int) -> dict[str, MovieHeader]:
    left = {path: header for path, header in headers.items() if path not in faults}
    if not left:
        raise InputError(f"job {job.name}: none of {found} movies can be used; the first: {next(iter(faults.values()))}")
    return left


def refuse(job: Job[Params], refused: dict[str, ExposureError]) -> None:
    """Write failed.star of files that were set aside before any batch took them."""
    write_table(job.folder / "failed.star", discovery.failed_rows(refused, "movie"), "failed")
    job.metric("movies_failed", len(refused))


def _place_gain(job: Job[Params], reference: Reference, pixel_size: float) -> str | None:
    """Where the gain lies, if there is one: written here, or in a batch of a live session, the one that its first batch settled."""
    if job.has("reference"):
        settled = job.input("reference", "gain.mrc")
        return str(settled) if settled.exists() else None
    if reference.image is None:
        return None
    write_image(job.folder / "gain.mrc", reference.image, pixel_size)
    return job.output_path("gain.mrc")


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


def _read_sidecars(job: Job[Params], headers: dict[str, MovieHeader]) -> dict[str, Sidecar]:
    """What the microscope's program wrote of each movie, by its path; a file that cannot be read is remarked upon and left out."""
    if not job.params.read_metadata or job.params.source is not None:
        return {}
    found: dict[str, Sidecar] = {}
    for movie, path in find_sidecars(headers, job.params.metadata).items():
        try:
            found[movie] = read_sidecar(path)
        except InputError as error:
            job.warn(str(error))
    if job.params.metadata is not None and not found:
        job.warn(f"{job.params.metadata}: holds no mdoc and no XML named like one of the movies")
    return found


def _find_contradictions(job: Job[Params], headers: dict[str, MovieHeader], sidecars: dict[str, Sidecar]) -> dict[str, ExposureError]:
    """Faults FRAMES of movies shorter than was recorded, and PIXELSIZE or VOLTAGE of those with others than most, where none is given."""
    faults: dict[str, ExposureError] = {}
    if job.params.voltage_kv is None:
        for path, (volts, usual) in _odd_ones({path: sidecar.voltage_kv for path, sidecar in sidecars.items()}).items():
            told = f"{sidecars[path].path} tells of {volts:.4g} kV, but most others of {usual:.4g} kV; import them one by one"
            faults[path] = ExposureError("VOLTAGE", f"{path}: {told}")
    if job.params.pixel_size is None:
        for path, (size, usual) in _odd_ones(
            {path: _own_pixel_size(header, sidecars.get(path)) for path, header in headers.items()}
        ).items():
            faults[path] = ExposureError("PIXELSIZE", f"{path}: has pixels of {size:.4g} Å, but most others have {usual:.4g} Å")
    for path, header in headers.items():
        wanted = sidecars[path].frames if path in sidecars else None
        if wanted is not None and header.format != "eer" and header.frames < wanted:
            faults[path] = ExposureError("FRAMES", f"{path}: has {header.frames} frames, but {sidecars[path].path} tells of {wanted}")
    return faults


def _odd_ones(values: dict[str, float | None]) -> dict[str, tuple[float, float]]:
    """(own value, that of most) of those that have another one than most."""
    known = {path: value for path, value in values.items() if value is not None}
    usual = float(np.quantile(list(known.values()), 0.5, method="lower")) if known else 0.0
    return {path: (value, usual) for path, value in known.items() if abs(value - usual) > discovery.PIXEL_TOLERANCE * usual}


def _own_pixel_size(header: MovieHeader, sidecar: Sidecar | None) -> float | None:
    """Å of a physical pixel: as recorded beside the movie, else as its header says."""
    return (sidecar.pixel_of(header.width) if sidecar is not None and header.format != "eer" else None) or header.pixel_size


def _describe(
    job: Job[Params], headers: dict[str, MovieHeader], told: pd.DataFrame | None, sidecars: dict[str, Sidecar], fractions: int
) -> pd.DataFrame:
    paths = list(headers)
    first = headers[paths[0]]
    table = pd.DataFrame(
        {
            "exposure_id": [discovery.identify(path) for path in paths],
            "batch": [job.batch] * len(paths) if job.batch else discovery.batch_names(len(paths), job.params.batch_size),
        }
    )
    table = table.assign(movie=paths, frames=first.frames, width_px=first.width, height_px=first.height)
    if first.format == "eer":
        table = table.assign(eer_fractions=fractions, eer_upsampling=job.params.eer_upsampling)
    rows = told.set_index("movie").loc[paths].reset_index() if told is not None else pd.DataFrame(index=range(len(paths)))
    for name in ("beam_shift", "stage"):
        pairs = [getattr(sidecars.get(path), name, None) for path in paths]
        if pairs and all(pair is not None for pair in pairs):
            table = table.assign(**dict(zip((f"{name}_x", f"{name}_y"), np.array(pairs).T, strict=True)))
    recorded = [sidecars[path] for path in paths if path in sidecars]
    return table.assign(**_settings(job.params, rows, first, recorded))


def _settings(params: Params, rows: pd.DataFrame, first: MovieHeader, recorded: list[Sidecar]) -> dict[str, Any]:
    """Optics and dose of each row: as given, else as the source tells, else as recorded, else the header's or a default."""
    finer = params.eer_upsampling if first.format == "eer" else 1
    if {"dose_per_frame", "frames"} <= set(rows.columns):
        rows = rows.assign(dose_per_frame=rows["dose_per_frame"] * rows["frames"] / first.frames)
    dose = params.total_dose * first.used / first.frames if params.total_dose else params.dose_per_frame
    whole = _median([sidecar.total_dose for sidecar in recorded])
    recorded_dose = whole * first.used / first.frames if whole else None
    own = _own_pixel_size(first, recorded[0] if recorded else None)
    pixel = _given("pixel_size", params.pixel_size, rows, "movie_pixel_size", own) / finer
    return {
        "dose_per_frame": _given("dose_per_frame (or total_dose)", dose, rows, "dose_per_frame", recorded_dose),
        "pre_exposure": _given("pre_exposure", params.pre_exposure, rows, "pre_exposure", 0.0),
        "voltage_kv": _given("voltage_kv", params.voltage_kv, rows, "voltage_kv", _median([sidecar.voltage_kv for sidecar in recorded])),
        "cs_mm": _given("cs_mm", params.cs_mm, rows, "cs_mm", None),
        "amplitude_contrast": _given("amplitude_contrast", params.amplitude_contrast, rows, "amplitude_contrast", 0.1),
        "movie_pixel_size": pixel,
        "micrograph_pixel_size": pixel,
    }


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _given(parameter: str, value: float | None, rows: pd.DataFrame, column: str, default: float | None) -> Any:
    if value is not None:
        return float(value)
    if column in rows.columns:
        return rows[column].to_numpy()
    if default is None:
        raise InputError(f"import_movies: {parameter} must be given, since neither a source nor the movies nor files beside them tell it")
    return float(default)


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
    if job.batch is None:
        write_batches(job.folder, table, "exposures", job.batches)
    if faults:
        write_table(job.folder / "failed.star", discovery.failed_rows(faults, "movie"), "failed")
        job.warn(f"{len(faults)} of {len(faults) + len(table)} movies cannot be used; the first: {next(iter(faults.values()))}")


def _report(job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError], reference: Reference) -> None:
    job.metric("movies_accepted", len(table))
    job.metric("movies_failed", len(faults))
    job.metric("frames", float(table["frames"].iloc[0]))
    job.metric("total_dose", float(table["dose_per_frame"].iloc[0] * table["frames"].iloc[0]), "e/Å²")
    reasons = pd.Series([fault.code for fault in faults.values()], dtype=object).value_counts().to_dict()
    caption = f"{len(table)} movies of {Path(str(table['movie'].iloc[0])).suffix}, {len(faults)} refused (see failed.star)."
    draw_import(
        job.figure("import", "Imported movies", caption), len(table), reasons, reference.image, "Gain reference", scores=reference.scores
    )
