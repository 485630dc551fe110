"""Figures of a CTF fit: spectrum beside its fit, and the ring profile with its model and correlation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save


@dataclass(frozen=True)
class CtfPicture:
    """What is drawn: frequencies in 1/Å, curves over them, and the half-measured, half-fitted spectrum."""

    title: str
    frequency: np.ndarray
    profile: np.ndarray
    fit: np.ndarray
    correlation: np.ndarray
    spectrum: np.ndarray
    fit_resolution: float


def draw_ctf(path: Path, picture: CtfPicture) -> None:
    """Two panels: spectrum (measured left, fitted right) with the fit resolution as a circle, and curves over 1/Å."""
    figure, axes = new_figure(10.0, 4.2, columns=2)
    figure.suptitle(picture.title, fontsize=9)
    _draw_spectrum(axes[0, 0], picture)
    _draw_curves(axes[0, 1], picture)
    save(figure, path)


def _draw_spectrum(axes: Axes, picture: CtfPicture) -> None:
    side = picture.spectrum.shape[1]
    reach = picture.frequency[-1] * (side / 2) / (side // 2 - 1)
    measured = picture.spectrum[:, : side // 2]
    scale = max(float(np.percentile(np.abs(measured[measured != 0]), 98)) if np.any(measured) else 1.0, 1e-6)
    shown = picture.spectrum.copy()
    shown[:, : side // 2] /= scale
    axes.imshow(shown, origin="lower", cmap="gray", vmin=-1, vmax=1, extent=(-reach, reach, -reach, reach), interpolation="antialiased")
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle) / picture.fit_resolution, np.sin(angle) / picture.fit_resolution, color=ORANGE, linewidth=1.0, linestyle="--")
    axes.grid(visible=False)
    axes.set(xlabel="1/Å", ylabel="1/Å", title="Measured (left), fitted (right)")


def _draw_curves(axes: Axes, picture: CtfPicture) -> None:
    envelope = _running_height(picture.profile)
    axes.plot(picture.frequency, picture.profile / envelope, color=GREY, linewidth=1.0, label="measured rings")
    axes.plot(picture.frequency, picture.fit, color=BLUE, linewidth=0.9, alpha=0.8, label="fitted rings")
    axes.plot(picture.frequency, picture.correlation, color=GREEN, label="correlation")
    axes.axhline(0.3, color=GREEN, linewidth=0.8, linestyle=":")
    axes.axvline(1 / picture.fit_resolution, color=RED, linewidth=1.2, linestyle="--", label=f"fit to {picture.fit_resolution:.1f} Å")
    ticks = np.array([25, 15, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.5, 2])
    inside = ticks[(1 / ticks >= picture.frequency[0] * 0.99) & (1 / ticks <= picture.frequency[-1] * 1.01)]
    axes.set_xticks(1 / inside, [f"{tick:g}" for tick in inside])
    axes.set(xlabel="resolution (Å)", ylim=(-2.4, 2.4), title="Rings without background, scaled to equal height")
    axes.legend(loc="lower left", ncols=2, fontsize=8)


def _running_height(profile: np.ndarray) -> np.ndarray:
    """Root mean square times sqrt(2) in a Gaussian window a tenth of the range wide."""
    index = np.arange(len(profile))
    window = np.exp(-0.5 * ((index - index[:, None]) / (len(profile) / 10)) ** 2)
    return np.sqrt(2 * (window @ profile**2) / window.sum(axis=1)).clip(1e-12)
