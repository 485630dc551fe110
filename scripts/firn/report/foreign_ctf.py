"""Figure of a CTF fit that another program made: the spectrum beside its fit as that program draws it, and the curves that it tells."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from firn.formats.foreign_ctf import RingProfile
from firn.report.ctf import TICKS
from firn.report.style import BLUE, GREEN, GREY, RED, new_figure, save


def draw_foreign_fit(path: Path, title: str, spectrum: np.ndarray, resolution: float, curves: RingProfile | None) -> None:
    """spectrum: picture `(y, x)`, or the first of several, whose halves are data and fit; resolution: Å to which rings are seen."""
    figure, axes = new_figure(10.0 if curves else 5.0, 4.6, columns=2 if curves else 1)
    figure.suptitle(title, fontsize=9)
    picture = spectrum if spectrum.ndim == 2 else spectrum[0]
    low, high = np.percentile(picture[np.isfinite(picture)], (1, 99)) if np.isfinite(picture).any() else (0, 1)
    axes[0, 0].imshow(picture, origin="lower", cmap="gray", vmin=low, vmax=high)
    axes[0, 0].set_title("Spectrum and fit, as the program draws them")
    axes[0, 0].set_axis_off()
    if curves:
        _draw_curves(axes[0, 1], curves, resolution)
    save(figure, path)


def _draw_curves(axes: Axes, curves: RingProfile, resolution: float) -> None:
    for values, colour, label in (
        (curves.profile, GREY, "measured rings"),
        (curves.fit, BLUE, "fitted rings"),
        (curves.correlation, GREEN, "correlation"),
    ):
        axes.plot(curves.frequency, values, color=colour, linewidth=1.0, label=label)
    if math.isfinite(resolution):
        axes.axvline(1 / resolution, color=RED, linewidth=1.2, linestyle="--", label=f"rings to {resolution:.1f} Å")
    last = float(curves.frequency[-1])
    shown = TICKS[last * 1.01 >= 1 / TICKS]
    axes.set_xticks(1 / shown, [f"{tick:g}" for tick in shown])
    axes.set(xlabel="resolution (Å)", xlim=(1 / TICKS[0], last), ylim=(-0.2, 1.3))
    axes.set_title("Averages along the rings")
    axes.legend(fontsize=8, loc="upper right")
