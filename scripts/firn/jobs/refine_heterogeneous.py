"""Sort particles among several volumes and refine these at the same time."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.refinement import (
    SearchParams,
    halved_table,
    images_held,
    origins_of,
    particles_of,
    search_settings,
    start_files,
    volume_in_box,
)
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.particles import common_box
from firn.formats.poses import with_poses
from firn.formats.tables import write_table
from firn.kernels.rotation import matrix_angles
from firn.refine.heterogeneous import Heterogeneous, Online, Sorting
from firn.report.ab_initio import draw_fractions, draw_volumes
from firn.report.heterogeneous import Passage, draw_class_curves, draw_passage, draw_sorting
from firn.runtime.job import Job
from firn.runtime.params import Kind, slot


class Params(SearchParams):
    """Refine several volumes together, giving each particle to those that explain it: parts species, conformations, and junk.

    Works in a small box, so that many particles are sorted in a short time; refine each class in the full box afterwards.
    """

    revision: ClassVar[int] = 5
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles")
    groups: ClassVar[dict[str, tuple[Any, ...]]] = {"class_*": ("volume", "particles")}
    volumes: list[str] = slot("volume", many=True)
    """Maps to start from; a job with several classes stands for all of them. Bad ones are useful: they take the junk. A map given
    several times parts into as many classes by chance, which takes more iterations."""
    initial_lowpass: float = Field(20.0, gt=0)
    """Å. Low-pass filter of the starting maps."""
    box_px: int = Field(128, ge=16)
    """Pixels along a side that larger images are cropped to in Fourier space."""
    batch_per_class: int = Field(1000, ge=10)
    """Particles per class and iteration."""
    learning_rate: float = Field(0.2, gt=0, le=1)
    """Least weight of one batch against those before it."""
    assignment_convergence: float = Field(0.05, gt=0, lt=1)
    """Share of particles that may still change class when sorting is done."""
    final_passes: int = Field(2, ge=1)
    """Passes over all particles at the end."""
    hard_classification: bool = False
    """Give each particle to its best class alone; off = in proportion to its likelihoods."""


def run(job: Job[Params]) -> None:
    """Read, iterate, write each class and the figures."""
    table = halved_table(job)
    side, pixel_size = common_box(table)
    box, files = min(side, job.params.box_px), _start_files(job)
    settings = search_settings(job, box, pixel_size * side / box)
    held = images_held(job, len(table), box, settings, 2 * len(files))
    particles = particles_of(table, pixel_size, job.params.group_noise, box, job.ranks, held)
    starts = [volume_in_box(path, particles.side, particles.pixel_size) for path in files]
    refinement = Heterogeneous(particles, starts, settings, _online(job, starts), job.over, job.generator("batches"))
    for poses in refinement.poses:
        poses.shifts = origins_of(table, particles.pixel_size)
    result, history = _iterate(job, refinement)
    _write(job, table, refinement, result)
    _report(job, refinement, result, history)


def _start_files(job: Job[Params]) -> list[Path]:
    """Starting map of each class."""
    files = start_files(job.inputs["volumes"])
    if len(files) < 2:
        raise InputError(f"job {job.name}: one volume sorts nothing; give several, such as those of an ab_initio job with classes: 3")
    return files


def _online(job: Job[Params], starts: list[Tensor]) -> Online:
    params = job.params
    return Online(
        batch=params.batch_per_class * len(starts),
        rate=params.learning_rate,
        settled=params.assignment_convergence,
        full_passes=params.final_passes,
        hard=params.hard_classification,
    )


def _iterate(job: Job[Params], refinement: Heterogeneous) -> tuple[Sorting, list[Passage]]:
    """As refinement_course.iterate."""
    if job.ranks.rank:
        refinement.serve()
        raise SystemExit
    state = job.checkpoint.load()
    history: list[Passage] = []
    if state is not None:
        refinement.restore(state["refinement"])
        history = [Passage(**passage) for passage in state["history"]]
    for result in refinement.run(job.params.iterations):
        history.append(_note(job, refinement, result))
        job.checkpoint.save({"refinement": refinement.state(), "history": [vars(passage) for passage in history]})
    job.ranks.tell(None)
    assert refinement.result is not None
    return refinement.result, history


def _note(job: Job[Params], refinement: Heterogeneous, result: Sorting) -> Passage:
    extent = refinement.particles.side * refinement.particles.pixel_size
    passage = Passage(result.number, [extent / part.resolved for part in result.classes], result.shares, result.changed)
    job.progress.note(
        iteration=result.number,
        changed=round(result.changed, 4),
        wide=round(result.wide, 4),
        shares=[round(share, 4) for share in result.shares],
    )
    volumes = [part.combined.cpu().numpy() for part in result.classes]
    draw_passage(job.watch(f"iteration_{result.number:02d}"), passage, volumes, refinement.particles.pixel_size)
    return passage


def _write(job: Job[Params], table: pd.DataFrame, refinement: Heterogeneous, result: Sorting) -> None:
    """A folder for each class; the largest one in the job's own folder too."""
    posed = _posed(table, refinement)
    counts = [int((posed["class_number"] == number + 1).sum()) for number in range(refinement.count)]
    write_table(job.folder / "all_particles.star", posed, "particles")
    for number, found in enumerate(result.classes, start=1):
        folders = [job.folder / f"class_{number}", *([job.folder] if number - 1 == int(np.argmax(counts)) else [])]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            maps = {"map": found.combined, "half1": found.half_maps[0], "half2": found.half_maps[1]}
            for name, volume in maps.items():
                write_volume(folder / f"{name}.mrc", volume.cpu().numpy(), refinement.particles.pixel_size)
            curve = {"unmasked": found.curve.cpu().numpy()}
            write_fsc(folder / "fsc.star", fsc_table(curve, refinement.particles.side, refinement.particles.pixel_size))
            write_table(folder / "particles.star", posed[posed["class_number"] == number], "particles")


