"""Picking blobs in one micrograph: what blob_picker, its tuner and the fused worker share."""

from typing import Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from firn.families.picking import PickingParams, Row, pick_shapes, reduce_exposure, table_of
from firn.kernels.templates import draw_blobs
from firn.preprocess.pick import Picks, Shape, template_box

STEP = 1.12
"""Largest ratio of neighbouring diameters tried."""
FINEST, BLUR = 20.0, 0.25
"""Low-pass of blobs when not given: Å at least, and diameters; a blob knows nothing of a particle's inside."""


class BlobShapeParams(PickingParams):
    """Parameters of blob picking other than the diameters."""

    circle: bool = True
    """Try balls of several diameters between the two."""
    ellipse: bool = False
    """Try an ellipsoid with the two diameters as axes, in all directions."""
    ring: bool = False
    """Try rings, for hollow particles."""
    low_pass: float | None = Field(None, gt=0)
    """Å. Resolution that micrographs and blobs are filtered to; when not given a quarter of max_diameter, 20 Å at least."""
    separation: float = Field(1.0, gt=0)
    """Smallest distance between picks, in smallest diameters."""

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if not (self.circle or self.ellipse or self.ring):
            raise ValueError("one of circle, ellipse and ring must be true")
        return self


class BlobParams(BlobShapeParams):
    """Parameters of blob picking."""

    min_diameter: float = Field(gt=0)
    """Å. Smallest diameter of a particle."""
    max_diameter: float = Field(gt=0)
    """Å. Largest diameter of a particle."""

    @model_validator(mode="after")
    def _check_diameters(self) -> Self:
        check_order(self.min_diameter, self.max_diameter)
        return self

    @classmethod
    def of(cls, given: BlobShapeParams, min_diameter: float, max_diameter: float) -> "BlobParams":
        """The given parameters with these diameters in Å."""
        shared = {name: getattr(given, name) for name in BlobShapeParams.model_fields}
        return cls(**shared, min_diameter=min_diameter, max_diameter=max_diameter)


def check_order(min_diameter: float, max_diameter: float) -> None:
    """Raise ValueError when the diameters are in the wrong order."""
    if max_diameter < min_diameter:
        raise ValueError(f"max_diameter ({max_diameter:g} Å) is smaller than min_diameter ({min_diameter:g} Å)")


def pick_blobs(micrograph: np.ndarray, row: Row, params: BlobParams, device: torch.device) -> pd.DataFrame:
    """Table of all maxima in a micrograph `(y, x)`."""
    low_pass = params.low_pass or max(FINEST, BLUR * params.max_diameter)
    reduced = reduce_exposure(micrograph, row, low_pass, params.max_diameter, device)
    shapes = blob_shapes(params, template_box(params.max_diameter, reduced.pixel_size), reduced.pixel_size, device)
    distances = params.separation * params.min_diameter, params.edge * params.min_diameter
    return _table(pick_shapes(reduced, shapes, row, params, low_pass, params.max_diameter, distances, white=False), shapes, row)


def blob_shapes(params: BlobParams, box: int, pixel_size: float, device: torch.device) -> list[Shape]:
    """Shapes of all diameters and kinds to look for, in boxes of one side, before filters and CTF."""
    low, high = params.min_diameter, params.max_diameter
    diameters = np.geomspace(low, high, 1 + int(np.ceil(np.log(high / low) / np.log(STEP) - 1e-9)))
    upright = torch.zeros(1, device=device)
    kinds = [kind for kind in ("circle", "ring") if getattr(params, kind)]
    shapes = [Shape(draw_blobs(kind, float(d), float(d), upright, box, pixel_size), upright, float(d)) for kind in kinds for d in diameters]
    if params.ellipse and high > low:
        angles = torch.arange(0, 180, params.angular_step, device=device)
        shapes.append(Shape(draw_blobs("ellipse", high, low, angles, box, pixel_size), angles, high))
    return shapes


def _table(picks: Picks, shapes: list[Shape], row: Row) -> pd.DataFrame:
    diameters = np.array([shape.diameter for shape in shapes])[picks.shape.cpu().numpy()]
    turned = any(len(shape.angles) > 1 for shape in shapes)
    return table_of(picks, row, diameter=diameters, **({"psi": -picks.angle.cpu().numpy()} if turned else {}))
