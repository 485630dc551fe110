"""Figures of orientation diagnostics: conical FSC curves, and maps of the sphere."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save


@dataclass(frozen=True)
class SphereMap:
    """One quantity by direction: values `(d,)`, its title and unit, and the colour map."""

    values: np.ndarray
    title: str
    unit: str
    colours: str = "viridis"


def draw_conical_fsc(path: Path, curves: np.ndarray, frequency: np.ndarray, resolutions: np.ndarray, threshold: float) -> None:
    """Range, spread and mean of FSC curves `(d, s)` over directions, and the histogram of where they fall below the threshold."""
    figure, axes = new_figure(7.2, 4.6)
    panel = axes[0, 0]
    _histogram(panel, 1 / resolutions, frequency)
    mean, spread = curves.mean(0), curves.std(0)
    panel.fill_between(frequency, curves.min(0), curves.max(0), color=BLUE, alpha=0.15, linewidth=0, label="least to greatest")
    panel.fill_between(frequency, mean - spread, mean + spread, color=BLUE, alpha=0.3, linewidth=0, label="± standard deviation")
    panel.plot(frequency, mean, color=BLUE, linewidth=2.2, label="mean over directions")
    order = np.lexsort((-curves.sum(1), resolutions))
    for rank, colour, name in ((order[0], GREEN, "best"), (order[-1], RED, "worst")):
        panel.plot(frequency, curves[rank], "--", color=colour, linewidth=1.2, label=f"{name} direction: {resolutions[rank]:.2f} Å")
    panel.axhline(threshold, color="black", linewidth=0.8, linestyle="--")
    panel.annotate(f"{threshold:g}", (0, threshold), (2, 2), textcoords="offset points", fontsize=8)
    panel.set(ylim=(-0.1, 1.03), xlim=(0, frequency[-1]), ylabel="FSC in a cone", xlabel="resolution (Å)")
    ticks = [tick for tick in panel.get_xticks() if 0 <= tick <= frequency[-1] * 1.0001]
    panel.set_xticks(ticks, ["∞" if tick == 0 else f"{1 / tick:.3g}" for tick in ticks])
    panel.legend(loc="lower left", bbox_to_anchor=(0, 0.24), frameon=True, framealpha=0.85, edgecolor="none")
    save(figure, path)


def draw_spheres(path: Path, directions: np.ndarray, maps: list[SphereMap]) -> None:
    """Quantities on equal-area maps of the sphere; directions `(d, 3)` zyx, opposite ones alike."""
    figure, axes = new_figure(4.6 * len(maps), 3.2, columns=len(maps))
    longitude, latitude = np.meshgrid(np.linspace(-np.pi, np.pi, 361), np.linspace(-np.pi / 2, np.pi / 2, 181))
    across = np.cos(latitude)
    points = np.stack((np.sin(latitude), across * np.sin(longitude), across * np.cos(longitude)), axis=-1)
    nearest = cKDTree(np.concatenate((directions, -directions))).query(points)[1] % len(directions)
    for number, shown in enumerate(maps):
        panel = _sphere(figure, axes[0, number], len(maps), number)
        image = panel.pcolormesh(longitude, latitude, shown.values[nearest], cmap=shown.colours, rasterized=True, shading="auto")
        figure.colorbar(image, ax=panel, label=shown.unit, shrink=0.7)
        panel.set_title(shown.title)
    save(figure, path)


def _sphere(figure: Figure, old: Axes, columns: int, number: int) -> Axes:
    old.remove()
    panel = figure.add_subplot(1, columns, number + 1, projection="mollweide")
    panel.set_xticklabels([])
    panel.set_yticklabels([])
    panel.grid(visible=False)
    return panel


def _histogram(panel: Axes, crossings: np.ndarray, frequency: np.ndarray) -> None:
    """Share of directions by the frequency they reach, on an axis of its own."""
    other = panel.twinx()
    edges = np.concatenate((frequency - frequency[1] / 2, [frequency[-1] + frequency[1] / 2]))
    other.hist(crossings, bins=list(edges), weights=np.full(len(crossings), 100 / len(crossings)), color=ORANGE, alpha=0.45)
    other.set_ylabel("directions with this resolution (%)", color=ORANGE)
    other.grid(visible=False)
    other.tick_params(colors=GREY)
    highest = other.get_ylim()[1]
    other.set_yticks([tick for tick in other.get_yticks() if tick <= min(highest, 100)])
    other.set_ylim(0, 2.2 * highest)
    panel.set_zorder(other.get_zorder() + 1)
    panel.patch.set_visible(False)
