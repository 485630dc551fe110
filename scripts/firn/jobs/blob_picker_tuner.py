"""Find the diameters that blob_picker should look for, from a few micrographs and, if there are any, a few picks made by hand."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from firn.errors import InputError
from firn.families.blobs import BlobParams, BlobShapeParams, blob_shapes, check_order, pick_blobs
from firn.families.micrographs import each_micrograph, read_exposures
from firn.families.pick_limits import share_at_smallest
from firn.families.picking import Row, filters_of, reduce_exposure
from firn.formats.blobs import write_blobs
from firn.formats.exposures import PICK_COLUMNS, join_tables, write_failed
from firn.formats.tables import read_table
from firn.kernels.templates import filter_images
from firn.preprocess.blob_scale import (
    FINE_RATIO,
    REACH,
    best_scale,
    likeness,
    mean_profile,
    radial_profile,
    trial_diameters,
    values_around,
)
from firn.preprocess.pick import Scene, best_scores, template_box
from firn.preprocess.reduced import Reduced
from firn.preprocess.thresholds import divide_picks
from firn.preprocess.whiten import whiten
from firn.report.picks import draw_picks, draw_scale
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot
from firn.simulate.score import match_points

SHORTEST, LONGEST = 0.9, 1.25
"""Smallest and largest diameter handed on, in diameters of the ball found: whole particles are hardly nearer to each other than
the first, and views of elongated ones are as long as the second."""
SMALLER, SMALLER_STEPS, AT_THE_END = 1 / 1.12, 3, 0.5
"""Both become smaller by the first factor, so often at most, while more than this share of the particles matches best at the smallest."""
BLUR, FINEST = 0.5, 20.0
"""Low-pass that sizes are compared at, in diameters, and Å at least: only the envelope counts."""
SAMPLING = 3.6
"""Pixels per finest resolution that micrographs are kept at: more than any blob is looked for at."""
LIKE = 0.7
"""Correlation of the average pick's profile with that of a ball below which the user is warned."""
LIMIT_SHARE = 0.05
"""Share of the picks made by hand that may lie below the limit suggested on the correlation."""


