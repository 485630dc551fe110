"""Figures of 3D classification: how classes filled, how particles lie along components, FSC per class, and where classes differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps

from firn.report.style import GREY, new_figure, save

MOST_POINTS = 20000


def class_colour(number: int) -> tuple[float, ...]:
    """Colour of a class, counted from 0."""
    return tuple(colormaps["tab10"](number % 10))


def draw_course(path: Path, fractions: np.ndarray, changed: Sequence[float], resolutions: Sequence[float]) -> None:
    """Part of the particles in each class by iteration `(iterations, k)`, the part that changed class, and the resolution used (Å)."""
    figure, axes = new_figure(8.4, 3.4, columns=2)
    numbers = np.arange(1, len(fractions) + 1)
    for number, values in enumerate(fractions.T):
        axes[0, 0].plot(numbers, 100 * values, "o-", markersize=3, color=class_colour(number), label=f"class {number + 1}")
    axes[0, 0].set(xlabel="iteration", ylabel="particles (%)", ylim=(0, 110 * float(fractions.max())))
    axes[0, 0].legend()
    axes[0, 1].plot(numbers, 100 * np.asarray(changed), "o-", markersize=3)
    axes[0, 1].set(xlabel="iteration", ylabel="particles that changed class (%)", ylim=(0, None))
    other = axes[0, 1].twinx()
    other.plot(numbers, resolutions, "--", color=GREY)
    other.set_ylabel("resolution used (Å)", color=GREY)
    other.grid(visible=False)
    save(figure, path)


def draw_coordinates(path: Path, points: np.ndarray, labels: np.ndarray) -> None:
    """Particles along components `(n, q)` coloured by class (from 0): a histogram for one, else the first two against each other."""
    figure, axes = new_figure(5.6, 4.2)
    panel = axes[0, 0]
    numbers = np.unique(labels)
    if points.shape[1] == 1:
        low, high = (float(value) for value in np.percentile(points, [0.1, 99.9]))
        colours = [class_colour(int(number)) for number in numbers]
        panel.hist([points[labels == number, 0] for number in numbers], 80, range=(low, high), stacked=True, color=colours)
        panel.set(xlabel="component 1", ylabel="particles")
    else:
        shown = np.arange(len(points))[:: max(1, len(points) // MOST_POINTS)]
        for number in numbers:
            chosen = shown[labels[shown] == number]
            panel.scatter(points[chosen, 0], points[chosen, 1], s=4, alpha=0.4, linewidths=0, color=class_colour(int(number)))
        panel.set(xlabel="component 1", ylabel="component 2")
    handles = [panel.scatter([], [], color=class_colour(int(number)), label=f"class {int(number) + 1}") for number in numbers]
    panel.legend(handles=handles)
    save(figure, path)


def draw_class_fsc(path: Path, curves: Sequence[np.ndarray], frequency: np.ndarray, resolutions: Sequence[float]) -> None:
    """FSC of each class's half maps against spatial frequency (1/Å)."""
    figure, axes = new_figure(6.4, 4.0)
    panel = axes[0, 0]
    for number, (curve, resolution) in enumerate(zip(curves, resolutions, strict=True)):
        panel.plot(frequency, curve, color=class_colour(number), label=f"class {number + 1}: {resolution:.1f} Å")
    panel.axhline(0.143, color="black", linewidth=0.8, linestyle="--")
    panel.set(ylim=(-0.1, 1.03), xlim=(0, frequency[-1]), ylabel="Fourier shell correlation", xlabel="resolution (Å)")
    ticks = [tick for tick in panel.get_xticks() if 0 <= tick <= frequency[-1] * 1.0001]
    panel.set_xticks(ticks, ["∞" if tick == 0 else f"{1 / tick:.3g}" for tick in ticks])
    panel.legend()
    save(figure, path)


def draw_support(path: Path, gains: Sequence[float], errors: Sequence[float], supported: int) -> None:
    """Mean gain of held-out images by number of classes with two standard errors; the number supported is filled."""
    figure, axes = new_figure(5.6, 3.6)
    panel, numbers = axes[0, 0], np.arange(1, len(gains) + 1)
    panel.axhline(0, color="black", linewidth=0.8, linestyle="--")
    panel.errorbar(numbers, gains, yerr=2 * np.asarray(errors), fmt="o-", capsize=4, markerfacecolor="white")
    panel.plot([supported], [gains[supported - 1]], "o", color=panel.lines[1].get_color(), label=f"supported: {supported}")
    panel.set(xlabel="classes", ylabel="gain of held-out images", xticks=numbers, xlim=(0.5, len(gains) + 0.5))
    panel.legend()
    save(figure, path)


def draw_differences(path: Path, volumes: Sequence[np.ndarray], mean: np.ndarray) -> None:
    """Rows are classes: projections of a class less the mean map along z, y and x; red is more, blue is less density."""
    figure, axes = new_figure(6.6, 2.1 * len(volumes) + 0.3, rows=len(volumes), columns=3)
    views = [[(volume - mean).sum(axis) for axis in range(3)] for volume in volumes]
    limit = max(float(np.abs(view).max()) for row in views for view in row) or 1.0
    for number, row in enumerate(views):
        for axis, view in enumerate(row):
            panel = axes[number, axis]
            panel.imshow(view, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            panel.set(xticks=[], yticks=[], title=f"along {'zyx'[axis]}" if number == 0 else "")
            panel.grid(visible=False)
        axes[number, 0].set_ylabel(f"class {number + 1}")
    save(figure, path)
