"""Pick particles by rotated 2D templates, filtered by each micrograph's CTF."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import ExposureError, InputError
from firn.formats.exposures import PICK_COLUMNS, ctf_values, failed_row, join_tables, load_micrograph, picks_table, write_failed
from firn.formats.mrc import read_sections, read_shape
from firn.formats.tables import read_table, split_image_names, write_table
from firn.kernels.templates import band_filter, filter_images, recentre, rotate_rescale
from firn.preprocess.pick import (
    BACKGROUND,
    Picks,
    Reduced,
    Shape,
    clean_pixels,
    pick,
    reduce_micrograph,
    template_box,
    template_factors,
)  # fmt: skip
from firn.report.picks import draw_picks
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Find particles that look like given 2D classes or projections, in any in-plane rotation.

    Each micrograph is reduced to 20 Å, its background removed, and correlated with every template in every rotation. All
    maxima are kept, with their correlation (NCC) and local power; inspect_picks then decides which are particles.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures to pick in."""
    templates: str | list[str] = slot("templates", many=True)
    """Classes or projections to pick with, protein white."""
    diameter: float = Field(gt=0)
    """Å. Diameter of the particle: of the mask around each template."""
    low_pass: float = Field(20.0, gt=0)
    """Å. Resolution that micrographs and templates are filtered to."""
    angular_step: float = Field(5.0, gt=0, le=90)
    """Degrees between rotations of a template."""
    use_ctf: bool = True
    """Filter the templates by each micrograph's CTF, where it has been estimated."""
    recentre: bool = True
    """Move each template's centre of mass to the centre of its box."""
    separation: float = Field(0.5, gt=0)
    """Smallest distance between picks, in diameters."""
    edge: float = Field(0.1, ge=0)
    """Smallest distance of a pick from the micrograph's edge, in diameters."""
    max_picks: int = Field(4000, ge=1)
    """Picks kept per micrograph, best first."""
    plots: int = Field(2, ge=0)
    """Micrographs drawn with their picks, per batch."""


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, with every maximum found."""
    exposures = read_table(
        job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "micrograph", "micrograph_pixel_size")
    )
    templates = _Templates(job)
    tables: list[pd.DataFrame] = []
    failed: list[dict[str, str]] = []
    for row in job.over(exposures.to_dict("records"), "exposures"):
        try:
            micrograph = load_micrograph(row)
        except ExposureError as error:
            failed.append(failed_row(row, error))
            continue
        tables.append(_pick_exposure(micrograph, row, job, templates))
        if len(tables) <= job.params.plots:
            path = job.figure(
                f"picks_{row['exposure_id']}", f"Template matches in {row['exposure_id']}", "All maxima, coloured by correlation."
            )
            draw_picks(path, micrograph, tables[-1], float(row["micrograph_pixel_size"]))
    picks = join_tables(tables, PICK_COLUMNS)
    write_table(job.folder / "picks.star", picks, "picks")
    write_failed(job.folder, failed)
    job.metric("exposures", len(tables))
    job.metric("templates", templates.count)
    job.metric("picks", len(picks))
    job.metric("picks per exposure", len(picks) / max(len(tables), 1))


class _Templates:
    """The templates of all sources, drawn once for each picking pixel size."""

    def __init__(self, job: Job[Params]):
        self._params, self._device = job.params, job.device
        self._sources = [source for folder in job.inputs["templates"] for source in _read_templates(folder / "classes.star")]
        self.count = sum(len(numbers) for numbers, _, _ in self._sources)
        self.numbers = np.concatenate([numbers for numbers, _, _ in self._sources])
        self._drawn: dict[float, list[Shape]] = {}

    def shapes(self, reduced: Reduced) -> list[Shape]:
        """One shape per template, with all its rotations, at the pixel size of a reduced micrograph."""
        key = round(reduced.pixel_size, 4)
        if key not in self._drawn:
            drawn = [self._draw(images, pixel_size, reduced.pixel_size) for _, images, pixel_size in self._sources]
            self._drawn = {key: [shape for source in drawn for shape in source]}
        return self._drawn[key]

    def _draw(self, images: np.ndarray, pixel_size: float, picking_pixel_size: float) -> list[Shape]:
        params = self._params
        given = torch.from_numpy(images).to(self._device)
        smooth = filter_images(
            given, band_filter(images.shape[-2:], pixel_size, params.low_pass, BACKGROUND * params.diameter, self._device)
        )
        centred = recentre(smooth) if params.recentre else smooth
        angles = torch.arange(0, 360, params.angular_step, device=self._device)
        box = template_box(params.diameter, picking_pixel_size)
        turned = rotate_rescale(centred, angles, picking_pixel_size / pixel_size, box)
        return [Shape(rotations, angles, params.diameter) for rotations in turned]


def _read_templates(path: Any) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """(class numbers, float32 images, pixel size in Å) of each stack that a class table names."""
    table = read_table(path, "classes", needs=("class_image",))
    if table.empty:
        raise InputError(f"{path}: has no class to pick with")
    numbers = table["class_number"].to_numpy(dtype=np.int64) if "class_number" in table.columns else np.arange(1, len(table) + 1)
    sections, stacks = split_image_names(table["class_image"])
    groups = [(stack, np.flatnonzero(stacks == stack)) for stack in pd.unique(stacks)]
    return [(numbers[rows], read_sections(stack, sections[rows]), read_shape(stack)[1]) for stack, rows in groups]


def _pick_exposure(micrograph: np.ndarray, row: Mapping[Any, Any], job: Job[Params], templates: _Templates) -> pd.DataFrame:
    params, device = job.params, job.device
    reduced = reduce_micrograph(
        torch.from_numpy(micrograph).to(device), float(row["micrograph_pixel_size"]), params.low_pass, params.diameter
    )
    ctf = ctf_values(row) if params.use_ctf else None
    factors = template_factors(
        template_box(params.diameter, reduced.pixel_size), reduced.pixel_size, params.low_pass, params.diameter, ctf, device
    )
    distances = params.separation * params.diameter, params.edge * params.diameter
    picks = pick(reduced, templates.shapes(reduced), clean_pixels(reduced, params.diameter), factors, *distances, params.max_picks)
    return _table(picks, templates.numbers, params.diameter, row)


def _table(picks: Picks, numbers: np.ndarray, diameter: float, row: Mapping[Any, Any]) -> pd.DataFrame:
    y_px, x_px = picks.points.cpu().numpy().T
    columns = {"x_px": x_px, "y_px": y_px, "pick_score": picks.score.cpu().numpy(), "pick_power": picks.power.cpu().numpy()}
    angle = picks.angle.cpu().numpy()
    found = {
        "diameter": np.full(len(angle), diameter),
        "psi": (180 - angle) % 360 - 180,
        "class_number": numbers[picks.shape.cpu().numpy()],
    }
    return picks_table(row, columns | found)
