"""Motion correction of batches of movies: what patch_motion and full_frame_motion share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from firn.errors import ExposureError, InputError
from firn.formats.exposures import failed_row, write_failed
from firn.formats.gain import fit_gain, read_gain
from firn.formats.motion_star import MovieInfo, SplineField, write_motion
from firn.formats.movie import iterate_frames
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.preprocess.frame_sum import Sums, sum_frames
from firn.preprocess.frames import Gain, PackedCounts, prepare_frames
from firn.preprocess.motion import Motion, Settings, estimate_motion
from firn.report.motion import draw_motion
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEEDS = ("exposure_id", "batch", "movie", "frames", "width_px", "height_px", "dose_per_frame", "voltage_kv", "movie_pixel_size")
EARLY_DOSE = 4.0
MOST_FIGURES = 1
MODEL_RASTER = 9
PACKED_BYTES = 2**30
HOT_SHARE = 1e-4


class MotionParams(JobParams):
    """Parameters of every correction of motion."""

    stage: ClassVar[str] = "motion"
    lane: ClassVar[Lane] = "preprocess"
    gpu_gb: ClassVar[int | None] = None
    scatter: ClassVar[bool] = True
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)

    exposures: str = slot("exposures")
    """Movies to correct."""
    max_align_resolution: float = Field(5.0, gt=0)
    """Å. Finest detail used to align frames."""
    b_factor: float = Field(500.0, ge=0)
    """Å². Fall-off assumed in the first search; afterwards signal and noise are measured at every frequency."""
    start_frame: int = Field(0, ge=0)
    """First frame used, counted from 0; the dose of earlier ones is accounted for."""
    end_frame: int | None = Field(None, ge=1)
    """Frame before which to stop; default: after the last."""
    f_crop: float = Field(1.0, gt=0, le=1)
    """Factor by which micrographs are Fourier-cropped: 1, 0.75, 0.5 or 0.25."""
    smoothing: float = Field(0.5, ge=0.01, le=100)
    """Stiffness of the trajectories; 0.5 takes the one that is most probable given the movie, more is stiffer."""
    dose_weighting: bool = True
    """Weight frequencies by the signal left after the dose; needs the dose per frame."""
    save_plain: bool = True
    """Also write sums without dose weights."""
    odd_even: bool = False
    """Also write plain sums of the odd and of the even frames: two images with independent noise, as denoisers learn from."""
    float16: bool = False
    """Write micrographs as 16-bit floats (MRC mode 12)."""

    @model_validator(mode="after")
    def _check(self) -> "MotionParams":
        if self.end_frame is not None and self.end_frame <= self.start_frame:
            raise ValueError(f"end_frame {self.end_frame} must be greater than start_frame {self.start_frame}")
        return self


P = TypeVar("P", bound=MotionParams)


@dataclass(frozen=True)
class Corrected:
    """One corrected movie: sums, motion, doses at the end of each frame used."""

    sums: Sums
    motion: Motion
    doses: np.ndarray

    @property
    def image(self) -> Tensor:
        """The micrograph: dose-weighted where doses are used."""
        return self.sums.plain if self.sums.weighted is None else self.sums.weighted


def correct_batch(job: Job[P], local: bool) -> None:
    """Correct each movie of the batch; one that cannot be used goes to failed.star and the rest goes on."""
    table = read_table(job.input("exposures", "exposures.star"), "exposures", needs=NEEDS)
    gains: dict[str, Gain] = {}
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for row in job.over(table.to_dict("records"), "exposures"):
        try:
            corrected = correct_movie(job, row, gain_of(job, row, gains), local)
            done.append(write_exposure(job, row, corrected, figure=len(done) < MOST_FIGURES))
        except ExposureError as error:
            failed.append(failed_row(row, error))
    write_tables(job, table, done, failed)


def correct_movie(job: Job[P], row: dict[str, Any], gain: Gain | None, local: bool) -> Corrected:
    """Read, align and sum one movie."""
    counts = read_counts(row, job.params.start_frame, job.params.end_frame, job.device, job.threads)
    return correct_counts(job, row, counts, gain, local)


def correct_counts(job: Job[P], row: dict[str, Any], counts: Sequence[Tensor], gain: Gain | None, local: bool) -> Corrected:
    """Align and sum the frames of one movie from start_frame on, as read_counts gave them."""
    p = job.params
    frames = prepare_frames(counts, gain, job.generator(str(row["exposure_id"])))
    pixel_size = float(row["movie_pixel_size"])
    doses = float(row.get("pre_exposure", 0.0)) + float(row["dose_per_frame"]) * (p.start_frame + 1 + np.arange(len(frames)))
    ends = torch.as_tensor(doses, dtype=torch.float32, device=job.device)
    try:
        motion = estimate_motion(frames, ends, Settings(pixel_size, p.max_align_resolution, p.b_factor, p.smoothing, local))
    except torch.linalg.LinAlgError as error:
        raise ExposureError("MOTION", f"{row['movie']}: its motion cannot be fitted ({error})") from error
    weights = ends if p.dose_weighting else None
    sums = sum_frames(frames, motion, pixel_size, weights, float(row["voltage_kv"]), p.f_crop, p.odd_even)
    if not math.isfinite(float(sums.plain.sum())):
        raise ExposureError("NONFINITE", f"{row['movie']}: its corrected sum is not finite")
    return Corrected(sums, motion, doses)


def read_counts(row: dict[str, Any], start: int, end: int | None, device: torch.device, threads: int = 1) -> Sequence[Tensor]:
    """Frames from `start` on, in the stored type, on the device; threads decode together.

    Raises ExposureError FRAMES or SHAPE when the movie is not what the table says, and as formats.movie.iterate_frames.
    """
    eer = {name: int(row[name]) for name in ("eer_fractions", "eer_upsampling") if name in row and not pd.isna(row[name])}
    shape = (int(row["height_px"]), int(row["width_px"]))
    counts: list[Tensor] | PackedCounts = []
    read = 0
    for read, frame in enumerate(iterate_frames(row["movie"], **eer, threads=threads), start=1):
        if frame.shape != shape:
            raise ExposureError(
                "SHAPE", f"{row['movie']}: frame {read} is {frame.shape[1]} x {frame.shape[0]} pixels, expected {shape[1]} x {shape[0]}"
            )
        if start < read <= (end or read):
            tensor = torch.from_numpy(_small_type(frame)).to(device)
            if not counts and tensor.dtype == torch.uint8 and tensor.numel() * int(row["frames"]) > PACKED_BYTES:
                counts = PackedCounts()
            counts.append(tensor)
    if read != int(row["frames"]):
        raise ExposureError("FRAMES", f"{row['movie']}: has {read} frames, expected {int(row['frames'])}")
    if not counts:
        raise ExposureError("FRAMES", f"{row['movie']}: has {read} frames, none of them at or after start_frame {start}")
    return counts


def _small_type(frame: np.ndarray) -> np.ndarray:
    """Contiguous counts in the smallest type that holds them, native byte order.

    Where nearly all counts fit a byte, the few that do not are those of hot pixels and become 255: still hot, and replaced later.
    """
    kind: type = np.float32 if frame.dtype.kind == "f" else frame.dtype.type
    if frame.dtype.kind == "u" and frame.dtype.itemsize > 1:
        over = frame > 255
        few = np.count_nonzero(over) <= HOT_SHARE * frame.size
        frame, kind = (np.where(over, 255, frame), np.uint8) if few else (frame, np.int32)
    return np.ascontiguousarray(frame, dtype=kind)


def gain_of(job: Job[P], row: dict[str, Any], gains: dict[str, Gain]) -> Gain | None:
    """The gain of a movie, read once; raises ExposureError GAIN when it cannot be read or does not fit the movie."""
    path = gain_path(row)
    if path is None:
        return None
    shape = (int(row["height_px"]), int(row["width_px"]))
    if path not in gains or gains[path].values.shape != shape:
        try:
            gains[path] = Gain(torch.from_numpy(fit_gain(read_gain(path), shape, path)).to(job.device))
        except InputError as error:
            raise ExposureError("GAIN", f"{row['movie']}: cannot be corrected: {error}") from error
    return gains[path]


def gain_path(row: Mapping[str, Any]) -> str | None:
    """File of a movie's gain, which lies as the movie does and multiplies; None where there is none."""
    path = str(row.get("gain", "None"))
    return None if path in ("", "None", "nan") else path


