"""Figures of a CTF fit: spectrum beside its fit, the ring profile with its model and correlation, and the defocus surface."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save

TICKS = np.array([25, 15, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.75, 2.5, 2.25, 2])
RASTER = 60


@dataclass(frozen=True)
class CtfPicture:
    """What is drawn: frequencies in 1/Å, curves over them, the half-measured, half-fitted spectrum, and the surface.

    surface: coefficients slope x, slope y, bend xx, xy, yy in Å over u and v in [-1, 1]; size: height and width in Å;
    tilt: specimen tilt and axis in degrees; band_resolution: highest resolution of the fit in Å.
    """

    title: str
    frequency: np.ndarray
    profile: np.ndarray
    fit: np.ndarray
    correlation: np.ndarray
    spectrum: np.ndarray
    fit_resolution: float
    band_resolution: float
    surface: tuple[float, ...]
    mean_defocus: float
    size: tuple[float, float]
    tilt: tuple[float, float]


def draw_ctf(path: Path, picture: CtfPicture) -> None:
    """Spectrum (measured left, fitted right) and defocus map above, curves over 1/Å below."""
    figure, axes = new_figure(10.0, 8.0, rows=2, columns=2)
    figure.suptitle(picture.title, fontsize=9)
    _draw_spectrum(axes[0, 0], picture)
    _draw_surface(figure, axes[0, 1], picture)
    grid = axes[1, 0].get_gridspec()
    for axis in axes[1]:
        axis.remove()
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        curves = figure.add_subplot(grid[1, :])
    _draw_curves(curves, picture)
    save(figure, path)


def _draw_spectrum(axes: Axes, picture: CtfPicture) -> None:
    side = picture.spectrum.shape[1]
    reach = picture.frequency[-1] * (side / 2) / (side // 2 - 1)
    shown = picture.spectrum.copy()
    left = shown[:, : side // 2]
    scale = _radial_height(left, side)
    np.divide(left, 1.6 * scale, out=left)
    axes.imshow(shown, origin="lower", cmap="gray", vmin=-1, vmax=1, extent=(-reach, reach, -reach, reach), interpolation="antialiased")
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle) / picture.fit_resolution, np.sin(angle) / picture.fit_resolution, color=ORANGE, linewidth=1.0, linestyle="--")
    shown_to = min(1.15 / min(picture.fit_resolution, picture.band_resolution), reach)
    axes.set(xlim=(-shown_to, shown_to), ylim=(-shown_to, shown_to))
    axes.grid(visible=False)
    axes.set(xlabel="1/Å", ylabel="1/Å", title="Measured (left), fitted (right)")


def _radial_height(left: np.ndarray, side: int) -> np.ndarray:
    """Root mean square of the measured half around each radius, so that rings are seen as well far out as near the centre."""
    rows, columns = np.indices(left.shape)
    radius = np.hypot(rows - left.shape[0] // 2, columns - side // 2).round().astype(int)
    filled = left != 0
    power = np.bincount(radius[filled], left[filled] ** 2, radius.max() + 1) / np.maximum(
        np.bincount(radius[filled], minlength=radius.max() + 1), 1
    )
    index = np.arange(len(power))
    window = np.exp(-0.5 * ((index - index[:, None]) / 6.0) ** 2) * (power > 0)
    return np.sqrt((window @ power) / np.maximum(window.sum(axis=1), 1e-12)).clip(1e-6)[radius]


def _draw_surface(figure: Figure, axes: Axes, picture: CtfPicture) -> None:
    height, width = picture.size
    v, u = np.meshgrid(np.linspace(-1, 1, RASTER), np.linspace(-1, 1, RASTER), indexing="ij")
    a, b, c, d, e = picture.surface
    local = (picture.mean_defocus + a * u + b * v + c * (u * u - 1 / 3) + d * u * v + e * (v * v - 1 / 3)) / 1e4
    half = max(float(np.ptp(local)) / 2, 0.01)
    mean = picture.mean_defocus / 1e4
    image = axes.imshow(
        local,
        origin="lower",
        extent=(0, width / 10, 0, height / 10),
        cmap="viridis",
        vmin=mean - half,
        vmax=mean + half,
        interpolation="bilinear",
    )
    if np.ptp(local) > 0:
        lines = axes.contour(u * width / 20 + width / 20, v * height / 20 + height / 20, local, levels=6, colors="white", linewidths=0.7)
        axes.clabel(lines, fmt="%.3f", fontsize=7)
    figure.colorbar(image, ax=axes, label="defocus (µm)", shrink=0.85)
    axes.grid(visible=False)
    flat = not any(picture.surface)
    title = "Defocus: no tilt found" if flat else f"Defocus: tilt {picture.tilt[0]:.1f}° about an axis at {picture.tilt[1]:.0f}°"
    axes.set(xlabel="nm", ylabel="nm", title=title)


def _draw_curves(axes: Axes, picture: CtfPicture) -> None:
    envelope = _running_height(picture.profile)
    axes.axvspan(picture.frequency[0], 1 / picture.band_resolution, color=GREY, alpha=0.08, label="fitted band")
    axes.plot(picture.frequency, picture.profile / envelope, color=GREY, linewidth=1.0, label="measured rings")
    axes.plot(picture.frequency, picture.fit, color=BLUE, linewidth=0.9, alpha=0.8, label="fitted rings")
    axes.plot(picture.frequency, picture.correlation, color=GREEN, label="correlation")
    axes.axhline(0.3, color=GREEN, linewidth=0.8, linestyle=":")
    axes.axvline(1 / picture.fit_resolution, color=RED, linewidth=1.2, linestyle="--", label=f"rings to {picture.fit_resolution:.1f} Å")
    inside = TICKS[(picture.frequency[0] * 0.99 <= 1 / TICKS) & (picture.frequency[-1] * 1.01 >= 1 / TICKS)]
    axes.set_xticks(1 / inside, [f"{tick:g}" for tick in inside])
    axes.set(xlabel="resolution (Å)", ylim=(-2.6, 2.4), xlim=(picture.frequency[0], picture.frequency[-1]))
    axes.set_title("Rings without background, scaled to equal height")
    axes.legend(loc="lower left", ncols=5, fontsize=8)


def _running_height(profile: np.ndarray) -> np.ndarray:
    """Root mean square times sqrt(2) in a Gaussian window a thirtieth of the range wide."""
    index = np.arange(len(profile))
    window = np.exp(-0.5 * ((index - index[:, None]) / (len(profile) / 30)) ** 2)
    return np.sqrt(2 * (window @ profile**2) / window.sum(axis=1)).clip(1e-12)


def draw_local_defocus(path: Path, x_px: np.ndarray, y_px: np.ndarray, defocus: np.ndarray) -> None:
    """Places of one exposure, coloured by their mean defocus (Å)."""
    figure, axes = new_figure(5.6, 4.6)
    points = axes[0, 0].scatter(x_px, y_px, c=defocus / 1e4, s=14, cmap="viridis")
    figure.colorbar(points, ax=axes[0, 0], label="defocus (µm)")
    axes[0, 0].set(xlabel="column (px)", ylabel="row (px)", aspect="equal")
    save(figure, path)
