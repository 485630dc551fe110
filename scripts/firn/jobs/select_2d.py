"""Keep the particles of good 2D classes, by rule or by a human's list."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from firn.errors import InputError, brief
from firn.formats.mrc import read_mrc, write_stack
from firn.formats.tables import image_names, read_table, write_table
from firn.formats.yaml_text import read_yaml
from firn.refine.class2d_quality import class_quality
from firn.report.classes import draw_mosaic, draw_sizes
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

DECISION_KEYS = ("select", "reject", "author", "comment")


class Params(JobParams):
    """Keep particles of 2D classes that look like a well-averaged, centred molecule; thresholds, or a list of yours, decide otherwise."""

    revision: ClassVar[int] = 3
    stage: ClassVar[str] = "classify_2d"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles", "templates")
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"excluded": ("particles",)}

    particles: str = slot("particles")
    """Classified particles."""
    templates: str = slot("templates")
    """Their class averages: the same classification."""
    min_quality: float = Field(0.5, ge=0, le=1)
    """Smallest quality score of a class, 0 to 1: signal per particle relative to the better classes, compactness, centring."""
    min_count: int = Field(0, ge=0)
    """Smallest number of particles of a class."""
    min_fraction: float = Field(0.0, ge=0, le=1)
    """Smallest fraction of all particles in a class."""
    max_resolution: float | None = Field(None, gt=0)
    """Å. Coarsest resolution of a class; no limit when empty."""
    max_ess: float | None = Field(None, ge=1)
    """Largest effective number of classes of a class's particles; no limit when empty."""
    decisions: str | None = None
    """YAML file with `select: [1, 4, 7]` (only these) or `reject: [2]` (these not, the rest by rule); it wins over the rules."""


def run(job: Job[Params]) -> None:
    """Write the kept particles and averages, the excluded particles, and who decided what and why."""
    particles = read_table(job.input("particles", "particles.star"), "particles", needs=("class_number",))
    classes = read_table(job.input("templates", "classes.star"), "classes", needs=("class_number", "class_count", "class_resolution"))
    averages, pixel_size = read_mrc(job.input("templates", "classes.mrcs"))
    averages = averages if averages.ndim == 3 else averages[None]
    _check(job, particles, classes, averages)
    decided = _decide(job, classes, averages, pixel_size)
    kept = decided["kept"].to_numpy(dtype=bool)
    if not kept.any():
        best = decided.loc[decided["class_quality"].idxmax()]
        raise InputError(
            f"job {job.name}: no 2D class is selected; the best, class {int(best['class_number'])}, has quality "
            f"{best['class_quality']:.2f} and was refused for: {best['reason']}"
        )
    own = particles["class_number"].isin(decided.loc[kept, "class_number"]).to_numpy()
    write_table(job.folder / "particles.star", particles[own], "particles")
    write_table(job.folder / "excluded" / "particles.star", particles[~own], "particles")
    write_table(job.folder / "decisions.star", decided.assign(kept=kept.astype(int)), "classes")
    _write_templates(job, classes[kept].reset_index(drop=True), averages[kept], pixel_size)
    _report(job, decided, averages, pixel_size, own)


def _check(job: Job[Params], particles: pd.DataFrame, classes: pd.DataFrame, averages: np.ndarray) -> None:
    where = job.input("templates", "classes.star")
    if len(classes) != len(averages):
        raise InputError(f"{where}: lists {len(classes)} classes, but classes.mrcs beside it holds {len(averages)} images")
    unknown = set(particles["class_number"].astype(int)) - set(classes["class_number"].astype(int))
    if unknown:
        raise InputError(
            f"{where}: has no class {min(unknown)}, which {job.input('particles', 'particles.star')} names; are they of one job?"
        )


def _decide(job: Job[Params], classes: pd.DataFrame, averages: np.ndarray, pixel_size: float) -> pd.DataFrame:
    """Classes with their quality, what the rule says, what a human says, whether kept, and why."""
    table = _with_quality(classes, averages, pixel_size)
    reasons = [_objections(row, job.params) for _, row in table.iterrows()]
    by_rule = np.array([not reason for reason in reasons])
    human = _read_decisions(job.params.decisions, classes["class_number"].astype(int).tolist())
    by_human = np.array([human.get(number, "") for number in table["class_number"].astype(int)], dtype=object)
    return table.assign(
        rule=np.where(by_rule, "select", "reject"),
        human=np.where(by_human == "", "none", by_human),
        kept=np.where(by_human == "", by_rule, by_human == "select").astype(bool),
        reason=[", ".join(reason) or "passes all rules" for reason in reasons],
    )


