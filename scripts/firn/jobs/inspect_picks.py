"""Decide which picks are particles, by limits on correlation and power set for the whole data set."""

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
from firn.preprocess.thresholds import calibrate_power, divide_scores, far_counts, power_limits
from firn.report.picks import draw_counts, draw_decisions, draw_thresholds
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

LIMITS = ("min_ncc", "min_power", "max_power")


class Params(JobParams):
    """Keep the picks that are particles.

    Limits not given are found from all picks together: the correlation that divides the two parts of its distribution, and
    the powers that particles have, after correction for defocus. A decisions file of yours wins over both.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)

    exposures: str = slot("exposures")
    """Exposures that were picked in."""
    picks: str = slot("picks")
    """Picks with their scores."""
    min_ncc: float | None = Field(None, ge=-1, le=1)
    """Smallest correlation; found from the data when not given."""
    min_power: float | None = Field(None, ge=0)
    """Smallest local power, in units of the noise; found from the data when not given."""
    max_power: float | None = Field(None, gt=0)
    """Largest local power, in units of the noise; found from the data when not given."""
    decisions: str | None = None
    """YAML file with any of min_ncc, min_power, max_power, and `reject`, a list of exposures to refuse; it wins over all else."""


def run(job: Job[Params]) -> None:
    """Write the picks that pass, the limits with their reasons, and the picks of every batch."""
    exposures = read_table(
        job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "batch", "micrograph", "micrograph_pixel_size")
    )
    picks = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px", "pick_score"))
    picks = picks[picks["exposure_id"].isin(exposures["exposure_id"])].reset_index(drop=True)
    human = _read_decisions(job.params.decisions)
    picks, limits, reasons = _decide(picks, exposures, job.params, human)
    _write_decisions(job.folder / "decisions.yaml", limits, reasons, human)
    kept = picks[picks["kept"]].drop(columns="kept")
    job.batches = sorted({str(batch) for batch in exposures["batch"]})
    write_table(job.folder / "picks.star", kept, "picks")
    write_batches(job.folder, kept, "picks", job.batches)
    counts = exposures["exposure_id"].map(kept["exposure_id"].value_counts()).fillna(0).to_numpy(dtype=float)
    _report(job, exposures, picks, limits, reasons, counts)


def _decide(
    picks: pd.DataFrame, exposures: pd.DataFrame, params: Params, human: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, float | None], dict[str, str]]:
    """Picks with their calibrated power and `kept`, the limits, and where each came from."""
    given = {name: getattr(params, name) for name in LIMITS} | {name: human[name] for name in LIMITS if name in human}
    reasons = {
        name: "given in the decisions file" if name in human else "given in the config" for name in LIMITS if given[name] is not None
    }
    score = torch.tensor(picks["pick_score"].to_numpy(dtype=np.float64))
    if given["min_ncc"] is None:
        division = divide_scores(score)
        given["min_ncc"], reasons["min_ncc"] = division.value, division.reason
    passed = score >= given["min_ncc"]
    if "pick_power" in picks.columns and len(picks):
        power = _calibrated(picks, exposures, passed)
        _fill_power_limits(given, reasons, power_limits(power, passed))
        passed = passed & _within(power, given["min_power"], given["max_power"])
        picks = picks.assign(pick_power_calibrated=power.numpy())
    refused = picks["exposure_id"].isin([str(name) for name in human.get("reject", [])]).to_numpy()
    return picks.assign(kept=passed.numpy() & ~refused), given, reasons


def _calibrated(picks: pd.DataFrame, exposures: pd.DataFrame, passed: Tensor) -> Tensor:
    power = torch.tensor(picks["pick_power"].to_numpy(dtype=np.float64))
    if "defocus_u" not in exposures.columns or "defocus_v" not in exposures.columns:
        return power
    number = pd.Index(exposures["exposure_id"]).get_indexer(picks["exposure_id"])
    defocus = (exposures["defocus_u"] + exposures["defocus_v"]).to_numpy(dtype=np.float64) / 2
    return calibrate_power(power, passed, torch.from_numpy(number.astype(np.int64)), torch.tensor(defocus))


def _fill_power_limits(given: dict[str, float | None], reasons: dict[str, str], found: tuple[float, float] | None) -> None:
    if found is None:
        return
    for name, value in zip(("min_power", "max_power"), found, strict=True):
        if given[name] is None:
            given[name], reasons[name] = value, "five robust standard deviations from the particles' median (of the logarithm)"


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
    unknown = set(content) - {*LIMITS, "reject", "author", "reasons"} if isinstance(content, dict) else {"?"}
    if unknown:
        raise InputError(
            f"decisions file {path}: expected min_ncc, min_power, max_power or reject, got {', '.join(map(str, sorted(unknown)))}"
        )
    bad = next((name for name in LIMITS if name in content and not isinstance(content[name], int | float)), None)
    if bad:
        raise InputError(f"decisions file {path}: {bad} must be a number, got '{content[bad]}'")
    return content


def _write_decisions(path: Path, limits: dict[str, float | None], reasons: dict[str, str], human: dict[str, Any]) -> None:
    values = {name: None if value is None else round(float(value), 6) for name, value in limits.items()}
    content = {**values, "reject": list(human.get("reject", [])), "author": "human" if human else "rule", "reasons": reasons}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _report(
    job: Job[Params],
    exposures: pd.DataFrame,
    picks: pd.DataFrame,
    limits: dict[str, float | None],
    reasons: dict[str, str],
    counts: np.ndarray,
) -> None:
    far = far_counts(torch.tensor(counts)).numpy()
    job.metric("picks", len(picks))
    job.metric("picks kept", int(picks["kept"].sum()))
    job.metric("picks kept per exposure", float(np.median(counts)) if len(counts) else 0.0)
    job.metric("exposures with few or many picks", int(far.sum()))
    for name, value in limits.items():
        if value is not None:
            job.metric(name, value)
    if far.any():
        named = ", ".join(f"{row.exposure_id} ({int(count)})" for row, count in zip(exposures[far].itertuples(), counts[far], strict=True))
        job.warn(f"exposures with far fewer or more picks than the median of {np.median(counts):g}: {named[:500]}")
    if picks.empty:
        job.warn("no picks came in, so none could be kept")
        return
    _draw(job, exposures, picks, limits, reasons, counts, far)


def _draw(
    job: Job[Params],
    exposures: pd.DataFrame,
    picks: pd.DataFrame,
    limits: dict[str, float | None],
    reasons: dict[str, str],
    counts: np.ndarray,
    far: np.ndarray,
) -> None:
    if "pick_power_calibrated" in picks.columns:
        score, power = picks["pick_score"].to_numpy(dtype=float), picks["pick_power_calibrated"].to_numpy(dtype=float)
        path = job.figure("thresholds", "Correlation and power of all picks", f"Red: limits. Smallest correlation: {reasons['min_ncc']}.")
        draw_thresholds(path, score, power, picks["kept"].to_numpy(), limits)
    draw_counts(job.figure("counts", "Picks in each exposure", "Exposures far from the median deserve a look."), counts, far)
    panels = _panels(exposures, picks, counts)
    if panels:
        path = job.figure(
            "micrographs", "Kept and refused picks", "The exposures with most, median and fewest picks kept; green: kept, red: refused."
        )
        draw_decisions(path, panels, float(exposures["micrograph_pixel_size"].iloc[0]))


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
