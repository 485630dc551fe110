"""Accept or reject exposures by limits on their statistics; a human's decisions win over the rules."""

import json
import textwrap
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.formats.decisions import find_decision, read_decisions
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table, require_columns, write_batches, write_table
from firn.preprocess.curation import ATTRIBUTES, Limit, find_limits, judge, with_derived
from firn.report.curation import AttributePanel, draw_attributes, draw_thumbnails, thumbnail
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

MOST_THUMBNAILS = 12


class Params(JobParams):
    """Accept or reject exposures by their CTF fit, motion, defocus, astigmatism, ice and tilt.

    Limits you give are taken as they are; for the others, limits follow from the set itself: median and four robust standard deviations,
    never so strict that a homogeneous set loses exposures. A decisions file of yours wins over every rule.
    """

    stage: ClassVar[str] = "curate"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("exposures",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"rejected": ("exposures",)}

    exposures: str = slot("exposures")
    """Exposures with statistics from motion correction and CTF estimation."""
    adaptive: bool = True
    """Draw limits that are not given from the set itself."""
    max_ctf_fit: float | None = Field(None, gt=0)
    """Å. Worst CTF fit resolution."""
    min_ctf_score: float | None = None
    """Least correlation of the CTF fit."""
    max_motion: float | None = Field(None, gt=0)
    """Å. Greatest total motion."""
    min_defocus: float | None = Field(None, gt=0)
    """Å. Least mean defocus."""
    max_defocus: float | None = Field(None, gt=0)
    """Å. Greatest mean defocus."""
    max_astigmatism: float | None = Field(None, gt=0)
    """Å. Greatest difference of the two defocus values."""
    max_ice_ring: float | None = Field(None, gt=0)
    """Greatest power of the ice ring over its neighbours."""
    max_tilt: float | None = Field(None, gt=0, lt=90)
    """Degrees. Greatest tilt of the fitted defocus surface."""
    decisions: str | None = None
    """YAML, STAR or CSV file of yours with exposure ids or micrograph names and `accept` or `reject`; it wins over the rules."""


LIMITS = {
    "max_ctf_fit": ("ctf_fit_resolution", True), "min_ctf_score": ("ctf_score", False), "max_motion": ("motion_total", True),
    "min_defocus": ("defocus", False), "max_defocus": ("defocus", True), "max_astigmatism": ("astigmatism", True),
    "max_ice_ring": ("ice_ring_score", True), "max_tilt": ("tilt_angle", True),
}  # fmt: skip


def run(job: Job[Params]) -> None:
    """Judge all exposures of the session at once; write accepted and rejected ones, and every decision with its reason."""
    path = job.input("exposures", "exposures.star")
    table = read_table(path, "exposures", needs=("exposure_id", "micrograph", "batch")).drop(columns="reason", errors="ignore")
    if table.empty:
        raise InputError(f"{path}: has no exposures to curate")
    derived = with_derived(table)
    limits = find_limits(derived, _given(job.params, derived, str(path)), job.params.adaptive)
    verdicts = _with_human(job, table, judge(derived, limits))
    rejected = (verdicts["verdict"] == "reject").to_numpy()
    if rejected.all():
        raise InputError(f"{path}: all {len(table)} exposures are rejected, the first because {verdicts['reason'].iloc[0]}")
    _write(job, table, verdicts, rejected)
    _draw(job, table, derived, limits, verdicts, rejected)
    _record(job, limits, verdicts, rejected)


def _given(params: Params, table: pd.DataFrame, where: str) -> dict[tuple[str, bool], float]:
    given = {LIMITS[name]: value for name in LIMITS if (value := getattr(params, name)) is not None}
    for name, key in LIMITS.items():
        if key in given and key[0] not in table.columns:
            require_columns(table, _sources(key[0]), f"{where}: {name} is given, but the table")
    return given


def _sources(column: str) -> tuple[str, ...]:
    """Columns of exposures.star that an attribute comes from."""
    derived = {"defocus": ("defocus_u", "defocus_v"), "tilt_angle": ("defocus_slope_x", "defocus_slope_y", "width_px", "height_px")}
    return derived.get(column, (column,))


