"""Correct the motion of movies with RELION's own implementation, a program of the user's own, and read back what it found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from firn.errors import ExposureError, InputError, brief
from firn.families.motion import gain_path
from firn.families.outside import find_program, run_program
from firn.families.outside_motion import (
    Outcome,
    OutsideMotionParams,
    correct_each,
    fitted_gain,
    last_frame,
    link_movie,
    raw_per_fraction,
)
from firn.families.relion import Listener, merged
from firn.formats.mrc import write_image
from firn.formats.relion_motion import read_relion_motion, write_movie_list
from firn.runtime.job import Job
from firn.runtime.params import Lane

PROGRAM = "relion_run_motioncorr"
WORK = "relion"
"""Folder, deleted afterwards, where the program runs on links with short names: it reads no names with blanks."""
LINKS = {"tiff": "raw/movie.tiff", "mrc": "raw/movie.mrcs", "eer": "raw/movie.eer"}
LIST, OUT, STEM = "movies.star", "out", "out/raw/movie"


class Params(OutsideMotionParams):
    """Align and sum movies by RELION's own implementation (`relion_run_motioncorr --use_own`), installed apart from this one.

    Its sums become micrographs and its shifts the motion STAR, as patch_motion would write them. It needs no GPU.
    """

    lane: ClassVar[Lane] = "cpu"
    b_factor: float = Field(150.0, ge=0)
    """Pixels². Fall-off assumed when frames are aligned."""
    group_frames: int = Field(1, ge=1)
    """Frames that are averaged before their shifts are measured; more where a frame has few electrons."""


def run(job: Job[Params]) -> None:
    """Correct each movie of the batch; one that cannot be used goes to failed.star and the rest goes on.

    Raises InputError when there is no program, or when it corrects none of several movies.
    """
    program = find_program(PROGRAM, job.params.executable)
    gains: dict[str, str] = {}

    def correct_one(row: dict[str, Any], folder: Path, commands: list[tuple[str, ...]]) -> Outcome:
        kind = link_movie(row, LINKS, folder, "RELION")
        gain = _gain(row, gains, folder.parent)
        contrast, aberration = float(row.get("amplitude_contrast", 0.1)), float(row.get("cs_mm", 2.7))
        write_movie_list(folder / LIST, LINKS[kind], float(row["movie_pixel_size"]), float(row["voltage_kv"]), aberration, contrast)
        commands.append((program, *relion_arguments(job.params, row, kind, gain, job.threads)))
        return _correct(job, commands[-1], row, folder)

    correct_each(job, program, WORK, "relion.json", correct_one)


def relion_arguments(params: Params, row: Mapping[str, Any], kind: str, gain: str, threads: int) -> list[str]:
    """Arguments for one movie of a kind (tiff, mrc, eer), which lies under a fixed name in the folder where the program runs."""
    numbers: dict[str, Any] = {
        "--j": threads,
        "--patch_x": max(1, params.patches_x),
        "--patch_y": max(1, params.patches_y),
        "--bfactor": params.b_factor,
        "--group_frames": params.group_frames,
        "--bin_factor": 1 / params.f_crop,
        "--first_frame_sum": params.start_frame + 1,
        "--last_frame_sum": last_frame(params, row),
        "--dose_per_frame": float(row["dose_per_frame"]),
        "--preexposure": float(row.get("pre_exposure", 0.0)),
    }
    if kind == "eer":
        numbers |= {"--eer_grouping": raw_per_fraction(row)[1], "--eer_upsampling": int(row["eer_upsampling"])}
    pairs = [[name, f"{value:.7g}"] for name, value in numbers.items()]
    weighting = [["--dose_weighting"], *([["--save_noDW"]] if params.save_plain else [])] if params.dose_weighting else []
    files = [["--i", LIST], ["--o", f"{OUT}/"], *([["--gainref", gain]] if gain else [])]
    return merged([["--use_own"], *files, *pairs, *weighting], params.arguments)


def _gain(row: Mapping[str, Any], gains_: dict[str, str], work: Path) -> str:
    """The gain of a movie, at its size, relative to the movie's folder, written once; '' for none. RELION mends what is zero in it."""
    path = gain_path(row)
    if path is None:
        return ""
    if path not in gains_:
        fitted = fitted_gain(row)
        if fitted is None:
            return ""
        name = f"gain{len(gains_)}.mrc"
        write_image(work / name, fitted, float(row["movie_pixel_size"]))
        gains_[path] = f"../{name}"
    return gains_[path]


def _correct(job: Job[Params], command: Sequence[str], row: Mapping[str, Any], folder: Path) -> Outcome:
    """Run the program on one movie; what it made."""
    said: list[str] = []
    listener = Listener(job)

    def hear(line: str) -> None:
        said.append(line)
        listener(line)

    try:
        run_program(command, folder, heard=hear, limit_s=job.params.time_limit_s)
    except InputError as error:
        if not listener.error:
            raise
        raise InputError(f"{PROGRAM}: {brief(listener.error)}") from error
    star = folder / f"{STEM}.star"
    if not star.is_file():
        why = next((line for line in said if line.startswith("Skipped")), said[-1] if said else "it said nothing")
        raise ExposureError("PROGRAM", f"{row['movie']}: {PROGRAM} corrected nothing: {brief(why)}")
    return _outcome(job.params, row, folder, star)


def _outcome(params: Params, row: Mapping[str, Any], folder: Path, star: Path) -> Outcome:
    motion, first = read_relion_motion(star), params.start_frame + 1
    if motion.frames < int(row["frames"]):
        raise ExposureError("FRAMES", f"{row['movie']}: {PROGRAM} read {motion.frames} frames, expected {int(row['frames'])}")
    if (motion.first, len(motion.shifts)) != (first, last_frame(params, row) - params.start_frame):
        raise ExposureError("PROGRAM", f"{row['movie']}: {PROGRAM} tells of {len(motion.shifts)} frames from frame {motion.first} on")
    sums = {"micrograph": folder / f"{STEM}.mrc"}
    if params.dose_weighting and params.save_plain:
        sums["micrograph_plain"] = folder / f"{STEM}_noDW.mrc"
    return Outcome(sums, motion.shifts, motion.model, motion.more)
