"""Sort particles into 2D classes with RELION, a program of the user's own, and read its averages, poses and classes back."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.families.relion import RelionSearchParams, by_size, course_of, keep_files, read_inputs, run_relion
from firn.formats.mrc import read_mrc, write_stack
from firn.formats.relion_run import RelionIteration, with_results
from firn.formats.tables import image_names, write_table
from firn.report.classes import draw_mosaic, draw_sizes
from firn.report.classes_3d import draw_course
from firn.runtime.job import Job
from firn.runtime.params import Kind


class Params(RelionSearchParams):
    """Sort particles into classes of alike views by RELION's Class2D, with `relion_refine`, installed apart. Classes are numbered by size."""

    stage: ClassVar[str] = "classify_2d"
    offers: ClassVar[tuple[Kind, ...]] = ("particles", "templates")
    classes: int = Field(50, ge=1, le=1000)
    """Number of classes."""
    iterations: int = Field(25, ge=1)
    """Iterations."""
    regularisation: float = Field(2.0, gt=0)
    """RELION's T: weight of the images against the prior; more shows finer detail, and noise."""
    psi_step: float = Field(12.0, gt=0, le=90)
    """Degrees. Step of the in-plane search before RELION's oversampling halves it."""


def run(job: Job[Params]) -> None:
    """Hand over, run, read back."""
    table, box, pixel_size = read_inputs(job)
    root, newest = run_relion(job, table, box, options(job.params), halves=False, last=job.params.iterations)
    stem = f"{root}_it{newest.number:03d}"
    order, posed = by_size(with_results(table, root.with_name(f"{root.name}_it{newest.number:03d}_data.star")), len(newest.classes))
    order = order[: int(posed["class_number"].max())]
    averages = _averages(newest, box)[order]
    classes = _class_table(job, posed, newest, order, box * pixel_size)
    write_table(job.folder / "particles.star", posed, "particles")
    write_table(job.folder / "classes.star", classes, "classes")
    write_stack(job.folder / "classes.mrcs", averages, pixel_size)
    keep_files(job, root, stem)
    job.metric("classes", len(classes))
    job.metric("particles", len(posed))
    job.metric("best_resolution", classes["class_resolution"].min(), "Å")
    job.metric("iterations", newest.number)
    caption = "Class averages by size, with their number, particles and RELION's estimate of their resolution."
    draw_mosaic(job.figure("classes", "2D classes", caption), averages, classes, pixel_size)
    draw_sizes(job.figure("class_sizes", "Class sizes", "Particles per class and the classes' resolution."), classes)
    fractions, changed, resolutions = course_of(root, newest.number)
    caption = "Size of the ten largest classes by iteration, and the part of the particles that still changed class."
    draw_course(job.figure("course", "Course", caption), fractions[:, order[:10]], changed, resolutions)


def options(params: Params) -> list[list[str]]:
    """Arguments of a 2D classification, besides those of every search."""
    numbers = {"--K": params.classes, "--iter": params.iterations, "--tau2_fudge": params.regularisation, "--psi_step": params.psi_step}
    return [[name, f"{value:g}"] for name, value in numbers.items()]


def _averages(newest: RelionIteration, box: int) -> np.ndarray:
    """Averages `(k, box, box)` in the order of RELION's numbers."""
    path = str(newest.classes["rlnReferenceImage"].iloc[0]).rpartition("@")[2]
    images = read_mrc(path)[0].reshape(-1, *read_mrc(path)[0].shape[-2:])
    if images.shape != (len(newest.classes), box, box):
        raise InputError(
            f"{path}: holds {len(images)} averages of {images.shape[-1]} px, but should hold {len(newest.classes)} of {box} px"
        )
    return images


def _class_table(job: Job[Params], posed: pd.DataFrame, newest: RelionIteration, order: np.ndarray, extent: float) -> pd.DataFrame:
    """Classes by size; a class that RELION sees no detail in has the box, extent in Å, for its resolution."""
    count = np.bincount(posed["class_number"].to_numpy(int), minlength=len(order) + 1)[1:]
    resolution = newest.classes["rlnEstimatedResolution"].to_numpy(float)[order]
    return pd.DataFrame(
        {
            "class_number": np.arange(1, len(order) + 1),
            "class_image": image_names(job.output_path("classes.mrcs"), len(order)),
            "class_count": count,
            "class_fraction": count / len(posed),
            "class_resolution": np.minimum(resolution, extent),
            "diameter": job.params.particle_diameter,
        }
    )
