"""Fitting the CTF of exposures: what patch_ctf and the fused worker share."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError
from firn.formats.mrc import read_mrc
from firn.kernels.ctf_fit import Optics
from firn.kernels.defocus_surface import NAMES, specimen_tilt
from firn.preprocess.ctf import CtfEstimate, estimate_ctf
from firn.preprocess.ctf_spectrum import CtfSettings
from firn.report.ctf import CtfPicture, draw_ctf
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEEDS = ("exposure_id", "micrograph", "micrograph_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast")
MIN_SIDE_PX = 128
Row = Mapping[Any, Any]


class CtfSearch(JobParams):
    """What is searched in every fit of the CTF, whichever program makes it."""

    stage: ClassVar[str] = "ctf"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    exposures: str = slot("exposures")
    """Exposures with micrographs."""
    min_resolution: float = Field(25.0, gt=0)
    """Å. Lowest resolution used in the fit."""
    max_resolution: float = Field(4.0, gt=0)
    """Å. Highest resolution used in the fit; Nyquist where that is lower."""
    min_defocus: float = Field(1000.0, gt=0)
    """Å. Least underfocus searched."""
    max_defocus: float = Field(40000.0, gt=0)
    """Å. Greatest underfocus searched."""
    fit_phase_shift: bool = False
    """Search the phase shift of a phase plate."""
    min_phase_shift: float = Field(0.0, ge=0, lt=180)
    """Degrees. Least phase shift searched."""
    max_phase_shift: float = Field(180.0, gt=0, le=180)
    """Degrees. Greatest phase shift searched."""
    plots: int = Field(5, ge=0)
    """Number of exposures per batch that get a figure."""

    @model_validator(mode="after")
    def _ordered(self) -> "CtfSearch":
        if self.min_resolution <= self.max_resolution:
            raise ValueError(
                f"min_resolution {self.min_resolution:g} Å must be a lower resolution than max_resolution {self.max_resolution:g} Å"
            )
        if self.min_defocus >= self.max_defocus:
            raise ValueError(f"min_defocus {self.min_defocus:g} must be less than max_defocus {self.max_defocus:g}")
        if self.min_phase_shift >= self.max_phase_shift:
            raise ValueError(f"min_phase_shift {self.min_phase_shift:g} must be less than max_phase_shift {self.max_phase_shift:g}")
        return self


class CtfParams(CtfSearch):
    """Parameters of every fit of the CTF that is made here."""

    model: Literal["fit", "constant", "none"] = "fit"
    """fit, or constant: the given defocus everywhere, or none: a CTF of 1 at every frequency (negative stain)."""
    defocus: float | None = Field(None, gt=0)
    """Å. Defocus of the constant model."""
    max_resolution: float = Field(4.0, gt=0)
    """Å. Highest resolution used in the fit; Nyquist where that is lower. Rings are followed to twice this frequency."""
    tile_px: int | None = Field(None, ge=64)
    """Pixels. Side of the tiles whose spectra are averaged; by default about 600 Å."""
    surface: bool = True
    """Fit a tilt, and a bend where the data support it, so that each particle gets its own defocus."""

    @model_validator(mode="after")
    def _told(self) -> "CtfParams":
        if (self.model == "constant") != (self.defocus is not None):
            raise ValueError("give a defocus with the constant model, and only with it")
        return self


P = TypeVar("P", bound=CtfParams)


def without_fit(table: pd.DataFrame, params: CtfParams) -> pd.DataFrame:
    """Exposures with one defocus for all, or with optics whose CTF is 1: sin(chi) with amplitude contrast 1, no defocus, no Cs."""
    flat = {"defocus_angle": 0.0, "phase_shift": 0.0, "astigmatism": 0.0}
    if params.model == "constant":
        return table.assign(defocus_u=params.defocus, defocus_v=params.defocus, **flat)
    return table.assign(defocus_u=0.0, defocus_v=0.0, **flat, cs_mm=0.0, amplitude_contrast=1.0)


def fit_exposure(job: Job[P], row: Row, image: np.ndarray) -> CtfEstimate:
    """Fit a micrograph `(y, x)`, best the sum without dose weights.

    Raises ExposureError SPECTRUM when its power spectrum cannot be fitted.
    """
    optics = Optics(float(row["voltage_kv"]), float(row["cs_mm"]), float(row["amplitude_contrast"]))
    try:
        return estimate_ctf(torch.from_numpy(image).to(job.device), float(row["micrograph_pixel_size"]), optics, _settings(job.params))
    except ValueError as error:
        raise ExposureError("SPECTRUM", f"{fitted_path(row)}: {error}") from error


def _settings(params: CtfParams) -> CtfSettings:
    return CtfSettings(
        params.min_resolution,
        params.max_resolution,
        params.min_defocus,
        params.max_defocus,
        params.tile_px,
        params.surface,
        params.fit_phase_shift,
        params.min_phase_shift,
        params.max_phase_shift,
    )


def fitted_path(row: Row) -> str:
    """File of the sum without dose weights where there is one, else of the micrograph."""
    plain = row.get("micrograph_plain")
    return str(plain if isinstance(plain, str) and plain else row["micrograph"])


def read_image(row: Row) -> np.ndarray:
    """The image to fit.

    Raises ExposureError HEADER, SHAPE, NONFINITE or ZERO when it is none.
    """
    path = fitted_path(row)
    try:
        image, _ = read_mrc(path)
    except InputError as error:
        raise ExposureError("HEADER", str(error)) from error
    check_image(image, path)
    return image


def check_image(image: np.ndarray, path: str) -> None:
    """Raise ExposureError SHAPE, NONFINITE or ZERO when an image cannot be fitted."""
    if image.ndim != 2 or min(image.shape) < MIN_SIDE_PX:
        raise ExposureError(
            "SHAPE", f"{path}: is {' x '.join(map(str, image.shape))}, but a micrograph of at least {MIN_SIDE_PX} px a side is needed"
        )
    if not np.isfinite(image).all():
        raise ExposureError("NONFINITE", f"{path}: holds {int((~np.isfinite(image)).sum())} pixels that are not finite numbers")
    if float(image.std()) == 0:
        raise ExposureError("ZERO", f"{path}: has the same value {image.flat[0]:g} everywhere")


def ctf_columns(estimate: CtfEstimate, shape: tuple[int, ...], pixel_size: float) -> dict[str, float]:
    """What exposures.star says of a fit of a micrograph of a shape yx."""
    tilt, axis = specimen_tilt(estimate.surface, (shape[0], shape[1]), pixel_size)
    return {
        "defocus_u": estimate.defocus_u,
        "defocus_v": estimate.defocus_v,
        "defocus_angle": estimate.defocus_angle,
        "phase_shift": estimate.phase_shift,
        "ctf_fit_resolution": estimate.fit_resolution,
        "ctf_score": estimate.score,
        "astigmatism": estimate.defocus_u - estimate.defocus_v,
        **dict(zip(NAMES, estimate.surface, strict=True)),
        "specimen_tilt": tilt,
        "tilt_axis": axis,
        "ice_ring_score": estimate.ice_ring,
    }


def record_fits(job: Job[Any], table: pd.DataFrame, failures: int) -> None:
    """Metrics of a batch's fits, whichever program made them: exposures as in exposures.star, and the number of those that failed."""
    job.metric("exposures", len(table))
    job.metric("failed", failures)
    if not table.empty:
        job.metric("median_fit_resolution", float(table["ctf_fit_resolution"].median()), "Å")
        job.metric("median_defocus", float((table["defocus_u"] + table["defocus_v"]).median() / 2), "Å")


