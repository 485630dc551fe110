"""Writing particle images again into few stacks, changed or not: what restack_particles and downsample_particles share."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.mrc import write_stack_parts
from firn.formats.particles import iterate_images
from firn.formats.tables import image_names
from firn.runtime.job import Job

Change = Callable[[np.ndarray], np.ndarray]
PIXELS = 2**25
"""Pixels read at once."""


def restack(
    job: Job[Any], table: pd.DataFrame, box: int, new_box: int, pixel_size: float, per_stack: int, float16: bool, change: Change
) -> pd.DataFrame:
    """The table with images rewritten into stacks of up to per_stack, in its order; nothing else changes.

    change: from images of side box to images of side new_box, float32. pixel_size: of the new images, Å.
    Raises InputError when there is no particle.
    """
    if table.empty:
        raise InputError(f"job {job.name}: there are no particles to write")
    ordered = table.reset_index(drop=True)
    names: list[str] = []
    starts = range(0, len(ordered), per_stack)
    for number, start in job.over(enumerate(starts, 1), "stacks", len(starts)):
        rows = ordered.iloc[start : start + per_stack]
        file = f"particles/{number:05d}.mrcs"
        shape = (len(rows), new_box, new_box)
        write_stack_parts(job.folder / file, _parts(rows, box, change), shape, pixel_size, float16)
        names += image_names(job.output_path(file), len(rows))
    return ordered.assign(image=names)


def _parts(rows: pd.DataFrame, box: int, change: Change) -> Iterator[np.ndarray]:
    for _, images in iterate_images(rows, max(1, PIXELS // box**2)):
        yield change(images)
