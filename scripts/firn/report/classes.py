"""Figures of 2D classes: mosaic of averages, sizes, convergence, selection.

Convention: averages are `(k, y, x)` with white particles, drawn with row 0 at the bottom; resolutions are in Å.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save, show_image

LARGEST_MOSAIC = 120


def draw_mosaic(path: Path, averages: np.ndarray, classes: pd.DataFrame, pixel_size: float, kept: Sequence[bool] | None = None) -> None:
    """Averages in the table's order with number, count, resolution and ESS; with `kept`, framed green or red.

    averages `(k, y, x)`, one per row of classes (columns class_number, class_count, class_resolution, and class_ess where it is known).
    """
    shown = min(len(classes), LARGEST_MOSAIC)
    columns = min(10, max(1, math.ceil(math.sqrt(shown * 1.4))))
    rows = math.ceil(shown / columns)
    figure, axes = new_figure(1.05 * columns + 0.2, 1.3 * rows + 0.2, rows, columns)
    for place, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if place < shown:
            _draw_class(axis, averages[place], classes.iloc[place], pixel_size if place == 0 else None)
            if kept is not None:
                _frame(axis, averages.shape[-2:], GREEN if kept[place] else RED)
    save(figure, path)


def draw_sizes(path: Path, classes: pd.DataFrame, kept: Sequence[bool] | None = None) -> None:
    """Particles per class as bars and resolution as dots, in the table's order; none for a class without an average, whose gain is 0."""
    figure, axes = new_figure(6.0, 3.0)
    axis, place = axes[0, 0], np.arange(1, len(classes) + 1)
    colours = [BLUE] * len(classes) if kept is None else [GREEN if keep else RED for keep in kept]
    axis.bar(place, classes["class_count"], color=colours, width=0.8)
    axis.set_xlabel("class, by size")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel("particles")
    other = axis.twinx()
    other.spines["right"].set_visible(True)
    other.grid(visible=False)
    shown = np.asarray(classes["class_gain"] > 0) if "class_gain" in classes.columns else np.full(len(classes), True)
    other.plot(place[shown], classes["class_resolution"][shown], ".", color=ORANGE)
    other.set_ylabel("resolution (Å)", color=ORANGE)
    other.set_ylim(bottom=0)
    save(figure, path)


def draw_convergence(path: Path, history: pd.DataFrame) -> None:
    """Per iteration: resolution used and reached (Å), fraction of particles that changed class, effective classes per particle.

    A dotted line stands before the first iteration that settles. history columns: searched, resolved, changed, effective_classes, settling.
    """
    figure, axes = new_figure(7.5, 2.8, 1, 2)
    iterations = np.arange(1, len(history) + 1)
    left, right = axes[0]
    left.plot(iterations, history["searched"], color=GREY, label="used in the search")
    left.plot(iterations, history["resolved"], color=BLUE, label="reached by the classes")
    left.set_ylabel("resolution (Å)")
    right.plot(iterations, 100 * history["changed"], color=BLUE)
    right.set_ylabel("particles that changed class (%)", color=BLUE)
    right.set_ylim(bottom=0)
    other = right.twinx()
    other.spines["right"].set_visible(True)
    other.grid(visible=False)
    other.plot(iterations, history["effective_classes"], color=ORANGE)
    other.set_ylabel("effective classes per particle", color=ORANGE)
    other.set_ylim(bottom=0)
    settling = float(iterations[history["settling"]].min()) - 0.5
    for axis in (left, right):
        axis.set_xlabel("iteration")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.axvline(settling, color=GREY, linestyle=":", linewidth=1)
    left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    save(figure, path)


def _draw_class(axis: Axes, image: np.ndarray, row: pd.Series, pixel_size: float | None) -> None:
    if not image.any():
        axis.text(0.5, 0.5, "no average", transform=axis.transAxes, ha="center", va="center", fontsize=6, color=GREY)
        axis.set_title(f"{int(row['class_number'])}: {int(row['class_count'])}\nunexplained", fontsize=6, pad=2)
        axis.set_xlim(-0.5, image.shape[1] - 0.5)
        axis.set_ylim(-0.5, image.shape[0] - 0.5)
        axis.set_aspect("equal")
        return
    show_image(axis, image, pixel_size)
    certainty = f", ESS {row['class_ess']:.1f}" if pd.notna(row.get("class_ess")) else ""
    axis.set_title(f"{int(row['class_number'])}: {int(row['class_count'])}\n{row['class_resolution']:.1f} Å{certainty}", fontsize=6, pad=2)


def _frame(axis: Axes, shape: tuple[int, ...], colour: str) -> None:
    y, x = shape[0] - 0.5, shape[1] - 0.5
    axis.plot([-0.5, x, x, -0.5, -0.5], [-0.5, -0.5, y, y, -0.5], color=colour, linewidth=2.5, clip_on=False)
    axis.set_xlim(-0.5, x)
    axis.set_ylim(-0.5, y)
