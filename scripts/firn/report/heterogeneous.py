"""Figures of heterogeneous refinement: how the classes parted, and how far each is resolved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from firn.report.style import GREY, new_figure, save, show_image


@dataclass(frozen=True)
class Passage:
    """One iteration: resolution in Å and share of each class, and the share of particles that changed class."""

    number: int
    resolutions: list[float]
    shares: list[float]
    changed: float


def draw_passage(path: Path, passage: Passage, volumes: Sequence[np.ndarray], pixel_size: float) -> None:
    """Central slices of each class in one iteration, for who watches."""
    figure, axes = new_figure(6.0, 1.9 * len(volumes) + 0.2, rows=len(volumes), columns=3)
    for row, volume, share, resolution in zip(axes, volumes, passage.shares, passage.resolutions, strict=True):
        for axis, panel in enumerate(row):
            show_image(panel, np.take(volume, volume.shape[0] // 2, axis), pixel_size if axis == 0 else None)
        row[0].set_title(f"{100 * share:.0f} %, {resolution:.1f} Å")
    save(figure, path)


def draw_class_curves(path: Path, curves: Sequence[np.ndarray], side: int, pixel_size: float) -> None:
    """Half-map correlation of each class."""
    figure, axes = new_figure(5.4, 3.6)
    panel = axes[0, 0]
    for number, curve in enumerate(curves, start=1):
        panel.plot(np.arange(len(curve)) / (side * pixel_size), curve, label=f"class {number}")
    panel.axhline(0.143, color=GREY, linewidth=0.8)
    panel.set(xlabel="resolution (1/Å)", ylabel="FSC", ylim=(-0.1, 1.05))
    panel.legend()
    save(figure, path)


def draw_sorting(path: Path, history: Sequence[Passage]) -> None:
    """Share of each class, and particles that changed class, by iteration."""
    figure, axes = new_figure(5.8, 3.6)
    panel, numbers = axes[0, 0], [passage.number for passage in history]
    for number in range(len(history[0].shares)):
        panel.plot(numbers, [100 * passage.shares[number] for passage in history], label=f"class {number + 1}")
    panel.plot(numbers, [100 * passage.changed for passage in history], "--", color=GREY, label="changed class")
    panel.set(xlabel="iteration", ylabel="particles (%)", ylim=(0, None))
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    panel.legend()
    save(figure, path)
