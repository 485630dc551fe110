"""Correct the motion of movies with MotionCor2 or MotionCor3, a program of the user's own, and read back what it found."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from firn.errors import ExposureError, InputError, brief
from firn.families.motion import MOST_FIGURES, NEEDS, gain_path, motion_lengths, movie_info, write_tables
from firn.families.outside import find_one_of, record_program, run_program
from firn.formats.compressed import no_damage
from firn.formats.exposures import failed_row
from firn.formats.gain import fit_gain, read_gain
from firn.formats.motion_star import fit_points, polynomial_terms, write_motion
from firn.formats.motioncor_log import find_log, read_full_shifts, read_patch_shifts, said_full_shifts
from firn.formats.movie import movie_format
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.formats.tiff import file_size, open_pages
from firn.report.motion import draw_motion
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

PROGRAMS = ("MotionCor3", "MotionCor2", "motioncor3", "motioncor2")
WORK = "motioncor"
"""Folder, deleted afterwards, where the program runs on links with short names: it has little room for paths, and goes by endings."""
INPUTS = {"tiff": ("-InTiff", "raw/movie.tif"), "eer": ("-InEer", "raw/movie.eer"), "mrc": ("-InMrc", "raw/movie.mrc")}
STEM = "movie"
FRACTIONS = "fractions.txt"
EER_SAMPLING = {1: 1, 2: 2, 4: 3}


class Params(JobParams):
    """Align and sum movies by the program MotionCor2 or MotionCor3, which is installed apart from this one and needs a GPU.

    Its sums become micrographs and its shifts the motion STAR, as patch_motion would write them.
    """

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
    b_factor: float = Field(500.0, ge=0)
    """Å². Fall-off assumed when whole frames are aligned."""
    local_b_factor: float = Field(150.0, ge=0)
    """Å². Fall-off assumed when patches are aligned."""
    start_frame: int = Field(0, ge=0)
    """First frame used, counted from 0. EER movies are taken whole."""
    end_frame: int | None = Field(None, ge=1)
    """Frame before which to stop; default: after the last. EER movies are taken whole."""
    f_crop: float = Field(1.0, gt=0, le=1)
    """Factor by which micrographs are Fourier-cropped: 1, 0.75, 0.5 or 0.25."""
    dose_weighting: bool = True
    """Weight frequencies by the signal left after the dose; needs the dose per frame."""
    save_plain: bool = True
    """Also keep sums without dose weights, to which a CTF is best fitted."""
    odd_even: bool = False
    """Also keep sums of the odd and of the even frames."""
    executable: str | None = None
    """Path of the program; by default the `MotionCor3` or else the `MotionCor2` on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further arguments, such as `-Group 4` as two words."""
    time_limit_s: float = Field(1800.0, gt=0)
    """s. A movie that takes longer is given up."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.end_frame is not None and self.end_frame <= self.start_frame:
            raise ValueError(f"end_frame {self.end_frame} must be greater than start_frame {self.start_frame}")
        return self


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
    table = read_table(job.input("exposures", "exposures.star"), "exposures", needs=NEEDS)
    work = (job.folder / WORK).absolute()
    work.mkdir()
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    commands: list[tuple[str, ...]] = []
    gains: dict[str, References] = {}
    for row in job.over(table.to_dict("records"), "exposures"):
        folder = work / str(row["exposure_id"])
        try:
            kind = _place_movie(job, row, folder)
            words = motioncor_arguments(job.params, row, kind, _references(row, gains, work), job.device.index or 0)
            commands.append((program, *words))
            done.append(_correct(job, commands[-1], row, folder, figure=len(done) < MOST_FIGURES))
        except ExposureError as error:
            failed.append(failed_row(row, error))
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(work)
    if len(failed) > 1 and not done:
        raise InputError(f"none of {len(failed)} movies could be corrected; the first: {failed[0]['reason']}")
    record_program(job.folder / "motioncor.json", program, list(dict.fromkeys(commands)))
    write_tables(job, table, done, failed)


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
        words += ["-Throw", params.start_frame, "-Trunc", int(row["frames"]) - _end(params, row)]
    words += ["-Gain", references.gain] if references.gain else []
    words += ["-DefectFile", references.defects] if references.defects else []
    words += ["-SplitSum", 1] if params.odd_even else []
    return [*(f"{word:g}" if isinstance(word, float) else str(word) for word in words), "-Gpu", str(gpu), *params.arguments]


def _end(params: Params, row: Mapping[str, Any]) -> int:
    """Frame before which to stop."""
    return min(params.end_frame or int(row["frames"]), int(row["frames"]))


def _place_movie(job: Job[Params], row: Mapping[str, Any], folder: Path) -> str:
    """Kind of a movie, to which a link now lies in a new folder, for EER with how its raw frames are summed."""
    p, path = job.params, str(row["movie"])
    kind = movie_format(path)
    if kind not in INPUTS:
        raise ExposureError("NAME", f"{path}: MotionCor reads TIFF, EER and MRC, not packed movies")
    if kind == "eer" and (p.start_frame or p.end_frame is not None):
        raise InputError(f"job {job.name}: MotionCor takes EER movies whole; leave start_frame and end_frame out")
    file_size(path)
    for name in ("raw", "logs"):
        (folder / name).mkdir(parents=True)
    (folder / INPUTS[kind][1]).symlink_to(Path(path).absolute())
    if kind == "eer":
        (folder / FRACTIONS).write_text(_fractions(row), encoding="utf-8")
    return kind


