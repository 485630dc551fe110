"""Figures of simulated data and of how results compare with the truth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save, show_image


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


def draw_defocus_score(path: Path, table: pd.DataFrame) -> None:
    """Errors of mean defocus and of astigmatism in Å over the true defocus; columns as compare_defocus gives them."""
    figure, axes = new_figure(7.6, 3.2, columns=2)
    for axis, name, title in zip(axes[0], ("defocus_error", "astigmatism_error"), ("mean defocus", "astigmatism"), strict=True):
        axis.scatter(table["defocus"] / 1e4, table[name], color=BLUE, s=18)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set(xlabel="true defocus (µm)", ylabel="error (Å)", title=title)
    save(figure, path)


def draw_pick_score(path: Path, shown: Mapping[str, np.ndarray]) -> None:
    """True positions, hits and misses of one exposure; points xy in Å."""
    figure, axes = new_figure(5.2, 5.2)
    axis, hit = axes[0, 0], shown["hit"]
    axis.scatter(*(shown["true"].T / 10), s=90, facecolors="none", edgecolors=GREY, label=f"true ({len(shown['true'])})")
    axis.scatter(*(shown["found"][hit].T / 10), s=12, color=GREEN, label=f"matched picks ({int(hit.sum())})")
    axis.scatter(*(shown["found"][~hit].T / 10), s=16, color=RED, marker="x", label=f"false picks ({int((~hit).sum())})")
    axis.set(xlabel="x (nm)", ylabel="y (nm)")
    axis.set_aspect("equal")
    figure.legend(loc="outside upper center", ncols=3)
    save(figure, path)


def draw_pose_score(path: Path, angles: np.ndarray, shifts: np.ndarray) -> None:
    """Histograms of pose errors (degrees) and centre errors (Å)."""
    figure, axes = new_figure(7.6, 3.0, columns=2)
    for axis, values, label in zip(axes[0], (angles, shifts), ("orientation error (degrees)", "centre error (Å)"), strict=True):
        top = max(float(np.percentile(values, 98)), 1e-3)
        axis.hist(np.minimum(values, top), bins=50, color=BLUE)
        axis.axvline(float(np.median(values)), color=ORANGE, label=f"median {np.median(values):.2g}")
        axis.set(xlabel=label, ylabel="particles")
        axis.legend()
    save(figure, path)


def draw_map_score(path: Path, curve: np.ndarray, aligned: np.ndarray, reference: np.ndarray, pixel_size: float) -> None:
    """FSC with the truth, and the middle slices of both maps `(z, y, x)`."""
    figure, axes = new_figure(9.6, 3.2, columns=3)
    n = aligned.shape[0]
    axes[0, 0].plot(np.arange(len(curve)) / (n * pixel_size), curve, color=BLUE)
    for threshold in (0.5, 0.143):
        axes[0, 0].axhline(threshold, color=GREY, linewidth=0.8)
        axes[0, 0].text(0, threshold + 0.015, f"{threshold:g}", color=GREY, fontsize=8)
    axes[0, 0].set(xlabel="spatial frequency (1/Å)", ylabel="FSC with the truth", ylim=(-0.1, 1.02))
    show_image(axes[0, 1], aligned[n // 2], pixel_size, "map, aligned")
    show_image(axes[0, 2], reference[n // 2], pixel_size, "truth")
    save(figure, path)
