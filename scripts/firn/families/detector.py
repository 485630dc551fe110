"""The gain and the defects that go with movies: read or estimated, turned as the movies show, ready to multiply.

Convention: an orientation, as in firn.preprocess.gain_pattern, acts on the gain as firn.formats.gain reads it.
"""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from pydantic import Field

from firn.errors import ExposureError, InputError
from firn.formats import gain
from firn.formats.defects import read_defects
from firn.formats.frame_sums import spread_out, sum_movies
from firn.formats.movie import MovieHeader
from firn.preprocess.gain_pattern import Finding, Orientation, estimate_gain, find_orientation, residual_pattern
from firn.runtime.job import Job
from firn.runtime.params import JobParams

FRAMES_COMPARED = 4
LARGEST_ERROR = 0.5
"""Greatest error of an estimated gain, as a share of the detector's pattern, that needs no remark."""


class DetectorParams(JobParams):
    """Parameters of every import of raw movies that concern the detector."""

    gain: str | None = None
    """Gain reference (MRC, packed MRC, TIFF or .gain) that multiplies the counts; for EER, one not named .gain divides."""
    gain_flip_x: bool | None = None
    """Mirror the gain left against right, after turning it. Default: found from the movies."""
    gain_flip_y: bool | None = None
    """Mirror the gain top against bottom, after turning it. Default: found from the movies."""
    gain_rotate: int | None = Field(None, ge=0, le=3)
    """Quarter turns of the gain, counter-clockwise as seen with row 0 at the bottom. Default: found from the movies."""
    gain_divides: bool | None = None
    """The gain divides the counts instead of multiplying them. Default: found from the movies, or told by the file's name."""
    gain_check_movies: int = Field(8, ge=0, le=1000)
    """Movies whose first frames are compared with the gain in its eight orientations; 0 takes the gain as it is given."""
    gain_estimate_movies: int = Field(0, ge=0, le=10000)
    """Movies whose mean gives the gain when there is none; 0 applies no gain then."""
    defects: str | None = None
    """Defect pixels: rows `x y width height` or `x y`, a SerialEM defect file, or an image in which 1 means defect."""
    eer_upsampling: int = Field(2, ge=1, le=4)
    """1, 2 or 4. Finer grid on which the events of an EER movie are placed."""


D = TypeVar("D", bound=DetectorParams)


@dataclass(frozen=True)
class Reference:
    """The gain `(y, x)` as it multiplies, 0 at defects, None when there is none; what was learned on the way.

    scores: correlation of each orientation with the movies; faults: movies that could not be read.
    """

    image: np.ndarray | None = None
    scores: dict[str, float] = field(default_factory=dict)
    faults: dict[str, ExposureError] = field(default_factory=dict)


def make_reference(job: Job[D], headers: dict[str, MovieHeader], path: str | None, fractions: int, settled: bool) -> Reference:
    """The gain of a file, turned as given or as the movies show, or the one estimated from the movies, with the defects of a list.

    settled: the file lies as the movies do, and is compared with them only to warn. Raises InputError for a file that cannot be used.
    """
    first = next(iter(headers.values()))
    shape = (first.height, first.width)
    reference = Reference()
    if path is not None:
        reference = _turned(job, headers, path, fractions, settled)
    elif job.params.gain_estimate_movies:
        reference = _estimated(job, headers, fractions)
    if job.params.defects is None:
        return reference
    image = np.ones(shape, dtype=np.float32) if reference.image is None else reference.image
    return replace(reference, image=np.where(read_defects(job.params.defects, shape), 0, image))


def _turned(job: Job[D], headers: dict[str, MovieHeader], path: str, fractions: int, settled: bool) -> Reference:
    first = next(iter(headers.values()))
    shape = (first.height, first.width)
    divides = gain.is_divisor(path, first.format)
    stored = gain.read_gain(path, invert=divides, rows_as_stored=gain.keeps_rows(path, first.format))
    stored = gain.coarsen_gain(stored, shape)
    p = job.params
    inverted = p.gain_divides is not None and p.gain_divides != divides
    chosen = Orientation.given(p.gain_rotate or 0, bool(p.gain_flip_x), bool(p.gain_flip_y), inverted)
    scores: dict[str, float] = {}
    faults: dict[str, ExposureError] = {}
    if p.gain_check_movies:
        sums, faults = _sum_movies(job, headers, p.gain_check_movies, FRAMES_COMPARED, fractions)
        halves = (gain.coarsen_sum(sums[0], stored.shape), gain.coarsen_sum(sums[1], stored.shape))
        finding = find_orientation(halves[0] + halves[1], stored)
        if finding is not None:
            free = not settled and p.gain_rotate is None and p.gain_flip_x is None and p.gain_flip_y is None
            chosen = _decide(job, path, finding, chosen, free, not settled and p.gain_divides is None)
            scores = {orientation.short: score for orientation, score in finding.correlations.items()}
            _record_pattern(job, finding, halves, _apply(chosen, stored))
    return Reference(gain.fit_gain(_apply(chosen, stored), shape, path), scores, faults)


