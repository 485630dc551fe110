"""Figures of local resolution: coloured slices, coloured surfaces, and the histogram."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from scipy import ndimage

from firn.report.style import BLUE, ORANGE, new_figure, save, stretch
from firn.report.volumes import AXES, VIEW_PX, surface_image, without_specks

COLOURS = "Spectral_r"
SMOOTH_PX = 0.8


def draw_coloured_slices(path: Path, volume: np.ndarray, resolution: np.ndarray, mask: np.ndarray, limits: tuple[float, float]) -> None:
    """Central slices of a map across z, y and x; inside the mask coloured by resolution (Å) between limits, outside grey."""
    figure, axes = new_figure(9.6, 3.3, columns=3)
    norm = Normalize(*limits)
    for axis, panel in enumerate(axes[0]):
        middle = volume.shape[axis] // 2
        grey, local, inside = (np.take(array, middle, axis) for array in (volume, resolution, mask))
        light = stretch(grey)[..., None]
        coloured = colormaps[COLOURS](norm(local))[..., :3] * (0.35 + 0.65 * light)
        share = np.clip(inside, 0, 1)[..., None]
        panel.imshow(share * coloured + (1 - share) * light * 0.6, origin="lower", interpolation="nearest")
        panel.set_axis_off()
        panel.set_title(f"slice across {AXES[axis]}")
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label="local resolution (Å)", shrink=0.85)
    save(figure, path)


def draw_coloured_surfaces(path: Path, volume: np.ndarray, resolution: np.ndarray, level: float, limits: tuple[float, float]) -> None:
    """The surface at a density level seen along z, y and x, coloured by resolution (Å) between limits."""
    volume = without_specks(volume, level)
    spans = ndimage.find_objects((volume > level).astype(np.int8))
    part = tuple(slice(max(span.start - 3, 0), span.stop + 3) for span in spans[0]) if spans else (slice(None),) * 3
    scale = VIEW_PX / max(size.stop - size.start for size in part) if spans else 1.0
    dense = ndimage.gaussian_filter(ndimage.zoom(volume[part], scale, order=3), SMOOTH_PX)
    norm = Normalize(*limits)
    colours = colormaps[COLOURS](norm(ndimage.zoom(resolution[part], scale, order=1)))[..., :3]
    figure, axes = new_figure(9.6, 3.3, columns=3)
    for axis, panel in enumerate(axes[0]):
        panel.imshow(surface_image(dense, level, axis, colours), origin="lower", interpolation="bilinear")
        panel.set_axis_off()
        panel.set_title(f"seen along {AXES[axis]}")
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label="local resolution (Å)", shrink=0.85)
    save(figure, path)


def draw_resolutions(path: Path, inside: np.ndarray, median: float, overall: float) -> None:
    """Histogram of local resolutions (Å) within the mask, their median, and the resolution of the whole map."""
    figure, axes = new_figure(6.0, 3.2)
    panel = axes[0, 0]
    low, high = float(inside.min()), float(inside.max())
    panel.hist(inside, bins=60, range=(low, max(high, 1.01 * low)), weights=np.full(len(inside), 100 / len(inside)), color=BLUE)
    panel.axvline(median, color=ORANGE, label=f"median {median:.2f} Å")
    panel.axvline(overall, color="black", linestyle="--", linewidth=1, label=f"whole map {overall:.2f} Å")
    panel.set(xlabel="local resolution (Å)", ylabel="voxels in the mask (%)")
    panel.legend()
    save(figure, path)