def draw_fit(job: Job[P], row: Row, estimate: CtfEstimate, shape: tuple[int, ...]) -> None:
    """Figure of one fit."""
    name, pixel_size = str(row["micrograph"]).rsplit("/", 1)[-1], float(row["micrograph_pixel_size"])
    mean = (estimate.defocus_u + estimate.defocus_v) / 2
    title = (
        f"{name}: defocus {mean / 1e4:.3f} µm, astigmatism {estimate.defocus_u - estimate.defocus_v:.0f} Å at {estimate.defocus_angle:.0f}°"
    )
    if job.params.fit_phase_shift:
        title += f", phase shift {estimate.phase_shift:.0f}°"
    picture = CtfPicture(
        title=title,
        spectrum=estimate.picture.cpu().numpy(),
        fit_resolution=estimate.fit_resolution,
        band_resolution=max(job.params.max_resolution, 2 * pixel_size),
        surface=estimate.surface,
        mean_defocus=mean,
        size=(shape[0] * pixel_size, shape[1] * pixel_size),
        tilt=specimen_tilt(estimate.surface, (shape[0], shape[1]), pixel_size),
        **{key: getattr(estimate, key).cpu().numpy() for key in ("frequency", "profile", "fit", "correlation")},
    )
    caption = f"{title}; rings followed to {estimate.fit_resolution:.1f} Å."
    draw_ctf(job.figure(f"ctf_{row['exposure_id']}", f"CTF of {name}", caption), picture)
