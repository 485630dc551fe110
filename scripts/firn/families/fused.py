"""The fused worker: the steps from a movie to picks one after another in memory, then limits on picks and particle images.

Reading and decoding of the next movie, and writing of results, go on beside the computation. Images that a later step uses are
rounded as their files are, so that the numbers are those of the single job types.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pydantic.fields import FieldInfo
from torch import Tensor

from firn.errors import ExposureError
from firn.families.blobs import BlobParams, pick_blobs
from firn.families.ctf import CtfParams, check_image, ctf_columns, draw_fit, fit_exposure, without_fit
from firn.families.extraction import COLUMNS, ExtractionParams, extract_exposure, without_images
from firn.families.former import former_run, keys_of, leave, take_over
from firn.families.motion import MOST_FIGURES, MotionParams, correct_counts, gain_of, read_counts, write_exposure
from firn.families.pick_limits import LimitParams, decide, too_large
from firn.families.template_matches import TemplateParams, Templates, pick_templates
from firn.formats.exposures import PICK_COLUMNS, failed_row, join_tables, load_micrograph, write_failed
from firn.formats.mrc import write_image
from firn.formats.tables import write_table
from firn.preprocess.frames import Gain
from firn.report.picks import draw_picks
from firn.report.thumbnails import write_thumbnail
from firn.runtime.ahead import Behind
from firn.runtime.job import Job
from firn.runtime.params import JobParams, slot_kind

STEPS: dict[str, type[JobParams]] = {
    "motion": MotionParams,
    "ctf": CtfParams,
    "blob": BlobParams,
    "template": TemplateParams,
    "limit": LimitParams,
    "extract": ExtractionParams,
}
HELD_BYTES = 2 * 2**30
"""Micrographs held in memory for extraction; those of larger batches are read again."""
STAGES = ("read", "motion", "ctf", "pick", "extract")
Counts = Sequence[Tensor]


def step_fields(step: str) -> dict[str, tuple[Any, Any]]:
    """Parameters of a step as fields of the fused job: prefix and underscore before their names; pickers' are never required."""
    fields: dict[str, tuple[Any, Any]] = {}
    for name, info in STEPS[step].model_fields.items():
        if slot_kind(info) is None:
            choice = step in ("blob", "template") and info.is_required()
            kind, field = (info.annotation | None, _optional(info)) if choice else (info.annotation, info)  # type: ignore[operator]
            fields[f"{step}_{name}"] = (kind, field)
    return fields


@dataclass(frozen=True)
class Steps:
    """Parameters of each step; of the two pickers the one that is used."""

    motion: MotionParams
    ctf: CtfParams
    picker: BlobParams | TemplateParams
    limit: LimitParams
    extract: ExtractionParams

    @classmethod
    def of(cls, params: Any) -> "Steps":
        """From the parameters of the fused job; raises ValidationError."""
        made = {step: _step(step, params) for step in STEPS if step != ("blob" if params.templates else "template")}
        picker = made.pop("template" if params.templates else "blob")
        return cls(picker=picker, **made)


@dataclass(frozen=True)
class _Held:
    """An exposure whose particles are not cut yet, with its micrograph while memory allows."""

    row: dict[str, Any]
    micrograph: np.ndarray | None


