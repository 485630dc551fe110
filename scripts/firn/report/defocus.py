"""Figure of per-particle defocus refinement."""

from pathlib import Path

import numpy as np

from firn.report.style import BLUE, ORANGE, new_figure, save


def draw_offsets(path: Path, offsets: np.ndarray, errors: np.ndarray) -> None:
    """Histograms of the change of defocus and of its standard error, in Å."""
    figure, axes = new_figure(8.0, 3.2, columns=2)
    reach = max(float(np.abs(offsets).max()), 10.0)
    axes[0, 0].hist(offsets, bins=np.linspace(-reach, reach, 61), color=BLUE)
    axes[0, 0].set(xlabel="change of defocus (Å)", ylabel="particles")
    axes[0, 1].hist(errors, bins=np.linspace(0, max(float(np.quantile(errors, 0.99)), 1.0), 41), color=ORANGE)
    axes[0, 1].set(xlabel="standard error (Å)", ylabel="particles")
    save(figure, path)