class Params(BlobShapeParams):
    """Find the range of diameters for blob_picker, when nobody knows it.

    Blobs of many diameters are picked in a few micrographs. Where the maxima fall most clearly into two parts, particles are told
    from noise; the size is that of the ball which correlates best where they lie. With picks made by hand, these tell where.
    A job that finds no clear size says so and stops.
    """

    revision: ClassVar[int] = 4
    lane: ClassVar[Lane] = "cpu"
    scatter: ClassVar[bool] = False
    offers: ClassVar[tuple[Kind, ...]] = ("blobs",)

    picks: str | None = slot("picks", optional=True)
    """Particles picked by hand, 15 or more, on a few of the micrographs."""
    micrographs: int = Field(6, ge=1)
    """Micrographs looked at, evenly taken from all; with picks made by hand, of those that have some."""
    smallest: float = Field(60.0, gt=0)
    """Å. Smallest diameter tried."""
    largest: float = Field(600.0, gt=0)
    """Å. Largest diameter tried; at most a sixth of the micrograph's shorter side."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_order(self.smallest, self.largest)
        return self


@dataclass(frozen=True)
class _Looked:
    """A micrograph `(y, x)`, its row, and the picks made by hand in it `(n, 2)` xy."""

    row: Row
    micrograph: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class _Course:
    """Diameters tried and their merits, first how clearly they tell particles from noise (None with picks made by hand), then the match."""

    separated: dict[float, float] | None
    matched: dict[float, float]


def run(job: Job[Params]) -> None:
    """Write blobs.yaml with the diameters; raise InputError without a clear size."""
    failed: list[dict[str, str]] = []
    looked = _look(job, failed)
    write_failed(job.folder, failed)
    diameters = _trials(job.params, looked)
    separated = None
    places = [each.known for each in looked]
    if not job.has("picks"):
        separated, places, first = _separate(job, looked, diameters)
        diameters = trial_diameters(first / REACH, first * REACH, FINE_RATIO)
    matched = {diameter: _match(job, looked, places, diameter) for diameter in job.over(diameters, "sizes")}
    diameter = _clear(diameters, list(matched.values()), len(looked))
    _report(job, looked, _Course(separated, matched), places, diameter)


def _look(job: Job[Params], failed_: list[dict[str, str]]) -> list[_Looked]:
    """The micrographs to look at, with the picks made by hand in them."""
    exposures = read_exposures(job)
    known = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px")) if job.has("picks") else None
    if known is not None:
        exposures = exposures[exposures["exposure_id"].isin(known["exposure_id"])]
        if exposures.empty:
            raise InputError("the picks made by hand lie in none of the exposures given")
    chosen = np.unique(np.linspace(0, len(exposures) - 1, min(job.params.micrographs, len(exposures))).round().astype(int))
    none = np.zeros((0, 2))
    looked = [
        _binned(_Looked(row, micrograph, none if known is None else _places(known, row)))
        for row, micrograph in each_micrograph(job, exposures.iloc[chosen], failed_)
    ]
    if not looked:
        raise InputError(f"no micrograph could be read: {failed_[0]['reason'] if failed_ else 'there is none'}")
    return looked


def _binned(looked: _Looked) -> _Looked:
    """With neighbouring pixels averaged, as many as leave SAMPLING to the finest resolution: it is reduced once per diameter."""
    pixel_size = float(looked.row["micrograph_pixel_size"])
    factor = max(1, int(FINEST / SAMPLING / pixel_size))
    height, width = (side // factor for side in looked.micrograph.shape)
    blocks = looked.micrograph[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return _Looked(
        {**looked.row, "micrograph_pixel_size": pixel_size * factor},
        blocks.mean((1, 3), dtype=np.float32),
        (looked.known + 0.5) / factor - 0.5,
    )


def _places(picks: pd.DataFrame, row: Row) -> np.ndarray:
    places: np.ndarray = picks.loc[picks["exposure_id"] == row["exposure_id"], ["x_px", "y_px"]].to_numpy(dtype=float)
    return places


def _trials(params: Params, looked: list[_Looked]) -> list[float]:
    side = min(min(each.micrograph.shape) * float(each.row["micrograph_pixel_size"]) for each in looked)
    largest = min(params.largest, side / 6)
    if largest <= params.smallest:
        raise InputError(f"micrographs {side:.0f} Å wide are too small to look for blobs of {params.smallest:g} Å and more in")
    return trial_diameters(params.smallest, largest)


def _clear(diameters: list[float], merits: list[float], count: int) -> float:
    scale = best_scale(diameters, merits)
    if scale.diameter is None:
        raise InputError(
            f"no clear size of particles in {count} micrographs ({scale.reason}): give blob_picker min_diameter and max_diameter"
        )
    return scale.diameter


def _separate(job: Job[Params], looked: list[_Looked], diameters: list[float]) -> tuple[dict[float, float], list[np.ndarray], float]:
    """(how clearly each diameter tells particles from noise, places of particles in each micrograph, the clearest diameter)."""
    tables = [_pick_all(job, looked, diameter, diameter) for diameter in job.over(diameters, "diameters")]
    scores = [_scores(table) for table in tables]
    lines = [divide_picks(*each, most=2) for each in scores]
    merits = [line.separation for line in lines]
    _clear(diameters, merits, len(looked))
    best = int(np.argmax(merits))
    kept = tables[best][lines[best].passes(*scores[best]).numpy()]
    return dict(zip(diameters, merits, strict=True)), [_places(kept, each.row) for each in looked], diameters[best]


def _pick_all(job: Job[Params], looked: list[_Looked], low: float, high: float) -> pd.DataFrame:
    """All maxima between two diameters in all micrographs looked at."""
    params = BlobParams.of(job.params, low, high)
    return join_tables([pick_blobs(each.micrograph, each.row, params, job.device) for each in looked], PICK_COLUMNS)


def _scores(picks: pd.DataFrame) -> tuple[Tensor, Tensor]:
    score, power = (torch.tensor(picks[name].to_numpy(dtype=np.float64)) for name in ("pick_score", "pick_power"))
    return score, power


def _match(job: Job[Params], looked: list[_Looked], places: list[np.ndarray], diameter: float) -> float:
    """Mean correlation of blobs of a diameter with the places, in white noise."""
    params, found = BlobParams.of(job.params, diameter, diameter), []
    for each, here in zip(looked, places, strict=True):
        reduced, factors, box = _white(job, each, diameter)
        shapes = blob_shapes(params, box, reduced.pixel_size, job.device)
        scores = best_scores(Scene(reduced, shapes, reduced.valid, factors))
        found.append(values_around(scores, _in_reduced(here, reduced, job.device)))
    return float(torch.cat(found).mean())


def _white(job: Job[Params], looked: _Looked, diameter: float) -> tuple[Reduced, Tensor, int]:
    """(micrograph reduced so that only envelopes count, its noise white; factors on blobs' spectra; side of the blobs' box)."""
    low_pass = max(FINEST, BLUR * diameter)
    reduced = reduce_exposure(looked.micrograph, looked.row, low_pass, diameter, job.device)
    box = template_box(diameter, reduced.pixel_size)
    factors = filters_of(looked.row, job.params, box, reduced.pixel_size, low_pass, diameter, job.device)
    return *whiten(reduced, factors, low_pass, diameter), box


def _in_reduced(places: np.ndarray, reduced: Reduced, device: torch.device) -> Tensor:
    """Points yx in the reduced micrograph of places xy in the micrograph."""
    return torch.from_numpy(places[:, ::-1] / np.array(reduced.stride)).float().to(device)


def _report(job: Job[Params], looked: list[_Looked], course: _Course, places: list[np.ndarray], diameter: float) -> None:
    low, high, picks = _range(job, looked, diameter)
    reason = "the ball of this diameter correlates best with the picks made by hand"
    if course.separated:
        reason = "the ball of this diameter correlates best with what blobs tell from noise"
    write_blobs(job.folder / "blobs.yaml", low, high, f"{reason}: {diameter:.0f} Å", course.matched)
    for name, value in (("diameter", diameter), ("min_diameter", low), ("max_diameter", high)):
        job.metric(name, value, "Å")
    job.metric("correlation", max(course.matched.values()))
    if course.separated:
        job.metric("separation", max(course.separated.values()))
    profiles = _profiles(job, looked, places, diameter)
    like = likeness(torch.from_numpy(profiles[1]), torch.from_numpy(profiles[2]))
    job.metric("likeness of the average pick and the ball", like)
    if like < LIKE:
        job.warn(f"the average pick is not much like a ball of {diameter:.0f} Å (correlation {like:.2f}): look at the figures")
    draw_scale(
        job.figure("diameters", "Size of the particles", "Red: the diameter found."), course.separated, course.matched, diameter, profiles
    )
    _draw_picks(job, looked, places, picks, diameter)


def _range(job: Job[Params], looked: list[_Looked], diameter: float) -> tuple[float, float, pd.DataFrame]:
    """Smallest and largest diameter in Å to look for, and all maxima between them.

    Both shrink while most particles match best at the smallest, as long as the maxima still fall into particles and noise.
    """
    low, high = SHORTEST * diameter, LONGEST * diameter
    picks = _pick_all(job, looked, low, high)
    particles, _ = _particles(picks)
    for _ in range(SMALLER_STEPS):
        if share_at_smallest(picks, particles)[1] <= AT_THE_END:
            break
        smaller = _pick_all(job, looked, low * SMALLER, high * SMALLER)
        particles, clear = _particles(smaller)
        if not clear:
            break
        low, high, picks = low * SMALLER, high * SMALLER, smaller
    return low, high, picks


def _particles(picks: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """(which maxima are particles, whether they fall into two clear parts)."""
    scores = _scores(picks)
    line = divide_picks(*scores, most=2)
    return line.passes(*scores).numpy(), line.separation > 0


def _profiles(
    job: Job[Params], looked: list[_Looked], places: list[np.ndarray], diameter: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distances in Å, profile of the average pick, profile of the ball scaled to it) in the micrograph with most picks."""
    most = max(range(len(looked)), key=lambda number: len(places[number]))
    reduced, factors, box = _white(job, looked[most], diameter)
    side = min(2 * round(0.75 * diameter / reduced.pixel_size) + 1, box - 1)
    profile = mean_profile(reduced.image, _in_reduced(places[most], reduced, job.device).round().long(), side)
    shapes = blob_shapes(BlobParams.of(job.params, diameter, diameter), box, reduced.pixel_size, job.device)
    first = box // 2 - side // 2
    ball = radial_profile(filter_images(shapes[0].templates, factors)[0, first : first + side, first : first + side])
    scale = (profile * ball).sum() / ball.square().sum().clamp(min=1e-12)
    return np.arange(len(profile)) * reduced.pixel_size, profile.cpu().numpy(), (scale * ball).cpu().numpy()


