"""Correct the motion of movies with MotionCor2 or MotionCor3, a program of the user's own, and read back what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from firn.errors import InputError, brief
from firn.families.motion import gain_path
from firn.families.outside import find_one_of, run_program
from firn.families.outside_motion import (
    Outcome,
    OutsideMotionParams,
    correct_each,
    defect_lines,
    fitted_gain,
    last_frame,
    link_movie,
    raw_per_fraction,
)
from firn.formats.compressed import no_damage
from firn.formats.motion_star import fit_points
from firn.formats.motioncor_log import find_log, read_full_shifts, read_patch_shifts, said_full_shifts
from firn.formats.movie import movie_format
from firn.runtime.job import Job

PROGRAMS = ("MotionCor3", "MotionCor2", "motioncor3", "motioncor2")
WORK = "motioncor"
"""Folder, deleted afterwards, where the program runs on links with short names: it has little room for paths, and goes by endings."""
INPUTS = {"tiff": ("-InTiff", "raw/movie.tif"), "eer": ("-InEer", "raw/movie.eer"), "mrc": ("-InMrc", "raw/movie.mrc")}
STEM = "movie"
FRACTIONS = "fractions.txt"
EER_SAMPLING = {1: 1, 2: 2, 4: 3}


class Params(OutsideMotionParams):
    """Align and sum movies by the program MotionCor2 or MotionCor3, which is installed apart from this one and needs a GPU.

    Its sums become micrographs and its shifts the motion STAR, as patch_motion would write them.
    """

    b_factor: float = Field(500.0, ge=0)
    """Å². Fall-off assumed when whole frames are aligned."""
    local_b_factor: float = Field(150.0, ge=0)
    """Å². Fall-off assumed when patches are aligned."""
    odd_even: bool = False
    """Also keep sums of the odd and of the even frames."""


@dataclass(frozen=True)
class References:
    """Files that go with a movie, relative to its folder, '' for none: gain, list of defects."""

    gain: str = ""
    defects: str = ""


def run(job: Job[Params]) -> None:
    """Correct each movie of the batch; one that cannot be used goes to failed.star and the rest goes on.

    Raises InputError when there is no program, or when it corrects none of several movies.
    """
    program = find_one_of(PROGRAMS, job.params.executable)
    gains: dict[str, References] = {}

    def correct_one(row: dict[str, Any], folder: Path, commands: list[tuple[str, ...]]) -> Outcome:
        kind = _place_movie(job, row, folder)
        words = motioncor_arguments(job.params, row, kind, _references(row, gains, folder.parent), job.device.index or 0)
        commands.append((program, *words))
        return _correct(job, commands[-1], row, folder)

    correct_each(job, program, WORK, "motioncor.json", correct_one)


def motioncor_arguments(params: Params, row: Mapping[str, Any], kind: str, references: References, gpu: int) -> list[str]:
    """Arguments for one movie of a kind (tiff, eer, mrc), whose files lie under fixed names in the folder where the program runs."""
    words: list[Any] = [*INPUTS[kind], "-OutMrc", f"{STEM}.mrc", "-LogDir", "logs/", "-LogFile", f"logs/{STEM}"]
    words += ["-Patch", params.patches_x, params.patches_y, "-Bft", params.b_factor, params.local_b_factor, "-FtBin", 1 / params.f_crop]
    words += ["-PixSize", float(row["movie_pixel_size"]), "-kV", float(row["voltage_kv"]), "-FmRef", 0, "-OutStack", 0, "-SumRange", 0, 0]
    if params.dose_weighting:
        words += ["-InitDose", float(row.get("pre_exposure", 0.0))]
        words += [] if kind == "eer" else ["-FmDose", float(row["dose_per_frame"])]
    if kind == "eer":
        words += ["-EerSampling", EER_SAMPLING[int(row["eer_upsampling"])], "-FmIntFile", FRACTIONS]
    else:
        words += ["-Throw", params.start_frame, "-Trunc", int(row["frames"]) - last_frame(params, row)]
    words += ["-Gain", references.gain] if references.gain else []
    words += ["-DefectFile", references.defects] if references.defects else []
    words += ["-SplitSum", 1] if params.odd_even else []
    return [*(f"{word:g}" if isinstance(word, float) else str(word) for word in words), "-Gpu", str(gpu), *params.arguments]


def _place_movie(job: Job[Params], row: Mapping[str, Any], folder: Path) -> str:
    """Kind of a movie, to which a link now lies in a new folder, for EER with how its raw frames are summed."""
    p = job.params
    if movie_format(str(row["movie"])) == "eer" and (p.start_frame or p.end_frame is not None):
        raise InputError(f"job {job.name}: MotionCor takes EER movies whole; leave start_frame and end_frame out")
    kind = link_movie(row, {kind: link for kind, (_, link) in INPUTS.items()}, folder, "MotionCor")
    (folder / "logs").mkdir()
    if kind == "eer":
        (folder / FRACTIONS).write_text(_fractions(row), encoding="utf-8")
    return kind


def _fractions(row: Mapping[str, Any]) -> str:
    """What -FmIntFile says: so many raw frames, so many of them to a fraction, the dose of one."""
    raw, group = raw_per_fraction(row)
    return f"{raw} {group} {float(row['dose_per_frame']) / group:.6g}\n"


def _references(row: Mapping[str, Any], gains_: dict[str, References], work: Path) -> References:
    """The gain of a movie, which lies as the movie does already, and a list of its zeros, which are defects; placed for each gain once."""
    path = gain_path(row)
    if path is None:
        return References()
    if path not in gains_:
        fitted = fitted_gain(row)
        lines = "" if fitted is None else defect_lines(fitted)
        gain, defects = f"gain{len(gains_)}.mrc", f"defects{len(gains_)}.txt"
        (work / gain).symlink_to(Path(path).absolute())
        (work / defects).write_text(lines, encoding="utf-8")
        gains_[path] = References(f"../{gain}", f"../{defects}" if lines else "")
    return gains_[path]


def _correct(job: Job[Params], command: Sequence[str], row: Mapping[str, Any], folder: Path) -> Outcome:
    """Run the program on one movie; what it made."""
    said: list[str] = []
    run_program(command, folder, heard=said.append, limit_s=job.params.time_limit_s)
    p = job.params
    wanted = {"micrograph": "_DW" if p.dose_weighting else ""}
    wanted |= {"micrograph_plain": ""} if p.dose_weighting and p.save_plain else {}
    wanted |= {"micrograph_odd": "_ODD", "micrograph_even": "_EVN"} if p.odd_even else {}
    sums = {column: folder / f"{STEM}{ending}.mrc" for column, ending in wanted.items()}
    return Outcome(sums, _read_shifts(p, row, folder, said), _read_model(row, folder), {})


def _read_shifts(params: Params, row: Mapping[str, Any], folder: Path, said: Sequence[str]) -> np.ndarray:
    """Shifts of whole frames `(f, 2)` yx in pixels, of the frames that were used."""
    log = find_log(folder / "logs", STEM, "Patch-Full") or find_log(folder / "logs", STEM, "Full")
    shifts = said_full_shifts(said) if log is None else read_full_shifts(log)
    if shifts is None:
        raise InputError(f"the program told of no shifts; its last line: {brief(said[-1] if said else 'it said nothing')}")
    eer, used = movie_format(str(row["movie"])) == "eer", last_frame(params, row) - params.start_frame
    if len(shifts) != used and not (eer and len(shifts) > used):
        raise InputError(f"the program told of the shifts of {len(shifts)} frames, expected {used}")
    return shifts[:used]


def _read_model(row: Mapping[str, Any], folder: Path) -> np.ndarray | None:
    """RELION's polynomial nearest to the shifts of patches; None where there are none."""
    log = find_log(folder / "logs", STEM, "Patch-Patch")
    if log is None:
        return None
    patches = read_patch_shifts(log)
    y, x = patches.centres[:, 0] / int(row["height_px"]) - 0.5, patches.centres[:, 1] / int(row["width_px"]) - 0.5
    with no_damage(log, "shifts of patches"):
        return fit_points(patches.frames, y, x, patches.shifts)
