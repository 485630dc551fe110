"""Figures of curation: every attribute over the session with its limits, and thumbnails of what was rejected."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from firn.report.style import BLUE, GREY, RED, new_figure, save, show_image

COLUMNS = 2


@dataclass(frozen=True)
class AttributePanel:
    """One attribute over the exposures, in order, and the limits it was judged by."""

    label: str
    values: np.ndarray
    limits: tuple[float, ...] = ()


def draw_attributes(path: Path, panels: list[AttributePanel], rejected: np.ndarray) -> None:
    """One panel per attribute: accepted blue, rejected red, limits dashed."""
    rows = max(1, -(-len(panels) // COLUMNS))
    figure, axes = new_figure(9.5, 2.3 * rows, rows, COLUMNS)
    for ax, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(ax, panel, rejected)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    save(figure, path)


def _draw_panel(axes: Axes, panel: AttributePanel, rejected: np.ndarray) -> None:
    index = np.arange(1, len(panel.values) + 1)
    size = float(np.clip(3000 / max(len(index), 1), 4, 28))
    axes.scatter(index[~rejected], panel.values[~rejected], s=size, color=BLUE, linewidths=0)
    axes.scatter(index[rejected], panel.values[rejected], s=1.3 * size, color=RED, linewidths=0, marker="D")
    for limit in panel.limits:
        axes.axhline(limit, color=GREY, linestyle="--", linewidth=1.1)
        axes.annotate(
            f"{limit:.0f}" if abs(limit) >= 100 else f"{limit:.3g}",
            (1.0, limit),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
            color=GREY,
        )
    axes.set(xlabel="exposure", title=panel.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)


def draw_thumbnails(path: Path, thumbnails: list[tuple[np.ndarray, str]], columns: int = 4) -> None:
    """Small pictures with their names and reasons below."""
    rows = -(-len(thumbnails) // columns)
    width = min(columns, len(thumbnails))
    figure, axes = new_figure(2.9 * width, 3.8 * rows, rows, width)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (image, text) in zip(axes.flat, thumbnails, strict=False):
        show_image(ax, image)
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(text, fontsize=6.5)
        ax.spines[:].set_visible(False)
        ax.set_anchor("N")
    save(figure, path)


def thumbnail(image: np.ndarray, side: int = 256) -> np.ndarray:
    """The image averaged over squares to at most about `side` pixels a side."""
    factor = max(1, -(-max(image.shape) // side))
    height, width = (length // factor * factor for length in image.shape)
    return image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