def _draw_picks(job: Job[Params], looked: list[_Looked], places: list[np.ndarray], picks: pd.DataFrame, diameter: float) -> None:
    """The particles found with these diameters; with picks made by hand also the limit on the correlation that most of those pass."""
    kept, _ = _particles(picks)
    if job.has("picks"):
        least = np.concatenate([_known_scores(picks, each, diameter) for each in looked])
        job.metric("picks made by hand that are found", len(least) / max(sum(len(here) for here in places), 1))
        if len(least):
            job.metric("min_ncc", float(np.quantile(least, LIMIT_SHARE)))
    for each in looked[: job.params.plots]:
        name = str(each.row["exposure_id"])
        path = job.figure(f"picks_{name}", f"Blobs of this size in {name}", "Maxima taken for particles.")
        draw_picks(path, each.micrograph, picks[kept & (picks["exposure_id"] == name).to_numpy()], float(each.row["micrograph_pixel_size"]))


def _known_scores(picks: pd.DataFrame, looked: _Looked, diameter: float) -> np.ndarray:
    """Correlations of the maxima within half a diameter of a pick made by hand, one each."""
    mine = picks[picks["exposure_id"] == looked.row["exposure_id"]]
    near = diameter / 2 / float(looked.row["micrograph_pixel_size"])
    found = match_points(looked.known, _places(mine, looked.row), near)[1]
    scores: np.ndarray = mine["pick_score"].to_numpy(dtype=float)[found]
    return scores