def _posed(table: pd.DataFrame, refinement: Heterogeneous) -> pd.DataFrame:
    """All particles with their best class, its probability, and their pose in it."""
    share, best = refinement.shares.max(dim=1)
    found = refinement.own(refinement.poses)
    posed = with_poses(table, matrix_angles(found.rotations).numpy(), found.shifts.numpy(), refinement.particles.pixel_size)
    return posed.assign(class_number=best.numpy() + 1, class_probability=share.numpy())


def _report(job: Job[Params], refinement: Heterogeneous, result: Sorting, history: list[Passage]) -> None:
    counts = torch.bincount(refinement.shares.argmax(1), minlength=refinement.count).numpy()
    side, pixel_size = refinement.particles.side, refinement.particles.pixel_size
    job.metric("iterations", result.number)
    job.metric("class_certainty", 100 * float(refinement.shares.amax(1).mean()), "%")
    job.metric("changed", 100 * result.changed, "%")
    for number, (count, resolution) in enumerate(zip(counts, history[-1].resolutions, strict=True), start=1):
        job.metric(f"class_{number}", 100 * count / counts.sum(), "%")
        job.metric(f"resolution_class_{number}", resolution, "Å")
    volumes = [part.combined.cpu().numpy() for part in result.classes]
    caption = "Central slices and projections of each class along z, y and x, in the order of the starting maps."
    draw_volumes(job.figure("volumes", "Volumes", caption), volumes, counts / counts.sum(), pixel_size)
    draw_fractions(job.figure("classes", "Particles per class", "Number of particles whose best class each is."), counts)
    caption = "Correlation of the half maps of each class, without a mask."
    curves = [part.curve.cpu().numpy() for part in result.classes]
    draw_class_curves(job.figure("fsc", "Fourier shell correlation", caption), curves, side, pixel_size)
    caption = "Share of each class by iteration, and the particles that changed class; a sorting that is done has flat curves."
    draw_sorting(job.figure("sorting", "Sorting by iteration", caption), history)
