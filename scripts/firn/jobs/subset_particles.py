"""Take a part of a particle set: by class, by a column's range, at random; or split it into batches."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.formats.table_names import NAMES
from firn.formats.tables import read_table, write_table
from firn.report.particle_sets import draw_chosen
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot


class Params(JobParams):
    """Keep some particles, in the order of the parameters below: those of classes, within limits of a column, equal halves, a random part.

    What is kept may be split into batches. Half-sets stay as they are.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"rest": ("particles",), "split_*": ("particles",)}

    particles: str = slot("particles")
    """Particles to choose from."""
    classes: list[int] | None = Field(None, min_length=1)
    """Numbers of the classes to keep, counted from 1; none = all."""
    column: str | None = None
    """Column to judge by, such as class_probability, defocus_u, pick_score or scale, or a RELION label without its underscore."""
    minimum: float | None = None
    """Least value of the column, in its own unit."""
    maximum: float | None = None
    """Greatest value of the column, in its own unit."""
    balance_halves: bool = False
    """Drop particles of the larger half-set at random until both are equal."""
    fraction: float | None = Field(None, gt=0, lt=1)
    """Part to keep at random."""
    count: int | None = Field(None, ge=1)
    """Number to keep at random."""
    batches: int | None = Field(None, ge=2, le=1000)
    """Number of equal parts, split_1, split_2 ..., to divide the kept particles into."""
    shuffle: bool = True
    """Deal particles to the batches at random; without it, in the order of the table."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if (self.column is None) != (self.minimum is None and self.maximum is None):
            raise ValueError("column needs minimum or maximum, and these need column")
        if self.fraction is not None and self.count is not None:
            raise ValueError("give fraction or count, not both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} exceeds maximum {self.maximum:g}")
        if all(value is None for value in (self.classes, self.column, self.fraction, self.count, self.batches)) and not self.balance_halves:
            raise ValueError("nothing to do: give classes, column, balance_halves, fraction, count or batches")
        return self


def run(job: Job[Params]) -> None:
    """Choose, write what is kept and the rest, and the batches."""
    table = read_table(job.input("particles", "particles.star"), "particles")
    chosen = _by_values(job, table)
    if job.params.balance_halves:
        chosen &= _balanced(job, table, chosen)
    chosen &= _at_random(job, chosen)
    if not chosen.any():
        raise InputError(f"job {job.name}: none of the {len(table)} particles meets the conditions")
    kept = table[chosen].reset_index(drop=True)
    write_table(job.folder / "particles.star", kept, "particles")
    write_table(job.folder / "rest" / "particles.star", table[~chosen], "particles")
    job.metric("particles", len(kept))
    job.metric("rest", int((~chosen).sum()))
    if job.params.batches:
        _split(job, kept)
    _draw(job, table, chosen)


def _by_values(job: Job[Params], table: pd.DataFrame) -> np.ndarray:
    p, chosen = job.params, np.ones(len(table), dtype=bool)
    if p.classes is not None:
        numbers = _column(job, table, "class_number")
        missing = sorted(set(p.classes) - set(numbers.astype(int)))
        if missing:
            job.warn(f"No particle is in class {', '.join(str(number) for number in missing)}.")
        chosen &= np.isin(numbers, p.classes)
    if p.column is not None:
        values = _column(job, table, p.column)
        low, high = (-np.inf if p.minimum is None else p.minimum), (np.inf if p.maximum is None else p.maximum)
        chosen &= (values >= low) & (values <= high)
    return chosen


def _column(job: Job[Params], table: pd.DataFrame, name: str) -> np.ndarray:
    """Numbers of a column named as firn or as RELION names it."""
    known = {label: own for own, label in NAMES.items()}
    own = name if name in table.columns else known.get(name.removeprefix("_"), name)
    if own not in table.columns:
        raise InputError(f"job {job.name}: the particles have no column {name}; they have {', '.join(sorted(table.columns))}")
    values = pd.to_numeric(table[own], errors="coerce").to_numpy(np.float64)
    if np.isnan(values).all():
        raise InputError(f"job {job.name}: the column {name} holds no numbers")
    return values


def _balanced(job: Job[Params], table: pd.DataFrame, chosen: np.ndarray) -> np.ndarray:
    halves = _column(job, table, "half")
    members = [np.flatnonzero(chosen & (halves == half)) for half in (1, 2)]
    size = min(len(rows) for rows in members)
    kept = np.zeros(len(table), dtype=bool)
    for half, rows in enumerate(members, start=1):
        kept[job.numpy_generator(f"half {half}").permutation(rows)[:size]] = True
    return kept


def _at_random(job: Job[Params], chosen: np.ndarray) -> np.ndarray:
    p, rows = job.params, np.flatnonzero(chosen)
    if p.fraction is None and p.count is None:
        return chosen
    size = round(p.fraction * len(rows)) if p.fraction is not None else int(p.count or 0)
    if size > len(rows):
        job.warn(f"{size} particles were asked for, but only {len(rows)} meet the conditions; all of them are kept.")
    kept = np.zeros(len(chosen), dtype=bool)
    kept[job.numpy_generator("part").permutation(rows)[:size]] = True
    return kept


def _split(job: Job[Params], kept: pd.DataFrame) -> None:
    count = int(job.params.batches or 1)
    if len(kept) < count:
        raise InputError(f"job {job.name}: {len(kept)} particles cannot be split into {count} batches")
    order = job.numpy_generator("batches").permutation(len(kept)) if job.params.shuffle else np.arange(len(kept))
    for number, rows in enumerate(np.array_split(order, count), start=1):
        write_table(job.folder / f"split_{number}" / "particles.star", kept.iloc[np.sort(rows)], "particles")
    job.metric("batches", count)


def _draw(job: Job[Params], table: pd.DataFrame, chosen: np.ndarray) -> None:
    p = job.params
    shown = p.column or ("class_number" if p.classes is not None else "defocus_u" if "defocus_u" in table.columns else None)
    if shown is None:
        return
    caption = f"Values of {shown} of all particles and of those kept; orange lines are the limits."
    limits = (p.minimum, p.maximum)
    draw_chosen(job.figure("chosen", "Chosen particles", caption), _column(job, table, shown), chosen, shown, limits)
