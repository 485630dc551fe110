"""Figures of refinements: the course of the iterations and where the particles were seen from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from firn.report.style import BLUE, GREY, ORANGE, new_figure, save, show_image

MOST_COLUMNS = 7
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Moment:
    """One iteration: resolutions in Å, median change of orientation in degrees, central slices across z, y, x, half-map correlation."""

    number: int
    resolution: float
    searched: float
    moved: float
    slices: tuple[np.ndarray, ...]
    curve: np.ndarray


def draw_moment(path: Path, moment: Moment, side: int, pixel_size: float) -> None:
    """Slices and half-map correlation of one iteration, for who watches."""
    figure, axes = new_figure(11.0, 3.0, columns=4)
    for axis, panel in enumerate(axes[0][:3]):
        title = f"iteration {moment.number}, {moment.resolution:.1f} Å" if axis == 0 else ""
        show_image(panel, moment.slices[axis], pixel_size if axis == 0 else None, title)
    panel = axes[0, 3]
    panel.plot(np.arange(len(moment.curve)) / (side * pixel_size), moment.curve, color=BLUE)
    panel.axhline(0.143, color=GREY, linewidth=0.8)
    panel.set(xlabel="1/Å", ylabel="correlation of the half maps", ylim=(-0.1, 1.05))
    save(figure, path)


def draw_convergence(path: Path, history: Sequence[Moment]) -> None:
    """Resolution and change of orientation by iteration."""
    figure, axes = new_figure(6.4, 3.6)
    panel = axes[0, 0]
    numbers = [moment.number for moment in history]
    panel.plot(numbers, [moment.searched for moment in history], "o-", color=GREY, markersize=3, label="used for the search")
    panel.plot(numbers, [moment.resolution for moment in history], "o-", color=BLUE, markersize=4, label="resolution")
    panel.set_yscale("log")
    ticks = [value for value in (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50) if _in_range(value, history)]
    panel.set_yticks(ticks, [str(value) for value in ticks])
    panel.minorticks_off()
    panel.set(xlabel="iteration", ylabel="resolution (Å)")
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    other = panel.twinx()
    other.plot(numbers[1:], [moment.moved for moment in history[1:]], "--", color=ORANGE, linewidth=1.2)
    other.set_ylabel("median change of orientation (°)", color=ORANGE)
    other.set_ylim(bottom=0)
    other.grid(visible=False)
    panel.legend(loc="upper right")
    save(figure, path)


def draw_iterations(path: Path, history: Sequence[Moment], pixel_size: float) -> None:
    """Central slices of the map in some of the iterations, the first and the last among them."""
    chosen = sorted({round(value) for value in np.linspace(0, len(history) - 1, min(MOST_COLUMNS, len(history)))})
    figure, axes = new_figure(1.6 * len(chosen) + 0.2, 5.0, rows=3, columns=len(chosen))
    for column, index in enumerate(chosen):
        moment = history[index]
        for row in range(3):
            title = f"iteration {moment.number}\n{moment.resolution:.1f} Å" if row == 0 else ""
            show_image(axes[row, column], moment.slices[row], pixel_size if row == column == 0 else None, title)
    save(figure, path)


def draw_directions(path: Path, rot: np.ndarray, tilt: np.ndarray) -> None:
    """Number of particles by viewing direction (degrees) on an equal-area map of the sphere."""
    figure, axes = new_figure(7.0, 3.8)
    axes[0, 0].remove()
    panel = figure.add_subplot(projection="mollweide")
    longitude = np.radians((rot + 180) % 360 - 180)
    height = np.cos(np.radians(tilt))
    counts, x, y = np.histogram2d(longitude, height, bins=(48, 24), range=((-np.pi, np.pi), (-1, 1)))
    shown = panel.pcolormesh(x, np.arcsin(y), np.where(counts > 0, counts, np.nan).T, cmap="viridis", rasterized=True)
    figure.colorbar(shown, ax=panel, label="particles", shrink=0.8)
    panel.set_xticklabels([])
    panel.set_yticklabels([])
    save(figure, path)


def draw_scales(path: Path, scales: np.ndarray) -> None:
    """Histogram of the particles' grey scales."""
    figure, axes = new_figure(5.0, 3.2)
    axes[0, 0].hist(scales, bins=np.linspace(0, max(2.0, float(scales.max())), 60), color=BLUE)
    axes[0, 0].axvline(1.0, color=GREY, linewidth=0.8)
    axes[0, 0].set(xlabel="scale", ylabel="particles")
    save(figure, path)


def draw_rounds(particles: np.ndarray, resolutions: np.ndarray) -> Figure:
    """1/d² (1/Å²) of rounds against their particles, and from three rounds on the line of Rosenthal & Henderson (2003), slope 2 / B in ln N."""
    figure, axes = new_figure(6.0, 3.4)
    panel = axes[0, 0]
    panel.plot(particles, resolutions**-2.0, "o", color=BLUE)
    if len(np.unique(particles)) >= FEWEST_ROUNDS:
        slope, offset = np.polyfit(np.log(particles), resolutions**-2.0, 1)
        ends = np.array([particles.min(), particles.max()])
        label = f"B = {2 / slope:.0f} Å²" if slope > 0 else "no better for more particles"
        panel.plot(ends, slope * np.log(ends) + offset, "--", color=ORANGE, label=label)
        panel.legend()
    panel.set(xscale="log", xlabel="particles", ylabel="1 / resolution² (1/Å²)")
    counts = np.unique(particles)
    shown = counts[:: -max(1, len(counts) // 4)]
    panel.set_xticks(shown, [f"{count:.0f}" for count in shown])
    panel.minorticks_off()
    right = panel.secondary_yaxis("right", functions=(lambda y: y, lambda y: y))
    right.tick_params(labelsize=9)
    right.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value**-0.5:.1f} Å" if value > 0 else ""))
    return figure


def _in_range(value: float, history: Sequence[Moment]) -> bool:
    values = [moment.resolution for moment in history] + [moment.searched for moment in history]
    return 0.9 * min(values) <= value <= 1.1 * max(values)
