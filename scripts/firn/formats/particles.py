"""Particle images by table row, whichever stacks they lie in."""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.mrc import read_sections, read_shape
from firn.formats.tables import read_table, split_image_names

NEEDS = ("image", "image_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast", "defocus_u", "defocus_v", "defocus_angle")


def read_particles(path: str | os.PathLike, needs: tuple[str, ...] = NEEDS) -> pd.DataFrame:
    """Particle table with all that the CTF and the images need; phase_shift is filled with 0 where absent."""
    table = read_table(path, "particles", needs=needs)
    return table if "phase_shift" in table.columns else table.assign(phase_shift=0.0)


def load_images(table: pd.DataFrame) -> np.ndarray:
    """Float32 images `(len(table), y, x)` in the table's order; paths are relative to the working directory."""
    sections, stacks = split_image_names(table["image"])
    images: np.ndarray | None = None
    for stack in pd.unique(stacks):
        rows = np.flatnonzero(stacks == stack)
        order = np.argsort(sections[rows], kind="stable")
        block = read_sections(stack, sections[rows][order])
        if images is None:
            images = np.empty((len(table), *block.shape[1:]), dtype=np.float32)
        images[rows[order]] = block
    return images if images is not None else np.empty((0, 0, 0), dtype=np.float32)


def iterate_images(table: pd.DataFrame, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row numbers, float32 images) in table order, batch_size rows at a time, so that memory stays bounded."""
    for start in range(0, len(table), batch_size):
        rows = np.arange(start, min(start + batch_size, len(table)))
        yield rows, load_images(table.iloc[rows])


def common_box(table: pd.DataFrame) -> tuple[int, float]:
    """(box in pixels, pixel size in Å) that all particles share.

    Raises InputError when boxes or pixel sizes differ, or a box is not square.
    """
    sizes = table["image_pixel_size"].unique()
    if len(sizes) > 1:
        raise InputError(f"the particles have different pixel sizes ({sizes[0]:g} and {sizes[1]:g} Å); extract them alike")
    shapes = {read_shape(stack)[0][1:] for stack in pd.unique(split_image_names(table["image"])[1])}
    if len(shapes) > 1 or any(y != x for y, x in shapes):
        raise InputError(f"the particles need one square box, got {', '.join(f'{y} x {x}' for y, x in sorted(shapes))} px")
    return shapes.pop()[0], float(sizes[0])
