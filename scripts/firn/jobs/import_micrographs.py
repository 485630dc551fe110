"""Find micrographs that are already aligned, check them, give them stable ids and put them into batches."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import ExposureError, InputError
from firn.formats import discovery
from firn.formats.movie import MovieHeader, iterate_frames
from firn.formats.mrc import write_image
from firn.formats.tables import write_batches, write_table
from firn.report.imports import draw_import
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane


class Params(JobParams):
    """Find aligned micrographs by name or pattern, check each, and put them into batches; MRC files are used where they lie."""

    stage: ClassVar[str] = "import"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    files: str | list[str]
    """Pattern such as `micrographs/*.mrc`, or a list of patterns; MRC, TIFF, or MRC packed as bz2, gz or xz, relative to the run folder."""
    pixel_size: float | None = Field(None, gt=0, le=50)
    """Å. Default: from the MRC header."""
    voltage_kv: float = Field(ge=60, le=1000)
    """kV. Acceleration voltage."""
    cs_mm: float = Field(ge=0, le=10)
    """mm. Spherical aberration; 0.001 for a corrected microscope."""
    amplitude_contrast: float = Field(0.1, ge=0, lt=1)
    """Fraction of amplitude contrast."""
    batch_size: int = Field(10, ge=1)
    """Micrographs that later jobs take together."""
    skip_header_check: bool = False
    """Check headers only, and do not read the images for NaN or empty ones."""


def run(job: Job[Params]) -> None:
    """Write exposures.star, its batches, failed.star and one figure; TIFF images are converted to MRC."""
    files = discovery.expand_files(job.params.files)
    sound, faults = discovery.check_headers(files)
    good, odd = discovery.split_odd_ones(sound)
    faults |= odd
    names, unreadable = _check_images(job, good)
    faults |= unreadable
    if not names:
        raise InputError(f"job {job.name}: none of {len(files)} micrographs can be used; the first: {next(iter(faults.values()))}")
    table = _describe(job, {path: good[path] for path in names}, names)
    doubt = discovery.doubt_pixel_size({path: good[path] for path in names}, job.params.pixel_size)
    if doubt is not None:
        job.warn(doubt)
    _write(job, table, faults)
    _report(job, table, faults)


def _check_images(job: Job[Params], headers: dict[str, MovieHeader]) -> tuple[dict[str, str], dict[str, ExposureError]]:
    """(path in the table by original path, faults by path); reads the image unless told to skip that."""
    names: dict[str, str] = {}
    faults: dict[str, ExposureError] = {}
    for path, header in job.over(headers.items(), "micrographs", total=len(headers)):
        try:
            if header.frames != 1:
                raise ExposureError("FRAMES", f"{path}: holds {header.frames} images, so it is a movie or a stack and not a micrograph")
            names[path] = _check_image(job, path, header)
        except ExposureError as fault:
            faults[path] = fault
    return names, faults


def _check_image(job: Job[Params], path: str, header: MovieHeader) -> str:
    if header.format == "mrc":
        if not job.params.skip_header_check:
            _read_image(path)
        return path
    name = f"micrographs/{Path(path).stem}_{discovery.identify(path)}.mrc"
    write_image(job.folder / name, _read_image(path), _pixel_size(job.params, path, header))
    return job.output_path(name)


def _read_image(path: str) -> np.ndarray:
    return next(iterate_frames(path))


def _pixel_size(params: Params, path: str, header: MovieHeader) -> float:
    pixel_size = params.pixel_size or header.pixel_size
    if pixel_size is None:
        raise InputError(f"{path}: its header tells no pixel size, so pixel_size must be given")
    return pixel_size


def _describe(job: Job[Params], headers: dict[str, MovieHeader], names: dict[str, str]) -> pd.DataFrame:
    pixel_sizes = [_pixel_size(job.params, path, header) for path, header in headers.items()]
    return pd.DataFrame(
        {
            "exposure_id": [discovery.identify(path) for path in headers],
            "batch": discovery.batch_names(len(headers), job.params.batch_size),
            "micrograph": list(names.values()),
            "width_px": [header.width for header in headers.values()],
            "height_px": [header.height for header in headers.values()],
            "voltage_kv": job.params.voltage_kv,
            "cs_mm": job.params.cs_mm,
            "amplitude_contrast": job.params.amplitude_contrast,
            "micrograph_pixel_size": np.round(pixel_sizes, 6),
        }
    )


def _write(job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError]) -> None:
    job.batches = list(dict.fromkeys(table["batch"]))
    write_table(job.folder / "exposures.star", table, "exposures")
    write_batches(job.folder, table, "exposures", job.batches)
    if faults:
        write_table(job.folder / "failed.star", discovery.failed_rows(faults, "micrograph"), "failed")
        job.warn(f"{len(faults)} of {len(faults) + len(table)} micrographs cannot be used; the first: {next(iter(faults.values()))}")


def _report(job: Job[Params], table: pd.DataFrame, faults: dict[str, ExposureError]) -> None:
    job.metric("micrographs_accepted", len(table))
    job.metric("micrographs_failed", len(faults))
    job.metric("pixel_size", float(table["micrograph_pixel_size"].iloc[0]), "Å")
    reasons = pd.Series([fault.code for fault in faults.values()], dtype=object).value_counts().to_dict()
    first = str(table["micrograph"].iloc[0])
    caption = f"{len(table)} micrographs, {len(faults)} refused (see failed.star); the picture is the first one."
    image = _read_image(job.staged_path(first)).astype(np.float32)
    draw_import(
        job.figure("import", "Imported micrographs", caption),
        len(table),
        reasons,
        image,
        Path(first).name,
        float(table["micrograph_pixel_size"].iloc[0]),
    )