def write_exposure(
    job: Job[P], row: dict[str, Any], corrected: Corrected, figure: bool, write: Callable[..., None] = write_image
) -> dict[str, Any]:
    """Micrographs (by `write`, with the arguments of write_image), motion STAR and figure of one movie; its row with the new columns."""
    name, sums = str(row["exposure_id"]), corrected.sums
    pixel_size = float(row["movie_pixel_size"]) * int(row["height_px"]) / sums.plain.shape[0]
    images = {"micrograph": ("", corrected.image), "micrograph_odd": ("_odd", sums.odd), "micrograph_even": ("_even", sums.even)}
    if job.params.save_plain and sums.weighted is not None:
        images["micrograph_plain"] = ("_plain", sums.plain)
    updated = row | {"motion_star": job.output_path(f"motion/{name}.star")}
    for column, (suffix, image) in images.items():
        if image is not None:
            file = f"micrographs/{name}{suffix}.mrc"
            write(job.folder / file, image.cpu().numpy(), pixel_size, job.params.float16)
            updated[column] = job.output_path(file)
    _write_star(job, row, corrected)
    if figure:
        _draw(job, row, corrected, pixel_size)
    size = {"width_px": sums.plain.shape[1], "height_px": sums.plain.shape[0], "micrograph_pixel_size": round(pixel_size, 6)}
    counted = float(sums.plain.mean()) / (len(corrected.doses) * float(row["movie_pixel_size"]) ** 2)
    return updated | size | {"dose_counted": round(counted, 5)} | motion_lengths(corrected.motion.shifts.cpu().numpy(), corrected.doses)


