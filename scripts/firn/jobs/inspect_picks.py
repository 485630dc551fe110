"""Decide which picks are particles, by limits on correlation and power set for the whole data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import Field
from torch import Tensor

from firn.errors import ExposureError, InputError
from firn.formats.exposures import load_micrograph
from firn.formats.tables import read_table, write_batches, write_table
from firn.preprocess.thresholds import PickLine, calibrate_power, divide_picks, far_counts, largest_power
from firn.report.picks import draw_counts, draw_decisions, draw_thresholds
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

LIMITS = ("min_ncc", "min_power", "max_power")


class Params(JobParams):
    """Keep the picks that are particles.

    What is not given is found from all picks together: the line that divides them into two parts in the plane of correlation
    and local power, after correction for defocus, and the power beyond which they are dirt. A decisions file of yours wins.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures that were picked in."""
    picks: str = slot("picks")
    """Picks with their scores."""
    min_ncc: float | None = Field(None, ge=-1, le=1)
    """Smallest correlation; when not given, a line in correlation and power is found from the data."""
    min_power: float | None = Field(None, ge=0)
    """Smallest local power, in units of the noise."""
    max_power: float | None = Field(None, gt=0)
    """Largest local power, in units of the noise; found from the data when not given."""
    decisions: str | None = None
    """YAML file with any of min_ncc, min_power, max_power, and `reject`, a list of exposures to refuse; it wins over all else."""


@dataclass(frozen=True)
class _Decision:
    """Limits (None: no limit), the line in score and log power (None: limits only), and where each came from."""

    limits: dict[str, float | None]
    line: PickLine | None
    reasons: dict[str, str]


def run(job: Job[Params]) -> None:
    """Write the picks that pass, the limits with their reasons, and the picks of every batch."""
    exposures = read_table(
        job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "batch", "micrograph", "micrograph_pixel_size")
    )
    picks = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px", "pick_score"))
    picks = picks[picks["exposure_id"].isin(exposures["exposure_id"])].reset_index(drop=True)
    human = _read_decisions(job.params.decisions)
    picks, decision = _decide(picks, exposures, job.params, human)
    _write_decisions(job.folder / "decisions.yaml", decision, human)
    kept = picks[picks["kept"]].drop(columns="kept")
    job.batches = sorted({str(batch) for batch in exposures["batch"]})
    write_table(job.folder / "picks.star", kept, "picks")
    write_batches(job.folder, kept, "picks", job.batches)
    counts = exposures["exposure_id"].map(kept["exposure_id"].value_counts()).fillna(0).to_numpy(dtype=float)
    _report(job, exposures, picks, decision, counts)


def _decide(picks: pd.DataFrame, exposures: pd.DataFrame, params: Params, human: dict[str, Any]) -> tuple[pd.DataFrame, _Decision]:
    """Picks with their calibrated power and `kept`, and what decided."""
    limits = {name: getattr(params, name) for name in LIMITS} | {name: human[name] for name in LIMITS if name in human}
    reasons = {
        name: "given in the decisions file" if name in human else "given in the config" for name in LIMITS if limits[name] is not None
    }
    score = torch.tensor(picks["pick_score"].to_numpy(dtype=np.float64))
    power = torch.tensor(picks["pick_power"].to_numpy(dtype=np.float64)) if "pick_power" in picks.columns else torch.ones_like(score)
    power = _calibrated(score, power, picks, exposures)
    line = divide_picks(score, power) if limits["min_ncc"] is None else None
    passed = line.passes(score, power) if line else torch.ones_like(score, dtype=torch.bool)
    largest = largest_power(power, passed & _within(score, limits["min_ncc"], None))
    if limits["max_power"] is None and largest is not None:
        limits["max_power"], reasons["max_power"] = (
            largest,
            "five robust standard deviations above the particles' median (of the logarithm)",
        )
    passed = passed & _within(score, limits["min_ncc"], None) & _within(power, limits["min_power"], limits["max_power"])
    refused = picks["exposure_id"].isin([str(name) for name in human.get("reject", [])]).to_numpy()
    return picks.assign(pick_power_calibrated=power.numpy(), kept=passed.numpy() & ~refused), _Decision(limits, line, reasons)


def _calibrated(score: Tensor, power: Tensor, picks: pd.DataFrame, exposures: pd.DataFrame) -> Tensor:
    """Powers corrected for defocus, by the picks that a first division takes for particles."""
    if "defocus_u" not in exposures.columns or "defocus_v" not in exposures.columns:
        return power
    particles = divide_picks(score, power).passes(score, power)
    number = pd.Index(exposures["exposure_id"]).get_indexer(picks["exposure_id"])
    defocus = (exposures["defocus_u"] + exposures["defocus_v"]).to_numpy(dtype=np.float64) / 2
    return calibrate_power(power, particles, torch.from_numpy(number.astype(np.int64)), torch.tensor(defocus))


def _within(values: Tensor, low: float | None, high: float | None) -> Tensor:
    inside = torch.ones(len(values), dtype=torch.bool)
    if low is not None:
        inside = inside & (values >= low)
    if high is not None:
        inside = inside & (values <= high)
    return inside


def _read_decisions(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"decisions file {path}: cannot be read ({error})") from error
    unknown = set(content) - {*LIMITS, "reject", "line", "author", "reasons"} if isinstance(content, dict) else {"?"}
    if unknown:
        raise InputError(
            f"decisions file {path}: expected min_ncc, min_power, max_power or reject, got {', '.join(map(str, sorted(unknown)))}"
        )
    bad = next((name for name in LIMITS if name in content and not isinstance(content[name], int | float)), None)
    if bad:
        raise InputError(f"decisions file {path}: {bad} must be a number, got '{content[bad]}'")
    return content


def _write_decisions(path: Path, decision: _Decision, human: dict[str, Any]) -> None:
    values: dict[str, Any] = {name: None if value is None else round(float(value), 6) for name, value in decision.limits.items()}
    reasons = dict(decision.reasons)
    if decision.line:
        values["line"] = {
            "ncc": round(decision.line.per_score, 6),
            "log_power": round(decision.line.per_log_power, 6),
            "least": round(decision.line.least, 6),
        }
        reasons["line"] = decision.line.reason
    content = {**values, "reject": list(human.get("reject", [])), "author": "human" if human else "rule", "reasons": reasons}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _report(job: Job[Params], exposures: pd.DataFrame, picks: pd.DataFrame, decision: _Decision, counts: np.ndarray) -> None:
    far = far_counts(torch.tensor(counts)).numpy()
    job.metric("picks", len(picks))
    job.metric("picks kept", int(picks["kept"].sum()))
    job.metric("picks kept per exposure", float(np.median(counts)) if len(counts) else 0.0)
    job.metric("exposures with few or many picks", int(far.sum()))
    for name, value in decision.limits.items():
        if value is not None:
            job.metric(name, value)
    if far.any():
        named = ", ".join(f"{row.exposure_id} ({int(count)})" for row, count in zip(exposures[far].itertuples(), counts[far], strict=True))
        job.warn(f"exposures with far fewer or more picks than the median of {np.median(counts):g}: {named[:500]}")
    if picks.empty:
        job.warn("no picks came in, so none could be kept")
        return
    _draw(job, picks, decision)
    draw_counts(job.figure("counts", "Picks in each exposure", "Exposures far from the median deserve a look."), counts, far)
    panels = _panels(exposures, picks, counts)
    if panels:
        path = job.figure(
            "micrographs", "Kept and refused picks", "The exposures with most, median and fewest picks kept; green: kept, red: refused."
        )
        draw_decisions(path, panels, float(exposures["micrograph_pixel_size"].iloc[0]))


def _draw(job: Job[Params], picks: pd.DataFrame, decision: _Decision) -> None:
    score, power = picks["pick_score"].to_numpy(dtype=float), picks["pick_power_calibrated"].to_numpy(dtype=float)
    line = (decision.line.per_score, decision.line.per_log_power, decision.line.least) if decision.line else None
    reason = decision.line.reason if decision.line else decision.reasons["min_ncc"]
    path = job.figure("thresholds", "Correlation and power of all picks", f"Red: limits. {reason[0].upper()}{reason[1:]}.")
    draw_thresholds(path, score, power, picks["kept"].to_numpy(), decision.limits, line)


def _panels(exposures: pd.DataFrame, picks: pd.DataFrame, counts: np.ndarray) -> list[tuple[str, np.ndarray, pd.DataFrame]]:
    order = np.argsort(-counts, kind="stable")
    chosen = dict.fromkeys([int(order[0]), int(order[len(order) // 2]), int(order[-1])])
    panels = []
    for number in chosen:
        row = exposures.iloc[number]
        try:
            micrograph = load_micrograph(row.to_dict())
        except ExposureError:
            continue
        panels.append((str(row["exposure_id"]), micrograph, picks[picks["exposure_id"] == row["exposure_id"]]))
    return panels
