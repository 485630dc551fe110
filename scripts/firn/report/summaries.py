"""Figures over a whole job that ran batch by batch: one point per exposure, in the order of the import."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firn.report.style import BLUE, GREEN, GREY, ORANGE, new_figure, save

FEW_POINTS = 400


@dataclass(frozen=True)
class Summary:
    """One figure of a table: what it is drawn from, its words, and how it is drawn to a path."""

    name: str
    kind: str
    needs: tuple[str, ...]
    title: str
    caption: str
    draw: Callable[[pd.DataFrame, Path], None]


def summaries_for(job_type: str) -> tuple[Summary, ...]:
    """The summary figures of a job type; none for types that have no such figure."""
    return SUMMARIES.get(job_type, ())


def draw_motion(table: pd.DataFrame, path: Path) -> None:
    """Motion per exposure (Å): total, and early and late where they are known."""
    series = {
        label: table[name]
        for name, label in (("motion_total", "total"), ("motion_early", "early"), ("motion_late", "late"))
        if name in table.columns
    }
    _draw_series(path, series, "motion (Å)", floor=0)


def draw_defocus(table: pd.DataFrame, path: Path) -> None:
    """Mean defocus (µm) and astigmatism (nm) per exposure."""
    defocus = (table["defocus_u"] + table["defocus_v"]) / 2e4
    figure, axes = new_figure(8.0, 5.0, rows=2, columns=2)
    _pair(axes[0], {"mean of u and v": defocus}, "defocus (µm)", None)
    _pair(axes[1], {"u − v": (table["defocus_u"] - table["defocus_v"]).abs() / 10}, "astigmatism (nm)", 0)
    save(figure, path)


def draw_ctf_resolution(table: pd.DataFrame, path: Path) -> None:
    """Resolution (Å) to which the CTF fits, per exposure."""
    _draw_series(path, {"CTF fit": table["ctf_fit_resolution"]}, "CTF fit resolution (Å)", floor=0)


def draw_picks(table: pd.DataFrame, path: Path) -> None:
    """Picks per exposure."""
    _draw_counts(path, table, "picks per exposure")


def draw_pick_scores(table: pd.DataFrame, path: Path) -> None:
    """Pick power against pick score, as a density where there are many picks."""
    figure, axes = new_figure(6.0, 4.2)
    panel, score, power = axes[0, 0], table["pick_score"].to_numpy(float), table["pick_power"].to_numpy(float)
    if len(table) > FEW_POINTS:
        panel.hexbin(score, power, gridsize=45, bins="log", mincnt=1, cmap="Blues", linewidths=0.1)
    else:
        panel.plot(score, power, ".", color=BLUE, markersize=3)
    panel.set(xlabel="score (normalised cross-correlation)", ylabel="power")
    save(figure, path)


def draw_particles(table: pd.DataFrame, path: Path) -> None:
    """Particles per exposure."""
    _draw_counts(path, table, "particles per exposure")


def _draw_counts(path: Path, table: pd.DataFrame, label: str) -> None:
    counts = table.groupby("exposure_id", sort=False).size()
    _draw_series(path, {label: counts}, label, floor=0)


def _draw_series(path: Path, series: dict[str, pd.Series], label: str, floor: float | None) -> None:
    figure, axes = new_figure(8.0, 2.9, columns=2)
    _pair(axes[0], series, label, floor)
    save(figure, path)


def _pair(panels: np.ndarray, series: dict[str, pd.Series], label: str, floor: float | None) -> None:
    for (name, values), colour in zip(series.items(), (BLUE, ORANGE, GREEN), strict=False):
        numbers = np.arange(1, len(values) + 1)
        size = 4 if len(values) <= FEW_POINTS else 2
        panels[0].plot(numbers, values, "o", color=colour, markersize=size, markeredgewidth=0, label=name, alpha=0.8)
    first = next(iter(series.values())).dropna()
    _histogram(panels[1], first.to_numpy(float), label)
    panels[0].set(xlabel="exposure", ylabel=label)
    if floor is not None:
        panels[0].set_ylim(bottom=floor)
    if len(series) > 1:
        panels[0].legend(loc="upper right")


def _histogram(panel: Axes, values: np.ndarray, label: str) -> None:
    panel.set(xlabel=label, ylabel="exposures")
    if not len(values):
        return
    panel.hist(values, bins=int(np.clip(np.sqrt(len(values)) * 2, 8, 60)), color=BLUE, alpha=0.85)
    panel.axvline(float(np.median(values)), color=GREY, linestyle="--", label=f"median {np.median(values):.3g}")
    panel.legend(loc="upper right")


PICKED = (
    Summary(
        "picks_per_exposure",
        "picks",
        ("exposure_id",),
        "Picks per exposure",
        "Exposures with far fewer picks than the rest are worth a look.",
        draw_picks,
    ),
    Summary(
        "pick_scores",
        "picks",
        ("pick_score", "pick_power"),
        "Score and power of the picks",
        "Particles form a cloud of high score and middling power; ice and dirt have high power, noise has a low score.",
        draw_pick_scores,
    ),
)
MOTION = (
    Summary(
        "motion",
        "exposures",
        ("motion_total",),
        "Motion per exposure",
        "Path length of the stage and beam-induced motion, by exposure.",
        draw_motion,
    ),
)
FITTED = (
    Summary(
        "defocus", "exposures", ("defocus_u", "defocus_v"), "Defocus and astigmatism", "By exposure, underfocus positive.", draw_defocus
    ),
    Summary(
        "ctf_resolution",
        "exposures",
        ("ctf_fit_resolution",),
        "Resolution of the CTF fit",
        "How far the Thon rings can be followed; exposures that stand out high are thick, drifted or empty.",
        draw_ctf_resolution,
    ),
)
CUT = (
    Summary(
        "particles_per_exposure",
        "particles",
        ("exposure_id",),
        "Particles per exposure",
        "Picks whose box left the image are gone.",
        draw_particles,
    ),
)
SUMMARIES: dict[str, tuple[Summary, ...]] = {
    "patch_motion": MOTION,
    "full_frame_motion": MOTION,
    "motioncor": MOTION,
    "relion_motioncorr": MOTION,
    "patch_ctf": FITTED,
    "ctffind": FITTED,
    "gctf": FITTED,
    "blob_picker": PICKED,
    "template_picker": PICKED,
    "extract_particles": CUT,
    "preprocess": (*MOTION, *FITTED, *PICKED, *CUT),
}