def _fractions(row: Mapping[str, Any]) -> str:
    """What -FmIntFile says: so many raw frames, so many of them to a fraction, the dose of one."""
    with open_pages(str(row["movie"])) as pages:
        raw = len(pages)
    group = raw // int(row["eer_fractions"])
    if group < 1:
        raise ExposureError("FRAMES", f"{row['movie']}: has {raw} raw frames, too few for {int(row['eer_fractions'])} fractions")
    return f"{raw} {group} {float(row['dose_per_frame']) / group:.6g}\n"


def _references(row: Mapping[str, Any], gains_: dict[str, References], work: Path) -> References:
    """The gain of a movie, which lies as the movie does already, and a list of its zeros, which are defects; placed for each gain once."""
    path = gain_path(row)
    if path is None:
        return References()
    if path not in gains_:
        try:
            bad = fit_gain(read_gain(path), (int(row["height_px"]), int(row["width_px"])), path) == 0
        except InputError as error:
            raise ExposureError("GAIN", f"{row['movie']}: cannot be corrected: {error}") from error
        gain, defects = f"gain{len(gains_)}.mrc", f"defects{len(gains_)}.txt"
        (work / gain).symlink_to(Path(path).absolute())
        (work / defects).write_text("".join(f"{x} {y} {width} 1\n" for x, y, width in _runs(bad)), encoding="utf-8")
        gains_[path] = References(f"../{gain}", f"../{defects}" if bad.any() else "")
    return gains_[path]


def _runs(bad: np.ndarray) -> list[tuple[int, int, int]]:
    """(column, row, width) of each stretch of true pixels along the rows of a map `(y, x)`."""
    steps = np.diff(np.pad(bad.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return [(int(x), int(y), int(end - x)) for y, x, end in zip(rows, starts, ends, strict=True)]


def _correct(job: Job[Params], command: Sequence[str], row: dict[str, Any], folder: Path, figure: bool) -> dict[str, Any]:
    """Run the program on one movie and take over what it wrote; the row with the new columns."""
    said: list[str] = []
    try:
        run_program(command, folder, heard=said.append, limit_s=job.params.time_limit_s)
        shifts = _read_shifts(job.params, row, folder, said)
        model = _read_model(row, folder)
        paths, shape = _take_sums(job, row, folder)
    except ExposureError:
        raise
    except InputError as error:
        raise ExposureError("PROGRAM", f"{row['movie']}: {error}") from error
    name, pixel_size = str(row["exposure_id"]), float(row["movie_pixel_size"])
    start = job.params.start_frame
    info = movie_info(row, start, job.params.f_crop)
    write_motion(job.folder / f"motion/{name}.star", info, shifts * pixel_size, None, None, model)
    doses = info.pre_exposure + info.dose_per_frame * (start + 1 + np.arange(len(shifts)))
    size = {
        "width_px": shape[1],
        "height_px": shape[0],
        "micrograph_pixel_size": round(pixel_size * int(row["height_px"]) / shape[0], 6),
        "motion_star": job.output_path(f"motion/{name}.star"),
    }
    corrected = row | paths | size | motion_lengths(shifts * pixel_size, doses)
    if figure:
        _draw(job, corrected, shifts, model, doses)
    return corrected


def _take_sums(job: Job[Params], row: Mapping[str, Any], folder: Path) -> tuple[dict[str, str], tuple[int, int]]:
    """(paths of the micrographs by column, their shape yx). Raises ExposureError when one that is wanted is missing or bad."""
    p, name = job.params, str(row["exposure_id"])
    wanted = {"micrograph": "_DW" if p.dose_weighting else ""}
    wanted |= {"micrograph_plain": ""} if p.dose_weighting and p.save_plain else {}
    wanted |= {"micrograph_odd": "_ODD", "micrograph_even": "_EVN"} if p.odd_even else {}
    shapes = [_check_sum(row, folder / f"{STEM}{ending}.mrc") for ending in wanted.values()]
    (job.folder / "micrographs").mkdir(exist_ok=True)
    paths: dict[str, str] = {}
    for column, ending in wanted.items():
        kept = f"micrographs/{name}{column.removeprefix('micrograph')}.mrc"
        (folder / f"{STEM}{ending}.mrc").replace(job.folder / kept)
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


def _read_shifts(params: Params, row: Mapping[str, Any], folder: Path, said: Sequence[str]) -> np.ndarray:
    """Shifts of whole frames `(f, 2)` yx in pixels, of the frames that were used."""
    log = find_log(folder / "logs", STEM, "Patch-Full") or find_log(folder / "logs", STEM, "Full")
    shifts = said_full_shifts(said) if log is None else read_full_shifts(log)
    if shifts is None:
        raise InputError(f"the program told of no shifts; its last line: {brief(said[-1] if said else 'it said nothing')}")
    eer, used = movie_format(str(row["movie"])) == "eer", _end(params, row) - params.start_frame
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


def _draw(job: Job[Params], row: Mapping[str, Any], shifts: np.ndarray, model: np.ndarray | None, doses: np.ndarray) -> None:
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
