"""Figures of the imports: how many files were taken and why others were not, and the gain reference or a first image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from firn.report.style import BLUE, RED, new_figure, save, show_image


def draw_import(
    path: Path, accepted: int, reasons: Mapping[str, int], image: np.ndarray | None, title: str, pixel_size: float | None = None
) -> None:
    """Bars of accepted and refused files by reason, beside an image `(y, x)` when there is one."""
    figure, axes = new_figure(7.0 if image is not None else 4.5, 3.2, columns=2 if image is not None else 1)
    labels = ["accepted", *reasons]
    counts = [accepted, *reasons.values()]
    bars = axes[0, 0].barh(labels, counts, color=[BLUE] + [RED] * len(reasons), height=0.5)
    axes[0, 0].bar_label(bars, padding=3)
    axes[0, 0].set(xlabel="files", xlim=(0, max(counts) * 1.15 + 0.5), ylim=(-0.7, len(labels) - 0.3), title="Files found")
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].invert_yaxis()
    if image is not None:
        show_image(axes[0, 1], _thin(image), pixel_size * _step(image) if pixel_size else None, title)
    save(figure, path)


def _thin(image: np.ndarray) -> np.ndarray:
    step = _step(image)
    height, width = (side // step * step for side in image.shape)
    return image[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))


def _step(image: np.ndarray) -> int:
    return max(1, max(image.shape) // 512)
