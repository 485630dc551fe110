"""Cutting particles out of micrographs: what extract_particles and the fused worker share."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from firn.formats.exposures import IDENTITY, optics_of
from firn.formats.ids import half_set, particle_id
from firn.formats.mrc import write_stack_parts
from firn.formats.tables import OPTICS, image_names
from firn.kernels.crop import boxes_fit
from firn.preprocess.extract import cut_particles, repair_outliers
from firn.preprocess.local_ctf import local_ctf
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

COLUMNS = ("image", "particle_id", *IDENTITY, "x_px", "y_px", "origin_x", "origin_y", "half")
Row = Mapping[Any, Any]


class ExtractionParams(JobParams):
    """Parameters of every extraction."""

    stage: ClassVar[str] = "extract"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)

    exposures: str = slot("exposures")
    """Exposures to cut from."""
    box_px: int = Field(ge=16, le=4096, multiple_of=2)
    """px of the micrograph. Side of the box; 1.5 to 2 times the particle's diameter is good."""
    crop_to_px: int | None = Field(None, ge=8, le=4096, multiple_of=2)
    """px. Side that boxes are Fourier-cropped to; not at all when not given."""
    particle_diameter: float | None = Field(None, gt=0)
    """Å. Diameter of the circle outside of which is background; three quarters of the box when not given."""
    invert: bool = True
    """Make protein white; false only when the micrographs already show it white."""
    plane: bool = True
    """Level the background by a plane rather than a constant."""
    clip_sd: float = Field(8.0, gt=3)
    """Pixels this many robust standard deviations from the micrograph's median are replaced by their neighbours' mean."""
    float16: bool = False
    """Write half-precision stacks of half the size (MRC mode 12)."""

    @model_validator(mode="after")
    def _check_crop(self) -> "ExtractionParams":
        if self.crop_to_px is not None and self.crop_to_px > self.box_px:
            raise ValueError(f"crop_to_px ({self.crop_to_px}) is larger than box_px ({self.box_px})")
        return self


P = TypeVar("P", bound=ExtractionParams)


def without_images(table: pd.DataFrame) -> pd.DataFrame:
    """Picks or particles without optics, old images and names that the exposure gives."""
    return table.drop(columns=["image", "batch", "micrograph", *OPTICS], errors="ignore")


def extract_exposure(job: Job[P], row: Row, micrograph: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """Particles of one exposure that lie whole in its micrograph `(y, x)`; their stack is written as they are cut.

    rows: picks or particles with x_px and y_px, without images.
    """
    params, pixel_size = job.params, float(row["micrograph_pixel_size"])
    rows = _identified(rows, str(row["exposure_id"]))
    exact = torch.tensor(np.ascontiguousarray(rows[["y_px", "x_px"]], dtype=np.float64)).reshape(-1, 2)
    centres = torch.floor(exact + 0.5).long()
    fits = boxes_fit(centres, params.box_px, (micrograph.shape[0], micrograph.shape[1]))
    rows, exact, centres = rows[fits.numpy()].reset_index(drop=True), exact[fits], centres[fits]
    if rows.empty:
        return rows
    crop = params.crop_to_px or params.box_px
    circle = params.particle_diameter / (params.box_px * pixel_size) if params.particle_diameter else 0.75
    clean = repair_outliers(torch.from_numpy(micrograph).to(job.device), params.clip_sd)
    parts = cut_particles(clean, centres.to(job.device), params.box_px, crop, circle, params.invert, params.plane)
    image_pixel_size = pixel_size * params.box_px / crop
    stack = f"particles/{row['exposure_id']}.mrcs"
    shape = (len(rows), crop, crop)
    write_stack_parts(job.folder / stack, (part.cpu().numpy() for part in parts), shape, image_pixel_size, params.float16)
    images_at = image_names(job.output_path(stack), len(rows))
    optics = optics_of(row) | {"image_pixel_size": image_pixel_size, "box_px": crop, "dimensionality": 2}
    return _particle_table(rows, row, exact - centres, micrograph.shape, images_at, optics)


def _identified(rows: pd.DataFrame, exposure: str) -> pd.DataFrame:
    """Rows with identities: their own when they have them all and differently, else by their order in the exposure."""
    if "particle_id" not in rows.columns or rows["particle_id"].duplicated().any():
        rows = rows.assign(particle_id=[particle_id(exposure, number) for number in range(1, len(rows) + 1)])
    return rows if "half" in rows.columns else rows.assign(half=[half_set(name) for name in rows["particle_id"]])


def _particle_table(
    rows: pd.DataFrame,
    row: Row,
    remainder: torch.Tensor,
    shape: tuple[int, ...],
    images: list[str],
    optics: Mapping[str, Any],
) -> pd.DataFrame:
    """Particles at whole pixels, the remainder yx (px) in the origins: origin = (coordinate - true centre) * pixel_size."""
    shifts = -remainder.numpy() * float(row["micrograph_pixel_size"])
    whole = rows[["x_px", "y_px"]].to_numpy(dtype=np.float64) - remainder.numpy()[:, ::-1]
    former = {name: rows[name] if name in rows.columns else 0.0 for name in ("origin_x", "origin_y")}
    places = {
        "x_px": whole[:, 0],
        "y_px": whole[:, 1],
        "origin_x": shifts[:, 1] + former["origin_x"],
        "origin_y": shifts[:, 0] + former["origin_y"],
    }
    identity = {name: row[name] for name in IDENTITY if name in row}
    table = rows.assign(image=images, **identity, **places, **local_ctf(row, whole[:, 0], whole[:, 1], shape[1], shape[0]), **optics)
    first = [name for name in COLUMNS if name in table.columns]
    return table[[*first, *(name for name in table.columns if name not in first)]]
