"""Motion correction by programs of the users' own: what motioncor and relion_motioncorr share.

Convention: shifts are yx in pixels of the movie and move a frame onto the first one; local ones are RELION's polynomial.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError
from firn.families.motion import MOST_FIGURES, NEEDS, gain_path, motion_lengths, movie_info, write_tables
from firn.families.outside import record_program
from firn.formats.exposures import failed_row
from firn.formats.gain import fit_gain, read_gain
from firn.formats.motion_star import polynomial_terms, write_motion
from firn.formats.movie import movie_format
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.formats.tiff import file_size, open_pages
from firn.report.motion import draw_motion
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class OutsideMotionParams(JobParams):
    """Parameters of every correction of motion by another program."""

    stage: ClassVar[str] = "motion"
    lane: ClassVar[Lane] = "preprocess"
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    exposures: str = slot("exposures")
    """Movies to correct."""
    patches_x: int = Field(5, ge=0)
    """Patches along a row, in which local motion is measured; 0: whole frames only."""
    patches_y: int = Field(5, ge=0)
    """Patches along a column; 0: whole frames only."""
    start_frame: int = Field(0, ge=0)
    """First frame used, counted from 0. MotionCor takes EER movies whole."""
    end_frame: int | None = Field(None, ge=1)
    """Frame before which to stop; default: after the last. MotionCor takes EER movies whole."""
    f_crop: float = Field(1.0, gt=0, le=1)
    """Factor by which micrographs are Fourier-cropped: 1, 0.75, 0.5 or 0.25."""
    dose_weighting: bool = True
    """Weight frequencies by the signal left after the dose; needs the dose per frame."""
    save_plain: bool = True
    """Also keep sums without dose weights, to which a CTF is best fitted."""
    executable: str | None = None
    """Path of the program; by default the one on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the program."""
    time_limit_s: float = Field(1800.0, gt=0)
    """s. A movie that takes longer is given up."""

    @model_validator(mode="after")
    def _check_frames(self) -> "OutsideMotionParams":
        if self.end_frame is not None and self.end_frame <= self.start_frame:
            raise ValueError(f"end_frame {self.end_frame} must be greater than start_frame {self.start_frame}")
        return self


P = TypeVar("P", bound=OutsideMotionParams)


@dataclass(frozen=True)
class Outcome:
    """What a program made of a movie: sums by column of the table, shifts `(f, 2)` yx in pixels of the frames used, the local polynomial.

    more: further blocks of the motion STAR, which other programs read.
    """

    sums: Mapping[str, Path]
    shifts: np.ndarray
    model: np.ndarray | None
    more: Mapping[str, pd.DataFrame]


CorrectOne = Callable[[dict[str, Any], Path, list[tuple[str, ...]]], Outcome]


def correct_each(job: Job[P], program: str, work: str, record: str, correct_one: CorrectOne) -> None:
    """Correct each movie of the batch; one that cannot be used goes to failed.star and the rest goes on.

    work: name of a folder, deleted afterwards; correct_one: of a row, a path in it for a new folder, and a list to which it adds its command
    line; record: name of the file that tells program and arguments. Raises InputError when none of several movies is corrected, and what
    correct_one raises before it has made its folder, which is no movie's fault.
    """
    table = read_table(job.input("exposures", "exposures.star"), "exposures", needs=NEEDS)
    place = (job.folder / work).absolute()
    place.mkdir()
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    commands: list[tuple[str, ...]] = []
    for row in job.over(table.to_dict("records"), "exposures"):
        folder = place / str(row["exposure_id"])
        try:
            done.append(_take_over(job, row, correct_one(row, folder, commands), figure=len(done) < MOST_FIGURES))
        except ExposureError as error:
            failed.append(failed_row(row, error))
        except InputError as error:
            if not folder.exists():
                raise
            failed.append(failed_row(row, ExposureError("PROGRAM", f"{row['movie']}: {error}")))
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(place)
    if len(failed) > 1 and not done:
        raise InputError(f"none of {len(failed)} movies could be corrected; the first: {failed[0]['reason']}")
    record_program(job.folder / record, program, list(dict.fromkeys(commands)))
    write_tables(job, table, done, failed)


def last_frame(params: OutsideMotionParams, row: Mapping[str, Any]) -> int:
    """Frame before which to stop."""
    return min(params.end_frame or int(row["frames"]), int(row["frames"]))


def link_movie(row: Mapping[str, Any], links: Mapping[str, str], folder: Path, program: str) -> str:
    """Kind of a movie, to which a link of that kind's name, without odd letters, now lies in a new folder."""
    path = str(row["movie"])
    kind = movie_format(path)
    if kind not in links:
        raise ExposureError("NAME", f"{path}: {program} reads TIFF, EER and MRC, not packed movies")
    file_size(path)
    link = folder / links[kind]
    link.parent.mkdir(parents=True)
    link.symlink_to(Path(path).absolute())
    return kind


