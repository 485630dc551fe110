"""Figures of ab-initio reconstruction: volumes, how they came about, convergence, sizes of the classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firn.report.style import BLUE, GREEN, GREY, ORANGE, new_figure, save, show_image

AXES = ("z", "y", "x")


def draw_volumes(path: Path, volumes: Sequence[np.ndarray], fractions: Sequence[float], pixel_size: float) -> None:
    """One row per class: central slices, then projections, along z, y and x; volumes `(z, y, x)`, pixel_size in Å."""
    figure, axes = new_figure(9.8, 1.85 * len(volumes) + 0.2, rows=len(volumes), columns=6)
    for number, (row, volume, fraction) in enumerate(zip(axes, volumes, fractions, strict=True), start=1):
        centre = volume.shape[0] // 2
        for axis, name in enumerate(AXES):
            show_image(row[axis], np.take(volume, centre, axis=axis), pixel_size if axis == 0 else None, f"slice {name}")
            show_image(row[axis + 3], volume.sum(axis=axis), None, f"projection {name}")
        row[0].text(-0.06, 0.5, f"class {number}, {100 * fraction:.0f} %", rotation=90, va="center", ha="right", transform=row[0].transAxes)
    save(figure, path)


def draw_progress(path: Path, snapshots: Sequence[tuple[str, Sequence[np.ndarray]]], pixel_size: float) -> None:
    """Rows are classes, columns are moments: projections along z."""
    classes = len(snapshots[0][1])
    figure, axes = new_figure(1.6 * len(snapshots), 1.75 * classes + 0.1, rows=classes, columns=len(snapshots))
    for column, (title, volumes) in enumerate(snapshots):
        for row, volume in enumerate(volumes):
            show_image(axes[row, column], volume.sum(axis=0), pixel_size if column == row == 0 else None, title if row == 0 else "")
    save(figure, path)


def draw_history(path: Path, history: Sequence[dict[str, float | int | str]]) -> None:
    """Log-likelihood and resolution of every iteration, in the order of the notes."""
    rows = [row for row in history if "resolution" in row]
    figure, grid = new_figure(6.4, 3.6)
    axes = grid[0, 0]
    steps = list(dict.fromkeys(str(row["step"]) for row in rows))
    starts, growing = ([step for step in steps if step.startswith(kind)] for kind in ("start", "growing"))
    last_start = max((_length(rows, step) for step in starts), default=0)
    last_growing = last_start + max((_length(rows, step) for step in growing), default=0)
    for step in steps:
        values = [float(row["log_likelihood"]) for row in rows if row["step"] == step]
        offset = 0 if step in starts else last_start if step in growing else last_growing
        colour = GREY if step in starts else BLUE if step in growing else GREEN
        axes.plot(np.arange(len(values)) + 1 + offset, values, color=colour, linewidth=1.0 if colour == GREY else 1.8)
    final = [float(row["resolution"]) for row in rows if growing and row["step"] == growing[0]]
    axes.set_xlabel("iteration")
    axes.set_ylabel("log-likelihood per particle")
    other = axes.twinx()
    first = [float(row["resolution"]) for row in rows if row["step"] == steps[0]]
    other.plot(np.arange(len(first) + len(final)) + 1, first + final, color=ORANGE, linewidth=1.2)
    other.set_ylabel("resolution (Å)", color=ORANGE)
    other.grid(visible=False)
    save(figure, path)


def draw_fractions(path: Path, counts: np.ndarray) -> None:
    """Bars of the number of particles per class."""
    figure, grid = new_figure(max(3.0, 0.6 * len(counts) + 2), 2.8)
    axes = grid[0, 0]
    axes.bar(np.arange(len(counts)) + 1, counts, color=BLUE, width=0.7)
    axes.set_xticks(np.arange(len(counts)) + 1)
    axes.set_xlabel("class")
    axes.set_ylabel("particles")
    axes.set_ylim(bottom=0)
    save(figure, path)


def _length(rows: Sequence[dict[str, float | int | str]], step: str) -> int:
    return sum(row["step"] == step for row in rows)
