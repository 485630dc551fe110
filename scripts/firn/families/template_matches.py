"""Matching templates in one micrograph: what template_picker and the fused worker share."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError
from firn.families.picking import PickingParams, Row, pick_shapes, reduce_exposure, table_of
from firn.formats.mrc import read_sections, read_shape
from firn.formats.tables import read_table, split_image_names
from firn.kernels.templates import band_filter, filter_images, recentre, rotate_rescale
from firn.preprocess.pick import Shape, template_box
from firn.preprocess.reduced import BACKGROUND, Reduced
from firn.runtime.job import Job
from firn.runtime.params import slot


class TemplateParams(PickingParams):
    """Parameters of template matching."""

    templates: str | list[str] = slot("templates", many=True)
    """Classes or projections to pick with, protein white."""
    diameter: float = Field(gt=0)
    """Å. Diameter of the particle: of the mask around each template."""
    low_pass: float = Field(20.0, gt=0)
    """Å. Resolution that micrographs and templates are filtered to."""
    recentre: bool = True
    """Move each template's centre of mass to the centre of its box."""
    separation: float = Field(0.5, gt=0)
    """Smallest distance between picks, in diameters."""


class Templates:
    """The templates of all sources, drawn once for each picking pixel size."""

    def __init__(self, job: Job[Any]):
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
    """(class numbers, float32 images, pixel size in Å) of each stack that a class table names; empty averages are left out."""
    table = read_table(path, "classes", needs=("class_image",))
    if table.empty:
        raise InputError(f"{path}: has no class to pick with")
    numbers = table["class_number"].to_numpy(dtype=np.int64) if "class_number" in table.columns else np.arange(1, len(table) + 1)
    sections, stacks = split_image_names(table["class_image"])
    found = []
    for stack in pd.unique(stacks):
        rows = np.flatnonzero(stacks == stack)
        images = read_sections(stack, sections[rows])
        shown = np.ptp(images, axis=(-2, -1)) > 0
        if shown.any():
            found.append((numbers[rows][shown], images[shown], read_shape(stack)[1]))
    if not found:
        raise InputError(f"{path}: all averages are empty; there is nothing to pick with")
    return found


def pick_templates(micrograph: np.ndarray, row: Row, job: Job[Any], templates: Templates) -> pd.DataFrame:
    """Table of all maxima in a micrograph `(y, x)`."""
    params, diameter = job.params, job.params.diameter
    reduced = reduce_exposure(micrograph, row, params.low_pass, diameter, job.device)
    distances = params.separation * diameter, params.edge * diameter
    picks = pick_shapes(reduced, templates.shapes(reduced), row, params, params.low_pass, diameter, distances, white=True)
    psi = (180 - picks.angle.cpu().numpy()) % 360 - 180
    numbers = templates.numbers[picks.shape.cpu().numpy()]
    return table_of(picks, row, diameter=np.full(len(psi), diameter), psi=psi, class_number=numbers)
