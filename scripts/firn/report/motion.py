"""Figures of motion correction: trajectories of the whole frame and of its parts, and the corrected micrograph."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from firn.report.style import BLUE, GREEN, GREY, ORANGE, new_figure, save, show_image

MAGNIFY_SHARE = 0.6
PANELS = ((0.01, 0.02, 0.43, 0.87), (0.53, 0.12, 0.45, 0.78))
"""Left, bottom, width and height of the two panels, as parts of the figure: fixed places are drawn in half the time of fitted ones."""


def draw_motion(
    path: Path, title: str, positions: np.ndarray, paths: np.ndarray, image: np.ndarray, pixel_size: float, doses: np.ndarray
) -> None:
    """Left the corrected micrograph with the paths of its tiles, right the drift against dose.

    positions `(p, 2)` yx in [0, 1]; paths `(f, p, 2)` yx in Å, how far the specimen has gone since the first frame; image `(y, x)`;
    doses `(f,)` in e/Å².
    """
    figure, axes = new_figure(9.0, 4.4, columns=2)
    figure.set_layout_engine(None)
    for panel, place in zip(axes[0], PANELS, strict=True):
        panel.set_position(place)
    _draw_paths(axes[0, 0], positions, paths, image, pixel_size, title)
    _draw_drift(axes[0, 1], paths, doses)
    save(figure, path)


def _draw_paths(axes: Axes, positions: np.ndarray, paths: np.ndarray, image: np.ndarray, pixel_size: float, title: str) -> None:
    step = max(1, max(image.shape) // 512)
    height, width = (side // step * step for side in image.shape)
    rows = image[:height, :width].reshape(height // step, step, width).sum(axis=1)
    small = rows.reshape(height // step, width // step, step).mean(axis=2) / step
    show_image(axes, small, pixel_size * step)
    local = paths - paths.mean(axis=1, keepdims=True)
    spacing = min(small.shape) / max(1, round(len(positions) ** 0.5))
    longest = max(float(np.abs(paths).max()), 1e-6)
    scale = MAGNIFY_SHARE * spacing / longest
    centres = positions * np.array(small.shape)
    axes.add_collection(LineCollection(list((centres + scale * paths)[..., ::-1].swapaxes(0, 1)), colors=ORANGE, linewidths=1.2))
    axes.plot(centres[:, 1], centres[:, 0], "o", color=BLUE, markersize=2.5)
    axes.set_title(
        f"{title}\npaths of {len(positions)} tiles, {scale * pixel_size * step:.0f} x enlarged; local motion {np.abs(local).max():.1f} Å",
        fontsize=8,
        y=1.0,
    )


def _draw_drift(axes: Axes, paths: np.ndarray, doses: np.ndarray) -> None:
    mean = paths.mean(axis=1)
    axes.add_collection(LineCollection(list(paths[..., ::-1].swapaxes(0, 1)), colors=GREY, linewidths=0.6, alpha=0.6))
    axes.plot(mean[:, 1], mean[:, 0], color=BLUE, marker="o", markersize=3, label="whole frame")
    axes.plot(mean[0, 1], mean[0, 0], "s", color=GREEN, markersize=6, label="first frame")
    axes.set_aspect("equal", adjustable="datalim")
    axes.locator_params(nbins=6)
    axes.set(xlabel="x, Å", ylabel="y, Å")
    axes.set_title(f"Drift of the specimen over {doses[-1]:.0f} e/Å²", y=1.0)
    axes.legend(fontsize=8)