def _with_quality(classes: pd.DataFrame, averages: np.ndarray, pixel_size: float) -> pd.DataFrame:
    box = averages.shape[-1] * pixel_size
    diameter = float(classes["diameter"].iloc[0]) if "diameter" in classes.columns else 0.8 * box
    gain = torch.tensor(classes["class_gain"].to_numpy(float)) if "class_gain" in classes.columns else None
    count = torch.tensor(classes["class_count"].to_numpy(float))
    quality = class_quality(torch.tensor(averages, dtype=torch.float64), count, gain, diameter / 2 / pixel_size)
    return classes.assign(
        class_quality=quality.score.numpy(),
        firnQualitySignal=quality.signal.numpy(),
        firnQualityShape=quality.shape.numpy(),
        firnQualityCentre=quality.centre.numpy(),
    )


def _objections(row: pd.Series, params: Params) -> list[str]:
    tests = [
        ("average", row.get("class_gain") == 0, "empty: no average explains these particles"),
        ("quality", row["class_quality"] < params.min_quality, f"{row['class_quality']:.2f} below {params.min_quality:g}"),
        ("count", row["class_count"] < params.min_count, f"{int(row['class_count'])} below {params.min_count}"),
        (
            "fraction",
            row.get("class_fraction", 1.0) < params.min_fraction,
            f"{row.get('class_fraction', 1.0):.4f} below {params.min_fraction:g}",
        ),
        (
            "resolution",
            params.max_resolution is not None and row["class_resolution"] > params.max_resolution,
            f"{row['class_resolution']:.1f} Å coarser than {params.max_resolution} Å",
        ),
        (
            "ESS",
            params.max_ess is not None and row.get("class_ess", 1.0) > params.max_ess,
            f"{row.get('class_ess', 1.0):.2f} above {params.max_ess}",
        ),
    ]
    return [f"{name} {sentence}" for name, failed, sentence in tests if failed]


def _read_decisions(path: str | None, numbers: list[int]) -> dict[int, str]:
    """Class number to select or reject, as a human's file says; every class when it gives a `select` list."""
    if path is None:
        return {}
    content = read_yaml(path, "decisions about classes") or {}
    if not isinstance(content, dict) or set(content) - set(DECISION_KEYS):
        raise InputError(f"decisions file {path}: expected `select: [class numbers]` or `reject: [class numbers]`, got '{brief(content)}'")
    select, reject = (_class_list(content, key, path, numbers) for key in ("select", "reject"))
    both = set(select) & set(reject)
    if both:
        raise InputError(f"decisions file {path}: class {min(both)} is both selected and rejected")
    decided = dict.fromkeys(numbers, "reject") if "select" in content else {}
    return decided | dict.fromkeys(select, "select") | dict.fromkeys(reject, "reject")


def _class_list(content: dict[str, Any], key: str, path: str, numbers: list[int]) -> list[int]:
    given = content.get(key) or []
    if not isinstance(given, list) or not all(isinstance(number, int) for number in given):
        raise InputError(f"decisions file {path}: {key} must be a list of class numbers, got '{brief(given)}'")
    unknown = set(given) - set(numbers)
    if unknown:
        raise InputError(f"decisions file {path}: {key} names class {min(unknown)}, but the classes are 1 to {max(numbers)}")
    return given


def _write_templates(job: Job[Params], classes: pd.DataFrame, averages: np.ndarray, pixel_size: float) -> None:
    """The kept averages; classes keep their numbers, so that they agree with the particles'."""
    write_stack(job.folder / "classes.mrcs", averages, pixel_size)
    names = image_names(job.output_path("classes.mrcs"), len(classes))
    write_table(job.folder / "classes.star", classes.assign(class_image=names), "classes")


def _report(job: Job[Params], decided: pd.DataFrame, averages: np.ndarray, pixel_size: float, own: np.ndarray) -> None:
    kept = decided["kept"].to_numpy(dtype=bool)
    job.metric("classes_kept", int(kept.sum()))
    job.metric("classes_rejected", int((~kept).sum()))
    job.metric("particles_kept", int(own.sum()))
    job.metric("particles_excluded", int((~own).sum()))
    job.metric("fraction_kept", float(own.mean()))
    job.metric("best_resolution", decided.loc[kept, "class_resolution"].min(), "Å")
    shown = decided if "class_ess" in decided.columns else decided.assign(class_ess=np.nan)
    caption = "Selected classes in green, rejected ones in red; labels as in the classification. decisions.star says why."
    draw_mosaic(job.figure("selection", "Selected 2D classes", caption), averages, shown, pixel_size, kept)
    draw_sizes(
        job.figure("selection_sizes", "Sizes of selected classes", "Particles per class, selected (green) or not (red)."), shown, kept
    )
