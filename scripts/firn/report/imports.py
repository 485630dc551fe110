"""Figures of the imports: how many files were taken and why others were not, and the gain reference or a first image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from firn.report.style import BLUE, GREY, RED, new_figure, save, show_image


def draw_import(
    path: Path,
    accepted: int,
    reasons: Mapping[str, int],
    image: np.ndarray | None,
    title: str,
    pixel_size: float | None = None,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Bars of accepted and refused files by reason, beside an image `(y, x)` when there is one, and scores by name when there are any."""
    columns = 1 + (image is not None) + bool(scores)
    figure, axes = new_figure((4.5, 7.0, 10.5)[columns - 1], 3.2, columns=columns)
    _draw_counts(axes[0, 0], ["accepted", *reasons], [accepted, *reasons.values()])
    if image is not None:
        show_image(axes[0, 1], _thin(image), pixel_size * _step(image) if pixel_size else None, title)
    if scores:
        _draw_scores(axes[0, -1], scores)
    save(figure, path)


def _draw_counts(axes: Axes, labels: list[str], counts: list[int]) -> None:
    bars = axes.barh(labels, counts, color=[BLUE] + [RED] * (len(labels) - 1), height=0.5)
    axes.bar_label(bars, padding=3)
    axes.set(xlabel="files", xlim=(0, max(counts) * 1.15 + 0.5), ylim=(-0.7, len(labels) - 0.3), title="Files found")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()


def _draw_scores(axes: Axes, scores: Mapping[str, float]) -> None:
    strongest = max(scores, key=lambda name: abs(scores[name]))
    axes.barh(list(scores), list(scores.values()), color=[BLUE if name == strongest else GREY for name in scores], height=0.6)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="correlation with the movies' pattern", title="Orientation of the gain")
    axes.invert_yaxis()


def _thin(image: np.ndarray) -> np.ndarray:
    step = _step(image)
    height, width = (side // step * step for side in image.shape)
    return image[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))


def _step(image: np.ndarray) -> int:
    return max(1, max(image.shape) // 512)
