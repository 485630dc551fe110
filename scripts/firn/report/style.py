"""The look of every figure: sizes, colours, grey stretch, scale bars; PNG without time stamps, so that reruns are identical."""

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#2b6cb0", "#dd7a1f", "#2f855a", "#c53030", "#718096"
RC: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.titlesize": 10, "legend.frameon": False, "lines.linewidth": 1.6, "figure.dpi": 120, "image.cmap": "gray",
}  # fmt: skip


def new_figure(width: float = 6.0, height: float = 4.0, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """(figure, axes `(rows, columns)`) in firn's style; sizes in inches."""
    with mpl.rc_context(RC):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a PNG and free the figure. Pictures of noise hardly pack: packing them harder takes five times as long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of(figure))


def png_of(figure: Figure) -> bytes:
    """A figure as a PNG; frees the figure."""
    written = BytesIO()
    figure.savefig(written, metadata={"Software": None}, pil_kwargs={"compress_level": 2})
    plt.close(figure)
    return written.getvalue()


def stretch(image: np.ndarray, low: float = 0.5, high: float = 99.5) -> np.ndarray:
    """Grey values in [0, 1] between two percentiles."""
    bottom, top = np.percentile(image, [low, high])
    return np.clip((image - bottom) / max(float(top - bottom), 1e-12), 0, 1)


def show_image(axes: Axes, image: np.ndarray, pixel_size: float | None = None, title: str = "") -> None:
    """Draw an image, row 0 at the bottom as RELION and IMOD do, with a scale bar when the pixel size (Å) is given."""
    axes.imshow(stretch(image), origin="lower", vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    if pixel_size:
        _scale_bar(axes, image.shape, pixel_size)


def _scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size: float) -> None:
    target = shape[1] * pixel_size / 5
    length = max(
        (value for power in range(-1, 6) for value in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if value <= target), default=target
    )
    text = f"{length / 10:g} nm" if length >= 100 else f"{length:g} Å"
    left, bottom = shape[1] * 0.04, shape[0] * 0.04
    axes.plot([left, left + length / pixel_size], [bottom, bottom], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(left, bottom + shape[0] * 0.015, text, color="white", fontsize=8, va="bottom")
