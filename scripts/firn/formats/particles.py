"""Particle images by table row, whichever stacks they lie in."""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

from firn.formats.mrc import read_sections
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
