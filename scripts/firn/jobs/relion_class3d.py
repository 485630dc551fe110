"""Sort particles into 3D classes with RELION, a program of the user's own, and read its maps, poses and classes back."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.families.refinement import start_files, volume_in_box
from firn.families.relion import RelionSearchParams, by_size, course_of, keep_files, read_inputs, run_relion
from firn.formats.mrc import write_volume
from firn.formats.relion_run import RelionIteration, with_results, write_references
from firn.formats.tables import write_table
from firn.formats.volumes import read_like
from firn.report.ab_initio import draw_volumes
from firn.report.classes_3d import draw_course
from firn.runtime.job import Job
from firn.runtime.params import Kind, slot


class Params(RelionSearchParams):
    """Find 3D classes by RELION's Class3D, with `relion_refine`, installed apart. Classes are numbered by size.

    The maps of classes have no half maps; refine a class to measure its resolution.
    """

    stage: ClassVar[str] = "refine"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"class_*": ("volume", "particles")}
    best_group: ClassVar[str | None] = "class_1"
    volume: str | None = slot("volume", optional=True)
    """Map that all classes start from."""
    volumes: str | list[str] | None = slot("volume", optional=True, many=True)
    """Maps instead of one, each of which one class starts from; a job with several classes stands for all of them."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the references; none = a ball."""
    classes: int = Field(4, ge=1, le=50)
    """Number of classes; with `volumes` there are as many as these."""
    iterations: int = Field(25, ge=1)
    """Iterations."""
    regularisation: float = Field(4.0, gt=0)
    """RELION's T: weight of the images against the prior; more shows finer detail, and noise."""
    align: bool = True
    """Search poses; off = keep the given ones and find the classes only."""
    symmetry: str = "C1"
    """Point group, in RELION's names."""
    initial_lowpass: float = Field(60.0, gt=0)
    """Å. Low-pass filter of the map to start from."""
    absolute_greyscale: bool = False
    """Whether the map to start from has the grey scale of the particles."""
    healpix_order: int = Field(2, ge=0, le=6)
    """Fineness of the search: directions 7.5° apart at 2, each order halves it."""

    @model_validator(mode="after")
    def _one_start(self) -> "Params":
        if bool(self.volume) == bool(self.volumes):
            raise ValueError("give either volume, which all classes start from, or volumes, one for each class")
        return self


def run(job: Job[Params]) -> None:
    """Hand over, run, read back."""
    table, box, pixel_size = read_inputs(job)
    reference, count = _references(job, box, pixel_size)
    mask = job.input("mask", "mask.mrc") if job.has("mask") else None
    if mask is not None:
        read_like(mask, box, pixel_size)
    wanted = options(job.params, count, str(reference), None if mask is None else str(mask))
    root, newest = run_relion(job, table, box, wanted, halves=False, last=job.params.iterations)
    stem = f"{root}_it{newest.number:03d}"
    order, posed = by_size(with_results(table, root.with_name(f"{root.name}_it{newest.number:03d}_data.star")), len(newest.classes))
    write_table(job.folder / "particles.star", posed, "particles")
    volumes = [read_like(str(newest.classes["rlnReferenceImage"].iloc[index]), box, pixel_size) for index in order]
    for number, volume in enumerate(volumes, start=1):
        write_volume(job.folder / f"class_{number}" / "map.mrc", volume, pixel_size)
        write_table(job.folder / f"class_{number}" / "particles.star", posed[posed["class_number"] == number], "particles")
    keep_files(job, root, stem)
    _report(job, posed, volumes, newest, order, pixel_size)
    draw_course(*_course(job, root, newest, order))


def _references(job: Job[Params], box: int, pixel_size: float) -> tuple[Path, int]:
    """(the map, or the list of maps, to start from; number of classes). Raises InputError when maps are not of particles' kind, or one alone."""
    place = job.checkpoint.workplace()
    if not job.has("volumes"):
        path = place / "reference.mrc"
        write_volume(path, volume_in_box(job.input("volume", "map.mrc"), box, pixel_size).numpy(), pixel_size)
        return path, job.params.classes
    files = start_files(job.inputs["volumes"])
    if len(files) < 2:
        raise InputError(f"job {job.name}: volumes has one map; give it as volume, from which several classes start")
    paths = [place / f"reference{number}.mrc" for number in range(1, len(files) + 1)]
    for path, file in zip(paths, files, strict=True):
        write_volume(path, volume_in_box(file, box, pixel_size).numpy(), pixel_size)
    write_references(place / "references.star", [str(path) for path in paths])
    return place / "references.star", len(files)


def options(params: Params, classes: int, reference: str, mask: str | None) -> list[list[str]]:
    """Arguments of a 3D classification, besides those of every search."""
    numbers = {
        "--K": classes,
        "--iter": params.iterations,
        "--tau2_fudge": params.regularisation,
        "--ini_high": params.initial_lowpass,
    }
    scale = [] if params.absolute_greyscale else [["--firstiter_cc"]]
    search = [["--healpix_order", str(params.healpix_order)]] if params.align else [["--skip_align"]]
    masked = [["--solvent_mask", mask]] if mask else []
    start = [["--ref", reference], ["--sym", params.symmetry], *search]
    return [*start, *[[name, f"{value:g}"] for name, value in numbers.items()], *scale, *masked]


def _report(
    job: Job[Params], posed: pd.DataFrame, volumes: list[np.ndarray], newest: RelionIteration, order: np.ndarray, pixel_size: float
) -> None:
    fractions = [float((posed["class_number"] == number).mean()) for number in range(1, len(volumes) + 1)]
    for number, (fraction, index) in enumerate(zip(fractions, order, strict=True), start=1):
        job.metric(f"class_{number}_fraction", fraction)
        job.metric(f"class_{number}_resolution", float(newest.classes["rlnEstimatedResolution"].iloc[index]), "Å")
    job.metric("particles", len(posed))
    job.metric("iterations", newest.number)
    caption = "Central slices and projections of the classes' maps. Their resolution is RELION's estimate, not one of half maps."
    draw_volumes(job.figure("volumes", "Classes", caption), volumes, fractions, pixel_size)


def _course(job: Job[Params], root: Any, newest: RelionIteration, order: np.ndarray) -> tuple[Any, ...]:
    fractions, changed, resolutions = course_of(root, newest.number)
    caption = "Size of each class by iteration, and the part of the particles that still changed class. A settled classification is flat."
    return job.figure("course", "Course", caption), fractions[:, order], changed, resolutions
