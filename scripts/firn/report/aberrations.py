"""Figure of the phase errors that an optics group's images share, as measured and as fitted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from firn.report.style import new_figure, save

SMOOTHING = 1.5
"""Points over which the measured picture is averaged (standard deviation)."""


@dataclass(frozen=True)
class Panel:
    """Of one group, at the points of a half plane: complex numbers with the measured phase, and the fitted phase in rad."""

    title: str
    measured: np.ndarray
    fitted: np.ndarray


def draw_phases(path: Path, points: np.ndarray, panels: list[Panel], odd: bool) -> None:
    """Pairs of pictures in the plane of frequencies, in degrees; points `(m, 2)` yx in units of 1/n; odd: phases change sign through 0."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = new_figure(5.2 * columns, 2.7 * lines, rows=lines, columns=2 * columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, panel in enumerate(panels):
        measured, fitted = (_plane(points, values, odd) for values in (panel.measured, np.exp(1j * panel.fitted)))
        inside = np.abs(fitted) > 0
        smooth = gaussian_filter(measured.real, SMOOTHING) + 1j * gaussian_filter(measured.imag, SMOOTHING)
        seen = float(np.quantile(np.abs(np.degrees(np.angle(smooth[inside]))), 0.9))
        reach = min(180.0, max(15.0, seen, 1.3 * float(np.quantile(np.abs(np.degrees(panel.fitted)), 0.98))))
        pair = axes[number // columns, 2 * (number % columns) : 2 * (number % columns) + 2]
        for axis, values, name in zip(pair, (smooth, fitted), ("measured", "fitted"), strict=True):
            degrees = np.where(inside, np.degrees(np.angle(values)), np.nan)
            picture = axis.imshow(degrees, origin="lower", cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
            axis.set_title(name if name == "fitted" else f"{panel.title}\nmeasured", fontsize=9)
        figure.colorbar(picture, ax=list(pair), shrink=0.8, label="degrees")
    save(figure, path)


def _plane(points: np.ndarray, values: np.ndarray, odd: bool) -> np.ndarray:
    """The whole plane from values in half of it; zero elsewhere."""
    reach = int(np.abs(points).max())
    plane = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=complex)
    y, x = np.round(points).astype(int).T
    plane[reach - y, reach - x] = np.conj(values) if odd else values
    plane[reach + y, reach + x] = values
    return plane
