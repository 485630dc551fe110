"""RELION's refinement, a program of the user's own: what it is given, how many processes work, and how it goes on after an end cut short.

Convention: RELION runs in the run folder, so that all names are those of the session, and writes into the job's workplace, from which a job
begun anew goes on. Lengths in pixels are RELION's own settings and named so.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError, brief
from firn.families.outside import find_program, record_program, run_program
from firn.families.refinement import MOST_DEVICES
from firn.formats.particles import common_box, read_particles
from firn.formats.poses import with_halves
from firn.formats.relion_project import half_precision
from firn.formats.relion_run import RelionIteration, hand_over, newest_iteration, read_iteration
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Lane, slot

MPI_ENVIRONMENT = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
"""Lets Open MPI start one process more than there are workers, whose threads may use every core; other kinds of MPI do not read it."""
KEPT = ("data", "model", "optimiser", "sampling")
"""Files of the last iteration that are kept beside the results."""


class RelionParams(JobParams):
    """Parameters of every command of RELION's."""

    executable: str | None = None
    """Path of RELION's program; by default the one on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program; they take the place of those that it would be given otherwise."""


class RelionSearchParams(RelionParams):
    """Parameters of all that searches the poses of particles with `relion_refine`, with the defaults of RELION's own window."""

    lane: ClassVar[Lane] = "reconstruct"
    ranked: ClassVar[bool] = False
    particles: str = slot("particles")
    """Particles to align."""
    particle_diameter: float = Field(gt=0)
    """Å. Diameter of the circular mask on the images."""
    zero_mask: bool = True
    """Fill what the circular mask leaves out with zeros, or else with noise."""
    offset_range: float = Field(5.0, gt=0)
    """px. How far particles may lie from their present centres."""
    offset_step: float = Field(2.0, gt=0)
    """px. Step of the search for centres, halved by RELION's oversampling."""
    pad: int = Field(2, ge=1, le=4)
    """Factor by which references are padded; 1 needs an eighth of the memory."""
    devices: int = Field(1, ge=1, le=MOST_DEVICES)
    """GPUs of one machine that the workers share."""
    workers: int | None = Field(None, ge=1)
    """Processes that work; MPI starts one more, which deals out the work. None = one for each device, without MPI for one alone, and an even
    number for independent halves."""
    threads_per_worker: int | None = Field(None, ge=1)
    """Threads of each worker; none = those of the job, shared out evenly."""
    pool: int = Field(3, ge=1, lt=10)
    """Particles dealt to a thread at a time."""
    mpirun: str = "mpirun"
    """Program that starts the processes; a name on the PATH, or its path."""


P = TypeVar("P", bound=RelionSearchParams)


def read_inputs(job: Job[P]) -> tuple[pd.DataFrame, int, float]:
    """(particle table with half-sets, box in pixels, pixel size in Å); raises InputError for what does not fit."""
    table = with_halves(read_particles(job.input("particles", "particles.star"))).reset_index(drop=True)
    box, pixel_size = common_box(table)
    if job.params.particle_diameter > box * pixel_size:
        raise InputError(
            f"job {job.name}: particle_diameter {job.params.particle_diameter:g} Å is larger than the box, {box * pixel_size:g} Å"
        )
    small = half_precision(table[["image"]])
    if small:
        job.warn(f"{len(small)} stacks are of half precision, which RELION reads from version 4 on, the first is {sorted(small)[0]}")
    return table, box, pixel_size


def worker_count(params: RelionSearchParams, halves: bool) -> int:
    """Processes that work; raises InputError when independent halves cannot share them evenly."""
    workers = params.workers or (params.devices + params.devices % 2 if halves else params.devices)
    if halves and workers % 2:
        raise InputError(f"workers: {workers} cannot be shared evenly by two independent halves; give an even number")
    return workers


def rank_count(workers: int, halves: bool) -> int:
    """Processes that MPI starts: the workers and the one that deals out the work; 1 means that there is no MPI."""
    return 1 if workers == 1 and not halves else workers + 1


