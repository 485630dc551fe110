"""Pictures of particle images that a job reads or has just written."""

from typing import Any

import pandas as pd

from firn.formats.particles import load_images
from firn.formats.tables import join_image_names, split_image_names
from firn.report.picks import draw_montage
from firn.runtime.job import Job


def draw_particles(job: Job[Any], title: str, caption: str, rows: pd.DataFrame) -> None:
    """The figure `particles`: images of all rows of a particle table, those of the running job too."""
    sections, stacks = split_image_names(rows["image"])
    staged = rows.assign(image=join_image_names(sections, [job.staged_path(str(stack)) for stack in stacks]))
    draw_montage(job.figure("particles", title, caption), load_images(staged), float(rows["image_pixel_size"].iloc[0]))
