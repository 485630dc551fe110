"""Estimate the CTF of exposures with CTFFIND 4.1 or 5, a program of the user's own, and read its fits."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from firn.errors import ExposureError, InputError
from firn.families.ctf import Row
from firn.families.motion import gain_path
from firn.families.outside import find_one_of, run_program
from firn.families.outside_ctf import IMAGE, OutsideCtfParams, blamed, figure_of, fit_batch, no_fit, place_image, words
from firn.formats.foreign_ctf import ForeignFit, read_ctffind, read_ring_profile
from firn.formats.movie import movie_format
from firn.formats.mrc import read_mrc
from firn.formats.tiff import file_size
from firn.report.foreign_ctf import draw_foreign_fit
from firn.runtime.job import Job

PROGRAMS = ("ctffind", "ctffind5", "ctffind4")
MOVIES = {"tiff": "image.tif", "mrc": IMAGE}
SPECTRUM = "spectrum.mrc"


class Params(OutsideCtfParams):
    """Estimate the contrast transfer function by the program CTFFIND 4.1 or 5, which is installed apart from this one.

    Sums without dose weights are fitted where there are some.
    """

    revision: ClassVar[int] = 1

    tolerated_astigmatism: float = Field(200.0, gt=0)
    """Å. Greater astigmatism is held to be unlikely."""
    slow_search: bool = True
    """Search in two dimensions from the start: slower, and surer where astigmatism is large."""
    frames_averaged: int | None = Field(None, ge=1)
    """Fit the spectra of movies, averaged over sums of so many frames, instead of those of micrographs; TIFF and MRC without a gain only."""


def run(job: Job[Params]) -> None:
    """Fit every exposure of the batch; one that cannot be fitted goes to failed.star with its reason."""
    program = find_one_of(PROGRAMS, job.params.executable)
    told: dict[str, str] = {}

    def fit_one(row: Row, folder: Path, said: list[str]) -> tuple[list[str], ForeignFit]:
        answers = ctffind_answers(job.params, row, _place(job, row, folder))
        told["answers"] = " ".join(answers)
        return [program, *job.params.arguments], _fit(job, program, answers, row, folder, said)

    def draw(row: Row, folder: Path, fit: ForeignFit) -> None:
        path, title = figure_of(job, row, fit)
        profile = folder / SPECTRUM.replace(".mrc", "_avrot.txt")
        curves = read_ring_profile(profile) if profile.is_file() else None
        draw_foreign_fit(path, title, read_mrc(folder / SPECTRUM)[0], fit.resolution, curves)

    fit_batch(job, program, "ctffind.json", fit_one, draw, told)


def ctffind_answers(params: Params, row: Row, image: str) -> list[str]:
    """What CTFFIND reads from standard input: an answer to each of its questions.

    Version 4.1.15 asks for a tilt and 5 for a thickness besides; where they do not, a `no` meant for them answers the next question, to which it
    is the answer too, and the last ones are not read.
    """
    movie = params.frames_averaged is not None
    pixel_size = float(row["movie_pixel_size" if movie else "micrograph_pixel_size"])
    finest = max(params.max_resolution, 2 * pixel_size)
    answers: list[Any] = [image, *(("yes", params.frames_averaged) if movie else ()), SPECTRUM, pixel_size]
    answers += [float(row["voltage_kv"]), float(row["cs_mm"]), float(row["amplitude_contrast"]), params.box_px]
    answers += [params.min_resolution, finest, params.min_defocus, params.max_defocus, params.defocus_step]
    answers += ["no", "yes" if params.slow_search else "no", "yes", params.tolerated_astigmatism]
    if params.fit_phase_shift:
        phases = (params.min_phase_shift, params.max_phase_shift, params.phase_shift_step)
        answers += ["yes", *(math.radians(phase) for phase in phases)]
    else:
        answers += ["no"]
    return words([*answers, "no", "no", "no"])


def _fit(job: Job[Params], program: str, answers: Sequence[str], row: Row, folder: Path, said_: list[str]) -> ForeignFit:
    """The fit of one exposure, whose image lies in the folder."""
    p = job.params
    spoken = {**os.environ, "LC_ALL": "C", "OMP_NUM_THREADS": str(job.threads)}
    lines, failure = "".join(f"{answer}\n" for answer in answers), None
    try:
        run_program([program, *p.arguments], folder, heard=said_.append, environment=spoken, answers=lines, limit_s=p.time_limit_s)
    except InputError as error:
        failure = error
    try:
        return _read(folder, p.min_resolution, said_)
    except InputError as error:
        raise blamed(row, failure or error) from error


def _read(folder: Path, worst: float, said: Sequence[str]) -> ForeignFit:
    """The fit in a folder: it counts, and not the exit code, which some versions do not set to 0 when they have done their work."""
    result = folder / SPECTRUM.replace(".mrc", ".txt")
    if not result.is_file():
        raise no_fit(said)
    return read_ctffind(result, worst)


def _place(job: Job[Params], row: Row, folder: Path) -> str:
    """Name of a link to what is fitted: the micrograph, or the movie."""
    if job.params.frames_averaged is None:
        place_image(row, folder)
        return IMAGE
    path = str(row.get("movie", ""))
    if not path or gain_path(row) is not None:
        raise InputError(f"job {job.name}: frames_averaged needs movies that have no gain reference; leave it out to fit the micrographs")
    kind = movie_format(path)
    if kind not in MOVIES:
        raise ExposureError("NAME", f"{path}: CTFFIND is given movies in TIFF and MRC only")
    file_size(path)
    (folder / MOVIES[kind]).symlink_to(Path(path).absolute())
    return MOVIES[kind]