def raw_per_fraction(row: Mapping[str, Any]) -> tuple[int, int]:
    """(raw frames of an EER movie, how many of them make a fraction)."""
    with open_pages(str(row["movie"])) as pages:
        raw = len(pages)
    group = raw // int(row["eer_fractions"])
    if group < 1:
        raise ExposureError("FRAMES", f"{row['movie']}: has {raw} raw frames, too few for {int(row['eer_fractions'])} fractions")
    return raw, group


def fitted_gain(row: Mapping[str, Any]) -> np.ndarray | None:
    """The gain of a movie, at its size, which multiplies; None where there is none. Raises ExposureError where it cannot be read."""
    path = gain_path(row)
    if path is None:
        return None
    try:
        return fit_gain(read_gain(path), (int(row["height_px"]), int(row["width_px"])), path)
    except InputError as error:
        raise ExposureError("GAIN", f"{row['movie']}: cannot be corrected: {error}") from error


def defect_lines(gain: np.ndarray) -> str:
    """A list of the zeros of a gain as MotionCor and RELION read defects: column, row, width and height of rectangles; empty without any."""
    return "".join(f"{x} {y} {width} 1\n" for x, y, width in _runs(gain == 0))


def _runs(bad: np.ndarray) -> list[tuple[int, int, int]]:
    """(column, row, width) of each stretch of true pixels along the rows of a map `(y, x)`."""
    steps = np.diff(np.pad(bad.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return [(int(x), int(y), int(end - x)) for y, x, end in zip(rows, starts, ends, strict=True)]


def _take_over(job: Job[P], row: dict[str, Any], outcome: Outcome, figure: bool) -> dict[str, Any]:
    """Keep what the program made of a movie; the row with the new columns."""
    paths, shape = _take_sums(job, row, outcome.sums)
    name, pixel_size = str(row["exposure_id"]), float(row["movie_pixel_size"])
    start, shifts = job.params.start_frame, outcome.shifts
    info = movie_info(row, start, job.params.f_crop)
    write_motion(job.folder / f"motion/{name}.star", info, shifts * pixel_size, None, None, outcome.model, outcome.more)
    doses = info.pre_exposure + info.dose_per_frame * (start + 1 + np.arange(len(shifts)))
    size = {
        "width_px": shape[1],
        "height_px": shape[0],
        "micrograph_pixel_size": round(pixel_size * int(row["height_px"]) / shape[0], 6),
        "motion_star": job.output_path(f"motion/{name}.star"),
    }
    corrected = row | paths | size | motion_lengths(shifts * pixel_size, doses)
    if figure:
        _draw(job, corrected, shifts, outcome.model, doses)
    return corrected


def _take_sums(job: Job[P], row: Mapping[str, Any], sums: Mapping[str, Path]) -> tuple[dict[str, str], tuple[int, int]]:
    """(paths of the micrographs by column, their shape yx). Raises ExposureError when one that is wanted is missing or bad."""
    shapes = [_check_sum(row, path) for path in sums.values()]
    (job.folder / "micrographs").mkdir(exist_ok=True)
    paths: dict[str, str] = {}
    for column, path in sums.items():
        kept = f"micrographs/{row['exposure_id']}{column.removeprefix('micrograph')}.mrc"
        path.replace(job.folder / kept)
        paths[column] = job.output_path(kept)
    return paths, shapes[0]


def _check_sum(row: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Shape of a sum that the program wrote."""
    if not path.is_file():
        raise ExposureError("PROGRAM", f"{row['movie']}: the program ended without an error, but wrote no sum {path.name}")
    image, _ = read_mrc(path)
    if image.ndim != 2:
        raise ExposureError("PROGRAM", f"{row['movie']}: its sum {path.name} is no single image")
    if not np.isfinite(image).all():
        raise ExposureError("NONFINITE", f"{row['movie']}: its corrected sum is not finite")
    return image.shape[0], image.shape[1]


def _draw(job: Job[P], row: Mapping[str, Any], shifts: np.ndarray, model: np.ndarray | None, doses: np.ndarray) -> None:
    """The corrected micrograph with the paths of the centres of patches, or of the whole frame."""
    p = job.params
    counts = (p.patches_y, p.patches_x) if model is not None else (1, 1)
    centres = np.stack(np.meshgrid(*((np.arange(count) + 0.5) / count for count in counts), indexing="ij"), axis=-1).reshape(-1, 2)
    paths = np.repeat(shifts[:, None], len(centres), axis=1)
    if model is not None:
        z, y, x = np.arange(len(shifts), dtype=float)[:, None], centres[:, 0] - 0.5, centres[:, 1] - 0.5
        terms = polynomial_terms(
            np.broadcast_to(z, paths.shape[:2]), np.broadcast_to(y, paths.shape[:2]), np.broadcast_to(x, paths.shape[:2])
        )
        paths = paths + np.stack((terms @ model[18:], terms @ model[:18]), axis=-1)
    name = Path(str(row["movie"])).name
    path = job.figure(
        f"motion_{row['exposure_id']}", f"Motion of {name}", "The corrected micrograph with the paths of its patches, and the drift."
    )
    image, _ = read_mrc(job.staged_path(str(row["micrograph"])))
    draw_motion(path, name, centres, -paths * float(row["movie_pixel_size"]), image, float(row["micrograph_pixel_size"]), doses)
