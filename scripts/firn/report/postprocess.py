"""Figures of validation and sharpening: FSC curves, the Guinier plot, the histogram a mask's threshold was found in."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save

FEWEST_SHELLS = 8
CURVE_LOOKS = {
    "unmasked": ("#a0aec0", "-", "no mask"),
    "spherical": ("#805ad5", "-", "spherical mask"),
    "loose": (GREEN, "-", "loose mask"),
    "tight": (ORANGE, "-", "tight mask"),
    "randomised": (RED, ":", "phases randomised"),
    "corrected": (BLUE, "-", "corrected"),
    "model": ("#b83280", "--", "map to model"),
}


def draw_fsc(path: Path, table: pd.DataFrame, resolutions: Mapping[str, float], threshold: float = 0.143) -> None:
    """FSC curves against spatial frequency; resolutions (Å) by curve are named in the legend."""
    figure, axes = new_figure(7.0, 4.4)
    panel = axes[0, 0]
    for name, (colour, style, label) in CURVE_LOOKS.items():
        if name in table.columns:
            text = f"{label}: {resolutions[name]:.2f} Å" if name in resolutions else label
            width = 2.4 if name == "corrected" else 1.4
            panel.plot(table["frequency"], table[name], style, color=colour, linewidth=width, label=text)
    panel.axhline(threshold, color="black", linewidth=0.8, linestyle="--")
    panel.annotate(f"{threshold:g}", (0, threshold), (2, 2), textcoords="offset points", fontsize=8)
    panel.set(ylim=(-0.1, 1.03), xlim=(0, table["frequency"].iloc[-1]), ylabel="Fourier shell correlation")
    _resolution_axis(panel)
    panel.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
    save(figure, path)


def draw_guinier(
    path: Path, s2: np.ndarray, curves: Mapping[str, np.ndarray], fit: tuple[float, float] | None, span: tuple[float, float]
) -> None:
    """ln amplitude against s² (1/Å²) by curve name; fit is (B in Å², intercept), span the resolutions (Å) it was made between."""
    figure, axes = new_figure(7.0, 4.2)
    panel = axes[0, 0]
    for (name, values), colour in zip(curves.items(), (GREY, ORANGE, BLUE), strict=False):
        panel.plot(s2[1:], values[1:], color=colour, label=name)
    if fit is not None:
        ends = np.array([1 / span[0] ** 2, 1 / span[1] ** 2])
        panel.plot(ends, fit[1] + fit[0] / 4 * ends, "--", color=RED, linewidth=2, label=f"fit: B = {fit[0]:.0f} Å²")
    limit = min(max(1.5 / span[1] ** 2, s2[min(FEWEST_SHELLS, len(s2) - 1)]), s2[-1])
    shown = np.concatenate([values[1:][s2[1:] <= limit] for values in curves.values()])
    shown = shown[shown > np.nanmax(shown) - 15]
    panel.set(xlim=(0, limit), ylim=(shown.min() - 0.5, shown.max() + 0.5))
    panel.set(xlabel="s² (1/Å²)", ylabel="ln amplitude")
    panel.legend()
    save(figure, path)


def draw_histogram(path: Path, volume: np.ndarray, threshold: float) -> None:
    """Densities of a low-passed map on a logarithmic scale, and the threshold."""
    figure, axes = new_figure(6.0, 3.2)
    panel = axes[0, 0]
    panel.hist(volume.reshape(-1), bins=200, color=BLUE, log=True)
    panel.axvline(threshold, color=ORANGE, label=f"threshold {threshold:.3g}")
    panel.set(xlabel="density of the low-passed map", ylabel="voxels")
    panel.legend()
    save(figure, path)


def _resolution_axis(panel: Axes) -> None:
    ticks = panel.get_xticks()
    limit = panel.get_xlim()[1]
    kept = [tick for tick in ticks if 0 <= tick <= limit * 1.0001]
    panel.set_xticks(kept, ["∞" if tick == 0 else f"{1 / tick:.3g}" for tick in kept])
    panel.set_xlabel("resolution (Å)")