def _apply(orientation: Orientation, stored: np.ndarray) -> np.ndarray:
    """The gain as it multiplies in this orientation."""
    if orientation.divides:
        stored = np.divide(1, stored, out=np.zeros_like(stored), where=stored > 0)
    return np.ascontiguousarray(orientation.apply(stored))


def _decide(job: Job[D], path: str, finding: Finding, given: Orientation, free: bool, free_sign: bool) -> Orientation:
    """The orientation found where it is clear and not given otherwise; a warning wherever the user should look."""
    best = finding.best
    if finding.clear:
        chosen = Orientation(
            *((best.rotate, best.flip_x) if free else (given.rotate, given.flip_x)), best.divides if free_sign else given.divides
        )
        if chosen != best:
            job.warn(f"{path}: the movies show this gain with {best}, but it was given with {given}, which is taken")
        elif chosen != given:
            job.warn(f"{path}: the movies show this gain with {best}, which is taken ({_spelled(best)})")
        return chosen
    if finding.absent:
        job.warn(
            f"{path}: the pattern of this gain is in none of the movies in any orientation; are they corrected already, or is it another camera's?"
        )
    elif free and Orientation(given.rotate, given.flip_x) not in finding.correlations:
        raise InputError(
            f"{path}: must be turned to fit the movies, but they do not show which way; give gain_rotate, gain_flip_x and gain_flip_y"
        )
    elif free:
        job.warn(f"{path}: the movies do not show beyond doubt how this gain lies, so it is taken as it is stored")
    return given


def _spelled(orientation: Orientation) -> str:
    """The parameters that say the same."""
    mirror, sign = str(orientation.flip_x).lower(), ", gain_divides: true" if orientation.divides else ""
    return f"gain_rotate: {orientation.rotate}, gain_flip_x: {mirror}{sign}"


def _record_pattern(job: Job[D], finding: Finding, halves: tuple[np.ndarray, np.ndarray], image: np.ndarray) -> None:
    """Metrics: how clear the orientation is, and how much of the detector's pattern the gain takes away."""
    job.metric("gain_evidence", finding.evidence)
    job.metric("gain_correlation_sigmas", finding.sigmas)
    if image.shape == halves[0].shape:
        before, after = residual_pattern(halves, image)
        job.metric("detector_pattern", 100 * before, "%")
        job.metric("detector_pattern_left", 100 * after, "%")


def _estimated(job: Job[D], headers: dict[str, MovieHeader], fractions: int) -> Reference:
    """Warns when the counts do not suffice for more than part of the detector's pattern."""
    first = next(iter(headers.values()))
    halves, faults = _sum_movies(job, headers, job.params.gain_estimate_movies, None, fractions)
    image, pattern, error = estimate_gain(halves)
    job.metric("detector_pattern", 100 * pattern, "%")
    job.metric("gain_error", 100 * error, "%")
    if error > LARGEST_ERROR * pattern:
        counts = float((halves[0] + halves[1]).mean())
        job.warn(
            f"The gain estimated from {counts:.0f} counts per pixel has an error of {100 * error:.1f} %, against a detector pattern of"
            f" {100 * pattern:.1f} %; more movies would give a better one"
        )
    return Reference(gain.fit_gain(image, (first.height, first.width), "estimated gain"), {}, faults)


def _sum_movies(
    job: Job[D], headers: dict[str, MovieHeader], movies: int, frames: int | None, fractions: int
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, ExposureError]]:
    """Sums of raw frames of some movies in two halves, at physical pixels, and the faults met."""
    first = next(iter(headers.values()))
    finer = job.params.eer_upsampling if first.format == "eer" else 1
    chosen = spread_out(list(headers), movies)
    shape = (first.height // finer, first.width // finer)
    return sum_movies(job.over(chosen, "gain", total=len(chosen)), shape, frames, fractions, job.threads)
