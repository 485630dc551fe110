"""Figures of simulated data and of how results compare with the truth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter

from firn.report.style import ORANGE, new_figure, save, show_image


def draw_movie(path: Path, total: np.ndarray, centres_xy: np.ndarray, radius: float, pixel_size: float) -> None:
    """A movie's sum `(y, x)` as it is, and smoothed with circles of the radius in Å at the true centres `(n, 2)`."""
    figure, axes = new_figure(9.0, 4.6, columns=2)
    show_image(axes[0, 0], total, pixel_size, "sum of the frames")
    show_image(axes[0, 1], gaussian_filter(total, 12 / pixel_size), pixel_size, "smoothed, with true positions")
    for x, y in centres_xy:
        axes[0, 1].add_patch(Circle((x, y), radius / pixel_size, fill=False, color=ORANGE, linewidth=0.8))
    save(figure, path)


def draw_drift(path: Path, trajectories: Mapping[str, np.ndarray]) -> None:
    """Paths `(frames, 2)` xy in px of all movies from a common start."""
    figure, axes = new_figure(4.6, 4.4)
    for trajectory in trajectories.values():
        axes[0, 0].plot(trajectory[:, 0], trajectory[:, 1], marker=".", markersize=3, linewidth=1)
    axes[0, 0].plot(0, 0, marker="o", color="black", markersize=5)
    axes[0, 0].set(xlabel="x (px)", ylabel="y (px)", aspect="equal", title="drift since the first frame (black dot)")
    axes[0, 0].set_aspect("equal", adjustable="datalim")
    save(figure, path)


def draw_specimen(path: Path, volume: np.ndarray, pixel_size: float) -> None:
    """Middle slice and three projections of a volume `(z, y, x)`."""
    figure, axes = new_figure(9.6, 2.7, columns=4)
    show_image(axes[0, 0], volume[volume.shape[0] // 2], pixel_size, "slice at z = 0")
    for axis, letter in enumerate("zyx"):
        show_image(axes[0, axis + 1], volume.sum(axis=axis), pixel_size, f"along {letter}")
    save(figure, path)


def draw_gallery(path: Path, images: np.ndarray, pixel_size: float, titles: list[str]) -> None:
    """Particle images `(n, y, x)`, a row of up to eight."""
    count = min(len(images), 16)
    columns = min(count, 8)
    figure, axes = new_figure(1.3 * columns, 1.5 * -(-count // columns), rows=-(-count // columns), columns=columns)
    for axis in axes.ravel()[count:]:
        axis.set_axis_off()
    for axis, image, title in zip(axes.ravel(), images, titles, strict=False):
        show_image(axis, image, pixel_size, title)
    save(figure, path)