def resources(params: RelionSearchParams, workers: int, devices: Sequence[torch.device], threads: int) -> list[list[str]]:
    """Arguments for threads, and for a GPU of each worker in turn: one list of devices per worker, colons between."""
    each = params.threads_per_worker or max(1, threads // workers)
    shared = [["--j", str(each)], ["--pool", str(params.pool)], ["--dont_combine_weights_via_disc"]]
    numbers = [str(devices[worker % len(devices)].index or 0) for worker in range(workers)]
    return [*shared, ["--gpu", ":".join(numbers)]] if devices[0].type == "cuda" else shared


def search_options(params: RelionSearchParams, seed: int) -> list[list[str]]:
    """Arguments that all searches share."""
    numbers = {"--particle_diameter": params.particle_diameter, "--offset_range": params.offset_range, "--offset_step": params.offset_step}
    flags = ["--ctf", "--norm", "--scale", "--flatten_solvent", *(["--zero_mask"] if params.zero_mask else [])]
    fixed = [["--oversampling", "1"], ["--pad", str(params.pad)], ["--random_seed", str(seed % 2**31)]]
    return [*[[flag] for flag in flags], *[[name, f"{value:g}"] for name, value in numbers.items()], *fixed]


def merged(options: Sequence[Sequence[str]], own: Sequence[str]) -> list[str]:
    """The options, less those that the user gives, and then the user's."""
    return [word for option in options if option[0] not in own for word in option] + list(own)


def run_relion(
    job: Job[P], table: pd.DataFrame, box: int, options: Sequence[Sequence[str]], *, halves: bool, last: int | None = None
) -> tuple[Path, RelionIteration]:
    """Run relion_refine to its end, from where a run cut short had got to; (root of its files, newest iteration).

    last: number of the iteration it ends with, None when it ends by itself.
    """
    workers = worker_count(job.params, halves)
    ranks = rank_count(workers, halves)
    program = _program(job.params.executable, ranks)
    starter = [find_program("mpirun", job.params.mpirun), "-n", str(ranks)] if ranks > 1 else []
    root = job.checkpoint.workplace() / "run"
    root = Path(os.path.relpath(root)) if not root.is_absolute() else root
    reached = newest_iteration(root, len(table))
    if reached is None:
        hand_over(root.with_name("particles.star"), table, box)
        start = [["--i", str(root.with_name("particles.star"))], *options, *search_options(job.params, job.derived_seed("relion"))]
    else:
        job.progress.note(continued_after=reached)
        start = [["--continue", str(read_iteration(root, reached).optimiser)]]
    command = [*start, ["--o", str(root)], *resources(job.params, workers, job.devices, job.threads)]
    arguments = [program, *merged(command, job.params.arguments)]
    record_program(job.folder / "relion.json", program, [arguments], ranks=str(ranks))
    if reached is None or reached != last:
        _say_and_run(job, [*starter, *arguments], Path(program).name)
    newest = newest_iteration(root, len(table))
    if newest is None:
        raise InputError(f"{Path(program).name} ended without a whole iteration in {root.parent}")
    return root, read_iteration(root, newest)


def keep_files(job: Job[Any], root: Path, stem: str) -> None:
    """Copy the STAR files of a run's end beside the results, into the folder relion."""
    (job.folder / "relion").mkdir()
    for name in KEPT:
        source = Path(f"{stem}_{name}.star")
        if source.exists():
            shutil.copyfile(source, job.folder / "relion" / source.name)


def result_file(path: Path, program: str = "relion_refine") -> Path:
    """The path of a file that RELION should have written; raises InputError when it has not."""
    if not path.is_file():
        raise InputError(f"{program} ended without writing {path.name}; what it said is in the job's log")
    return path


def by_size(posed: pd.DataFrame, classes: int) -> tuple[np.ndarray, pd.DataFrame]:
    """(RELION's classes from 0, largest first, empty ones last; the particles with classes numbered so from 1)."""
    own = posed["class_number"].to_numpy(int) - 1
    order = np.argsort(-np.bincount(own, minlength=classes), kind="stable")
    return order, posed.assign(class_number=np.argsort(order)[own] + 1)


def course_of(root: Path, last: int) -> tuple[np.ndarray, list[float], list[float]]:
    """(fractions of RELION's classes `(iterations, k)`, part of the particles that changed class, resolution used in Å) of all iterations."""
    steps = [read_iteration(root, number) for number in range(1, last + 1) if Path(f"{root}_it{number:03d}_optimiser.star").exists()]
    changed = [float(step.general.get("rlnChangesOptimalClasses", np.nan)) for step in steps]
    return np.stack([step.classes["rlnClassDistribution"].to_numpy(float) for step in steps]), changed, [step.finest for step in steps]


class Listener:
    """Notes the progress that RELION tells, and keeps what it says of an error."""

    def __init__(self, job: Job[Any]):
        self._job, self._resolution, self.error = job, float("nan"), ""

    def __call__(self, line: str) -> None:
        """Hear one line."""
        if self.error == "ERROR:" or (not self.error and line.startswith("ERROR:")):
            self.error = line.removeprefix("ERROR:").strip() or "ERROR:"
        if found := re.search(r"CurrentResolution= *([\d.]+)", line):
            self._resolution = float(found.group(1))
        if found := re.search(r"Expectation iteration (\d+)(?: of (\d+))?", line):
            total = {"of": int(found.group(2))} if found.group(2) else {}
            self._job.progress.note(step="iterations", done=int(found.group(1)) - 1, resolution=self._resolution, **total)


def _say_and_run(job: Job[Any], arguments: Sequence[str], name: str) -> None:
    listener = Listener(job)
    try:
        run_program(arguments, Path(), heard=listener, environment=MPI_ENVIRONMENT | os.environ)
    except InputError as error:
        if not listener.error:
            raise
        raise InputError(f"{name}: {brief(listener.error)}") from error


def _program(executable: str | None, ranks: int) -> str:
    """relion_refine, or with MPI relion_refine_mpi beside it; the one given may be either."""
    name = "relion_refine_mpi" if ranks > 1 else "relion_refine"
    if executable is None:
        return find_program(name, None)
    given = executable.removesuffix("_mpi")
    return find_program(name, f"{given}_mpi" if ranks > 1 else given)