def motion_lengths(shifts: np.ndarray, doses: np.ndarray) -> dict[str, float]:
    """Length in Å of the path of global shifts `(f, 2)`: total, before and after a dose of 4 e/Å², as RELION reports them."""
    steps = np.linalg.norm(np.diff(shifts, axis=0), axis=1)
    early = doses[1:] <= EARLY_DOSE
    return {"motion_total": float(steps.sum()), "motion_early": float(steps[early].sum()), "motion_late": float(steps[~early].sum())}


def _write_star(job: Job[P], row: dict[str, Any], corrected: Corrected) -> None:
    motion, info = corrected.motion, movie_info(row, job.params.start_frame, job.params.f_crop)
    field = None if motion.field is None else SplineField(motion.field.coefficients.cpu().numpy(), motion.field.times.cpu().numpy())
    write_motion(job.folder / f"motion/{row['exposure_id']}.star", info, motion.shifts.cpu().numpy(), field, _local_raster(motion))


def movie_info(row: Mapping[str, Any], start_frame: int, f_crop: float) -> MovieInfo:
    """What a motion STAR says of a movie whose frames from start_frame (from 0) on were used, and whose sums were cropped by f_crop."""
    return MovieInfo(
        movie=str(row["movie"]),
        gain=gain_path(row),
        width=int(row["width_px"]),
        height=int(row["height_px"]),
        frames=int(row["frames"]),
        start_frame=start_frame + 1,
        binning=1 / f_crop,
        pixel_size=float(row["movie_pixel_size"]),
        dose_per_frame=float(row["dose_per_frame"]),
        pre_exposure=float(row.get("pre_exposure", 0.0)),
        voltage_kv=float(row["voltage_kv"]),
    )


def _local_raster(motion: Motion) -> np.ndarray | None:
    if motion.field is None:
        return None
    axis = torch.linspace(0, 1, MODEL_RASTER, device=motion.shifts.device)
    points = torch.cartesian_prod(axis, axis)
    return motion.field.at_points(points).reshape(-1, MODEL_RASTER, MODEL_RASTER, 2).cpu().numpy()


def _draw(job: Job[P], row: dict[str, Any], corrected: Corrected, pixel_size: float) -> None:
    centres = corrected.motion.tile_centres
    paths = -corrected.motion.at_points(centres).cpu().numpy()
    name = Path(str(row["movie"])).name
    path = job.figure(
        f"motion_{row['exposure_id']}", f"Motion of {name}", "The corrected micrograph with the paths of its tiles, and the drift."
    )
    draw_motion(path, name, centres.cpu().numpy(), paths, corrected.image.cpu().numpy(), pixel_size, corrected.doses)


def write_tables(job: Job[Any], table: pd.DataFrame, done: list[dict[str, Any]], failed: list[dict[str, str]]) -> None:
    """Write exposures.star and failed.star of the movies in a table, and say how many there are of each."""
    columns = [*table.columns, "micrograph", "motion_star", "motion_total", "motion_early", "motion_late"]
    result = pd.DataFrame(done) if done else pd.DataFrame(columns=columns)
    write_table(job.folder / "exposures.star", result, "exposures")
    write_failed(job.folder, failed)
    job.metric("exposures_corrected", len(done))
    job.metric("exposures_failed", len(failed))
    if done:
        job.metric("median_motion", float(result["motion_total"].median()), "Å")
    if failed:
        job.warn(f"{len(failed)} of {len(table)} movies cannot be corrected; the first: {failed[0]['reason']}")
