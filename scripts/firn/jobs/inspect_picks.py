"""Decide which picks are particles, by limits on correlation and power set for the whole data set."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import yaml

from firn.errors import InputError, brief
from firn.families.micrographs import decision_panels
from firn.families.pick_limits import LIMITS, Decision, LimitParams, decide, has_power, too_large
from firn.formats.tables import read_table, write_batches, write_table
from firn.formats.yaml_text import read_yaml
from firn.preprocess.thresholds import far_counts
from firn.report.picks import draw_counts, draw_decisions, draw_thresholds
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot


class Params(LimitParams):
    """Keep the picks that are particles.

    What is not given is found from all picks together: the line that divides them into two parts in the plane of correlation
    and local power, after correction for defocus, and the power beyond which they are dirt. A decisions file of yours wins.
    Picks of other programs, which come without power, stay as those judged them, but for a `min_ncc` that is given.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("picks",)
    revision: ClassVar[int] = 4

    exposures: str = slot("exposures")
    """Exposures that were picked in."""
    picks: str = slot("picks")
    """Picks with their scores."""
    decisions: str | None = None
    """YAML file with any of min_ncc, min_power, max_power, and `reject`, a list of exposures to refuse; it wins over all else."""


def run(job: Job[Params]) -> None:
    """Write the picks that pass, the limits with their reasons, and, of all exposures at once, the picks of every batch."""
    exposures = read_table(
        job.input("exposures", "exposures.star"), "exposures", needs=("exposure_id", "batch", "micrograph", "micrograph_pixel_size")
    )
    picks = read_table(job.input("picks", "picks.star"), "picks", needs=("exposure_id", "x_px", "y_px", "pick_score"))
    picks = picks[picks["exposure_id"].isin(exposures["exposure_id"])].reset_index(drop=True)
    human = _read_decisions(job.params.decisions)
    picks, decision = decide(picks, exposures, job.params, human)
    _write_decisions(job.folder / "decisions.yaml", decision, human)
    kept = picks[picks["kept"]].drop(columns="kept")
    write_table(job.folder / "picks.star", kept, "picks")
    if job.batch is None:
        job.batches = sorted({str(batch) for batch in exposures["batch"]})
        write_batches(job.folder, kept, "picks", job.batches)
    counts = exposures["exposure_id"].map(kept["exposure_id"].value_counts()).fillna(0).to_numpy(dtype=float)
    _report(job, exposures, picks, decision, counts)


def _read_decisions(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    content = read_yaml(path, "decisions about picks") or {}
    unknown = set(content) - {*LIMITS, "reject", "line", "author", "reasons"} if isinstance(content, dict) else {"?"}
    if unknown:
        raise InputError(
            f"decisions file {path}: expected min_ncc, min_power, max_power or reject, got {brief(', '.join(sorted(map(str, unknown))))}"
        )
    bad = next((name for name in LIMITS if name in content and not isinstance(content[name], int | float)), None)
    if bad:
        raise InputError(f"decisions file {path}: {bad} must be a number, got '{brief(content[bad])}'")
    return content


def _write_decisions(path: Path, decision: Decision, human: dict[str, Any]) -> None:
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


def _report(job: Job[Params], exposures: pd.DataFrame, picks: pd.DataFrame, decision: Decision, counts: np.ndarray) -> None:
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
    if (sentence := too_large(picks)) is not None:
        job.warn(sentence)
    if picks.empty:
        job.warn("no picks came in, so none could be kept")
        return
    if has_power(picks):
        _draw(job, picks, decision)
    draw_counts(job.figure("counts", "Picks in each exposure", "Exposures far from the median deserve a look."), counts, far)
    panels = decision_panels(exposures, picks, counts)
    if panels:
        path = job.figure(
            "micrographs", "Kept and refused picks", "The exposures with most, median and fewest picks kept; green: kept, red: refused."
        )
        draw_decisions(path, panels, float(exposures["micrograph_pixel_size"].iloc[0]))


def _draw(job: Job[Params], picks: pd.DataFrame, decision: Decision) -> None:
    score, power = picks["pick_score"].to_numpy(dtype=float), picks["pick_power_calibrated"].to_numpy(dtype=float)
    line = (decision.line.per_score, decision.line.per_log_power, decision.line.least) if decision.line else None
    reason = decision.line.reason if decision.line else decision.reasons["min_ncc"]
    path = job.figure("thresholds", "Correlation and power of all picks", f"Red: limits. {reason[0].upper()}{reason[1:]}.")
    draw_thresholds(path, score, power, picks["kept"].to_numpy(), decision.limits, line)