def _with_human(job: Job[Params], table: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts with columns human_verdict and verdict, the final one."""
    decisions = read_decisions(job.params.decisions) if job.params.decisions else {}
    found = [find_decision(decisions, str(e), str(m)) for e, m in zip(table["exposure_id"], table["micrograph"], strict=True)]
    unused = sorted(set(decisions) - {entry[0] for entry in found if entry})
    if unused:
        job.warn(f"{job.params.decisions}: {len(unused)} names are not exposures of this session, such as '{unused[0]}'")
    human = [entry[1] if entry else "none" for entry in found]
    final = [by_rule if by_human == "none" else by_human for by_human, by_rule in zip(human, verdicts["rule_verdict"], strict=True)]
    reason = [
        _reason(by_human, by_rule, why) for by_human, by_rule, why in zip(human, verdicts["rule_verdict"], verdicts["reason"], strict=True)
    ]
    return verdicts.assign(human_verdict=human, verdict=final, reason=reason)


def _reason(human: str, rule: str, reason: str) -> str:
    by_rule = reason or "within all limits"
    if human == "none":
        return by_rule
    return f"{human}ed by hand" + (f" (by rule: {by_rule})" if human != rule else "")


def _write(job: Job[Params], table: pd.DataFrame, verdicts: pd.DataFrame, rejected: np.ndarray) -> None:
    job.batches = _batches(job, table)
    judged = table.assign(reason=verdicts["reason"])
    for folder, rows in ((job.folder, judged[~rejected]), (job.folder / "rejected", judged[rejected])):
        write_table(folder / "exposures.star", rows, "exposures")
        write_batches(folder, rows, "exposures", job.batches)
    columns = ["rule_verdict", "human_verdict", "verdict", "reason"]
    write_table(
        job.folder / "decisions.star", pd.concat((table[["exposure_id", "batch", "micrograph"]], verdicts[columns]), axis=1), "decisions"
    )


def _batches(job: Job[Params], table: pd.DataFrame) -> list[str]:
    """Batches of the input, those without exposures too."""
    record = job.input("exposures", "job.json")
    known = json.loads(record.read_text(encoding="utf-8")).get("batches", []) if record.exists() else []
    return sorted({*map(str, known), *table["batch"].astype(str)}, key=lambda batch: (len(batch), batch))


def _draw(
    job: Job[Params], table: pd.DataFrame, derived: pd.DataFrame, limits: list[Limit], verdicts: pd.DataFrame, rejected: np.ndarray
) -> None:
    panels = _panels(derived, limits)
    if panels:
        caption = f"{len(table)} exposures; {int(rejected.sum())} rejected (red). Dashed: limits, given or drawn from the set."
        draw_attributes(job.figure("attributes", "Exposures and limits", caption), panels, rejected)
    chosen = np.flatnonzero(rejected)[:MOST_THUMBNAILS]
    thumbnails = [
        (image, _label(table, verdicts, row))
        for row in chosen
        if (image := _thumbnail(job, str(table["micrograph"].iloc[row]))) is not None
    ]
    if thumbnails:
        draw_thumbnails(
            job.figure("rejected", "Rejected exposures", f"The first {len(thumbnails)} of {int(rejected.sum())}, with reasons."), thumbnails
        )


def _panels(derived: pd.DataFrame, limits: list[Limit]) -> list[AttributePanel]:
    labels = {entry.column: f"{entry.name} ({entry.unit})" if entry.unit else entry.name for entry in ATTRIBUTES}
    return [
        AttributePanel(
            label, derived[column].to_numpy(dtype=float), tuple(limit.value for limit in limits if limit.attribute.column == column)
        )
        for column, label in labels.items()
        if column in derived.columns and derived[column].notna().any()
    ]


def _thumbnail(job: Job[Params], path: str) -> np.ndarray | None:
    try:
        return thumbnail(read_mrc(path)[0])
    except InputError as error:
        job.warn(f"no thumbnail: {error}")
        return None


def _label(table: pd.DataFrame, verdicts: pd.DataFrame, row: int) -> str:
    name = str(table["micrograph"].iloc[row]).rsplit("/", 1)[-1]
    return name + "\n" + textwrap.fill(str(verdicts["reason"].iloc[row]), 46, max_lines=4)


def _record(job: Job[Params], limits: list[Limit], verdicts: pd.DataFrame, rejected: np.ndarray) -> None:
    job.metric("accepted", int((~rejected).sum()))
    job.metric("rejected", int(rejected.sum()))
    job.metric("decided_by_hand", int((verdicts["human_verdict"] != "none").sum()))
    for limit in limits:
        side = "max" if limit.attribute.upper else "min"
        job.metric(f"limit_{side}_{limit.attribute.column}", limit.value, limit.attribute.unit)