class Worker:
    """State of one batch: what is done, what failed, and micrographs that wait for the limits on picks."""

    def __init__(self, job: Job[Any], behind: Behind):
        self.job, self.behind = job, behind
        steps = Steps.of(job.params)
        self.motion: Job[MotionParams] = replace(job, params=steps.motion)
        self.ctf: Job[CtfParams] = replace(job, params=steps.ctf)
        self.picker: Job[Any] = replace(job, params=steps.picker)
        self.cutter: Job[ExtractionParams] = replace(job, params=steps.extract)
        self.limits = steps.limit
        self.keys = keys_of(job, vars(steps))
        self.former = former_run(job, self.keys)
        take_over(job, self.former)
        self.templates = Templates(self.picker) if job.params.templates else None
        self.gains: dict[str, Gain] = {}
        self.held: list[_Held] = []
        self.picks: list[pd.DataFrame] = []
        self.kept = self.particles = pd.DataFrame()
        self.failed: list[dict[str, str]] = []

    def read(self, row: dict[str, Any]) -> Counts | np.ndarray:
        """Decode a movie, or read the micrograph where that need not be made again; called in another thread."""
        p, former = self.motion.params, self.former.rows.get(str(row["exposure_id"]))
        if former is not None:
            return load_micrograph(former)
        return read_counts(row, p.start_frame, p.end_frame, self.job.device, self.job.threads)

    def process(self, row: dict[str, Any], reading: "Future[Any]") -> None:
        """Take one movie, as it was read, to its picks; an exposure that cannot be used is listed with its reason."""
        seconds: dict[str, float] = {}
        try:
            with _clock(seconds, "read"):
                read = reading.result()
            row, image = self._see(row, read, seconds)
            with _clock(seconds, "pick"):
                self._pick(row, image)
        except ExposureError as error:
            self.failed.append(failed_row(row, error))
            return
        fits = (len(self.held) + 1) * image.nbytes <= HELD_BYTES
        self.held.append(_Held(row | {f"seconds_{stage}": value for stage, value in seconds.items()}, image if fits else None))

    def _see(self, row: dict[str, Any], read: Any, seconds_: dict[str, float]) -> tuple[dict[str, Any], np.ndarray]:
        """(row with motion and CTF, micrograph): made from the frames, or as they were."""
        former = self.former.rows.get(str(row["exposure_id"]))
        if former is not None:
            del seconds_["read"]
            return former, read
        with _clock(seconds_, "motion"):
            row, image, fitted = self._correct(row, read)
        with _clock(seconds_, "ctf"):
            return self._fit(row, fitted), image

    def _correct(self, row: dict[str, Any], frames: Counts) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """(row, micrograph, image to fit the CTF to)."""
        gain = gain_of(self.motion, row, self.gains)
        corrected = correct_counts(self.motion, row, frames, gain, self.job.params.local_motion)
        shown = len(self.held) < MOST_FIGURES
        row = write_exposure(self.motion, row, corrected, shown, lambda *written: self.behind.do(write_image, *written))
        image = self._as_written(corrected.image)
        if self.job.params.thumbnail_px:
            self.behind.do(write_thumbnail, self.job.folder / f"thumbnails/{row['exposure_id']}.png", image, self.job.params.thumbnail_px)
            row["thumbnail"] = self.job.output_path(f"thumbnails/{row['exposure_id']}.png")
        return row, image, self._as_written(corrected.sums.plain) if "micrograph_plain" in row else image

    def _as_written(self, image: Tensor) -> np.ndarray:
        values: np.ndarray = image.cpu().numpy()
        return values.astype(np.float16).astype(np.float32) if self.motion.params.float16 else values

    def _fit(self, row: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        if self.ctf.params.model != "fit":
            return {str(name): value for name, value in without_fit(pd.DataFrame([row]), self.ctf.params).iloc[0].items()}
        check_image(image, str(row["micrograph"]))
        estimate = fit_exposure(self.ctf, row, image)
        if len(self.held) < self.ctf.params.plots:
            draw_fit(self.ctf, row, estimate, image.shape)
        return row | ctf_columns(estimate, image.shape, float(row["micrograph_pixel_size"]))

    def _pick(self, row: dict[str, Any], image: np.ndarray) -> None:
        known = self.former.maxima_of(row) if str(row["exposure_id"]) in self.former.rows else None
        if known is not None:
            found = known
        elif self.templates is None:
            found = pick_blobs(image, row, self.picker.params, self.job.device)
        else:
            found = pick_templates(image, row, self.picker, self.templates)
        self.picks.append(found)
        if len(self.picks) <= self.picker.params.plots:
            name = str(row["exposure_id"])
            path = self.job.figure(f"picks_{name}", f"Picks in {name}", "All maxima, coloured by their correlation.")
            draw_picks(path, image, found, float(row["micrograph_pixel_size"]))

    def extract(self) -> None:
        """Set the limits from all picks of the batch and cut out what they keep."""
        picks = join_tables(self.picks, PICK_COLUMNS)
        self.kept = picks
        if len(picks):
            judged, _ = decide(picks, pd.DataFrame([held.row for held in self.held]), self.limits, {})
            if (sentence := too_large(judged)) is not None:
                self.job.warn(sentence)
            self.kept = judged[judged["kept"]].drop(columns="kept").reset_index(drop=True)
        self.behind.wait()
        tables = [self._cut(held) for held in self.held]
        self.particles = join_tables(tables, COLUMNS)

    def _cut(self, held: _Held) -> pd.DataFrame:
        seconds: dict[str, float] = {}
        rows = without_images(self.kept[self.kept["exposure_id"] == held.row["exposure_id"]]).reset_index(drop=True)
        with _clock(seconds, "extract"):
            image = load_micrograph(self._staged(held.row)) if held.micrograph is None else held.micrograph
            table = extract_exposure(self.cutter, held.row, image, rows)
        held.row["seconds_extract"] = seconds["extract"]
        return table

    def _staged(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with its micrograph where it lies before the job's folder is published."""
        return row | {"micrograph": self.job.staged_path(str(row["micrograph"]))}

    def finish(self, table: pd.DataFrame) -> None:
        """Write the tables and say what was done; table: the movies that came in."""
        rows = [held.row for held in self.held]
        write_table(self.job.folder / "exposures.star", pd.DataFrame(rows) if rows else table.iloc[:0], "exposures")
        leave(self.job, self.keys, join_tables(self.picks, PICK_COLUMNS))
        write_table(self.job.folder / "picks.star", self.kept, "picks")
        write_table(self.job.folder / "particles.star", self.particles, "particles")
        write_failed(self.job.folder, self.failed)
        for name, count in (
            ("exposures", len(rows)),
            ("failed", len(self.failed)),
            ("picks", len(self.kept)),
            ("particles", len(self.particles)),
        ):
            self.job.metric(name, count)
        for stage in STAGES if rows else ():
            self.job.metric(f"median_seconds_{stage}", float(np.median([row[f"seconds_{stage}"] for row in rows])), "s")
        if self.failed:
            self.job.warn(f"{len(self.failed)} of {len(table)} movies cannot be used; the first: {self.failed[0]['reason']}")


@contextmanager
def _clock(seconds_: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds_[stage] = round(time.monotonic() - start, 3)


def _step(step: str, params: Any) -> Any:
    kind = STEPS[step]
    values = {name: getattr(params, f"{step}_{name}") for name, info in kind.model_fields.items() if slot_kind(info) is None}
    slots = {name: getattr(params, name, None) or "" for name, info in kind.model_fields.items() if slot_kind(info) is not None}
    given = {name: value for name, value in values.items() if not (value is None and kind.model_fields[name].is_required())}
    return kind(**given, **slots)


def _optional(info: FieldInfo) -> FieldInfo:
    optional = copy(info)
    optional.default = None
    return optional
