"""Numbers of the exposures in the order in which they were collected, with limits, and how they are distributed."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firn.report.style import BLUE, GREY, RC, RED, plt

FEW_POINTS = 400
ROW_HEIGHT = 0.95
"""Inches."""


@dataclass(frozen=True)
class Attribute:
    """A column of the exposures, what it is called, and the factor to the unit it is shown in."""

    name: str
    label: str
    factor: float = 1.0


ATTRIBUTES = (
    Attribute("motion_total", "motion\n(Å)"),
    Attribute("defocus", "defocus\n(µm)", 1e-4),
    Attribute("astigmatism", "astigm.\n(nm)", 0.1),
    Attribute("ctf_fit_resolution", "CTF fit\n(Å)"),
    Attribute("ice_ring_score", "ice\nrings"),
    Attribute("phase_shift", "phase\nshift (°)"),
    Attribute("specimen_tilt", "tilt\n(°)"),
    Attribute("dose_counted", "dose\n(e/Å²)"),
    Attribute("picks", "picks"),
    Attribute("particles", "particles"),
)


def shown_attributes(table: pd.DataFrame) -> list[Attribute]:
    """Those that were measured and are not the same for all exposures."""
    return [each for each in ATTRIBUTES if each.name in table.columns and pd.to_numeric(table[each.name], errors="coerce").nunique() > 1]


def draw_over_time(table: pd.DataFrame, limits: Mapping[str, tuple[float | None, float | None]]) -> Figure:
    """One row per attribute: values of accepted and rejected exposures over time, and their distribution.

    Columns time (s since 1970; the number of the exposure is taken where there is none) and verdict; limits: (least, most) by column.
    """
    shown = shown_attributes(table)
    with mpl.rc_context(RC):
        figure, axes = plt.subplots(
            len(shown),
            2,
            figsize=(8.0, ROW_HEIGHT * len(shown) + 0.4),
            squeeze=False,
            layout="constrained",
            width_ratios=(4, 1),
            sharex="col",
        )
    place, label = _places(table)
    rejected = (table["verdict"] == "rejected").to_numpy()
    for attribute, (left, right) in zip(shown, axes, strict=True):
        values = pd.to_numeric(table[attribute.name], errors="coerce").to_numpy(float) * attribute.factor
        _points(left, place, values, rejected)
        left.set_ylabel(attribute.label)
        for limit in limits.get(attribute.name, ()):
            if limit is not None:
                left.axhline(limit * attribute.factor, color=RED, linestyle="--", linewidth=1.0)
        _distribution(right, values, rejected, left.get_ylim())
    for right in axes[:, 1]:
        right.set_xticks([])
    axes[-1, 0].set_xlabel(label)
    axes[-1, 1].set_xlabel("exposures")
    if rejected.any():
        axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    figure.align_ylabels(axes[:, 0])
    return figure


def _places(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """(place on the time axis, its label): minutes or hours since the first exposure, or the number of the exposure."""
    if "time" not in table.columns or table["time"].isna().all():
        return np.arange(1, len(table) + 1, dtype=float), "number of the exposure"
    seconds = (table["time"] - table["time"].min()).to_numpy(float)
    hours = np.nanmax(seconds) > 2 * 3600
    return seconds / (3600 if hours else 60), f"{'hours' if hours else 'minutes'} since the first exposure was found"


def _points(panel: Axes, place: np.ndarray, values: np.ndarray, rejected: np.ndarray) -> None:
    size = 4.0 if len(values) <= FEW_POINTS else 2.0
    for chosen, colour, label in ((~rejected, BLUE, "accepted"), (rejected, RED, "rejected")):
        if chosen.any():
            panel.plot(place[chosen], values[chosen], "o", color=colour, markersize=size, markeredgewidth=0, alpha=0.8, label=label)
    panel.margins(x=0.02, y=0.12)


def _distribution(panel: Axes, values: np.ndarray, rejected: np.ndarray, span: tuple[float, float]) -> None:
    bins = list(np.linspace(*span, 24))
    panel.hist(
        [values[~rejected & np.isfinite(values)], values[rejected & np.isfinite(values)]],
        bins=bins,
        orientation="horizontal",
        stacked=True,
        color=[BLUE, RED],
    )
    median = float(np.nanmedian(values))
    panel.axhline(median, color=GREY, linestyle="--", linewidth=1.0)
    panel.set_ylim(span)
    panel.set_yticklabels([])
    panel.annotate(
        f"{median:.3g}", (0.97, median), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", fontsize=8
    )
