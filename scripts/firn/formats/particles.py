"""Particle images by table row, whichever stacks they lie in."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.mrc import read_sections, read_shape
from firn.formats.tables import read_table, require_finite, split_image_names

CTF_NUMBERS = ("image_pixel_size", "voltage_kv", "cs_mm", "amplitude_contrast", "defocus_u", "defocus_v", "defocus_angle", "phase_shift")
"""What the CTF of a particle needs; without a phase_shift there is none."""
NEEDS = ("image", *CTF_NUMBERS[:-1])

SectionReader = Callable[[str, np.ndarray], np.ndarray]
"""(stack, 0-based section numbers) to float32 images `(n, y, x)`."""
_readers: list[SectionReader] = [read_sections]


@contextmanager
def reading_through(reader: SectionReader) -> Iterator[None]:
    """Have the images of particle tables read by `reader` while the block runs, in every thread."""
    _readers.append(reader)
    try:
        yield
    finally:
        _readers.remove(reader)


def sections_by_stack(table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(stack, its rows in the table, their 0-based section numbers), the sections in ascending order."""
    sections, stacks = split_image_names(table["image"])
    codes, names = pd.factorize(stacks)
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    parts = np.split(np.lexsort((sections, codes)), ends)
    for name, rows in zip(names, parts[:-1], strict=True):
        yield str(name), rows, sections[rows]


def read_particles(path: str | os.PathLike, needs: tuple[str, ...] = NEEDS) -> pd.DataFrame:
    """Particle table with all that the CTF and the images need; phase_shift is filled with 0 where absent.

    Raises InputError when a column is missing, or a number that the CTF needs.
    """
    table = read_table(path, "particles", needs=needs)
    require_finite(table, CTF_NUMBERS, path, "check_particles leaves such particles out")
    return table if "phase_shift" in table.columns else table.assign(phase_shift=0.0)


def load_images(table: pd.DataFrame) -> np.ndarray:
    """Float32 images `(len(table), y, x)` in the table's order; paths are relative to the working directory."""
    images: np.ndarray | None = None
    for stack, rows, sections in sections_by_stack(table):
        block = _readers[-1](stack, sections)
        if images is None:
            images = np.empty((len(table), *block.shape[1:]), dtype=np.float32)
        images[rows] = block
    return images if images is not None else np.empty((0, 0, 0), dtype=np.float32)


def iterate_images(table: pd.DataFrame, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row numbers, float32 images) in table order, batch_size rows at a time, so that memory stays bounded."""
    for start in range(0, len(table), batch_size):
        rows = np.arange(start, min(start + batch_size, len(table)))
        yield rows, load_images(table.iloc[rows])


def common_box(table: pd.DataFrame) -> tuple[int, float]:
    """(box in pixels, pixel size in Å) that all particles share.

    Raises InputError when there is no particle, boxes or pixel sizes differ, or a box is not square.
    """
    if table.empty:
        raise InputError("there are no particles")
    sizes = table["image_pixel_size"].unique()
    if len(sizes) > 1:
        raise InputError(f"the particles have different pixel sizes ({sizes[0]:g} and {sizes[1]:g} Å); extract them alike")
    shapes = {read_shape(stack)[0][1:] for stack in pd.unique(split_image_names(table["image"])[1])}
    if len(shapes) > 1 or any(y != x for y, x in shapes):
        raise InputError(f"the particles need one square box, got {', '.join(f'{y} x {x}' for y, x in sorted(shapes))} px")
    return shapes.pop()[0], float(sizes[0])
