"""Figures of maps: central slices, masks upon them, shaded surfaces."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import ndimage, signal

from firn.report.style import ORANGE, new_figure, save, show_image

VIEW_PX = 160
SPECK = 0.02
"""Pieces smaller than this part of the largest are not drawn."""
AXES = ("z", "y", "x")


def draw_slices(path: Path, volume: np.ndarray, pixel_size: float, mask: np.ndarray | None = None) -> None:
    """Central slices of a map `(n, n, n)` across z, y and x; the mask is outlined where it is one half."""
    figure, axes = new_figure(9.0, 3.3, columns=3)
    low, high = np.percentile(volume, [0.5, 99.8])
    for axis, panel in enumerate(axes[0]):
        middle = volume.shape[axis] // 2
        show_image(panel, np.clip(np.take(volume, middle, axis), low, high), pixel_size, f"slice across {AXES[axis]}")
        if mask is not None:
            _outline(panel, np.take(mask, middle, axis))
    save(figure, path)


def draw_slice_pairs(path: Path, first: np.ndarray, second: np.ndarray, pixel_size: float, names: tuple[str, str]) -> None:
    """Central slices of two maps of one shape, one above the other."""
    figure, axes = new_figure(9.0, 6.4, rows=2, columns=3)
    for row, (volume, name) in enumerate(zip((first, second), names, strict=True)):
        for axis, panel in enumerate(axes[row]):
            show_image(panel, np.take(volume, volume.shape[axis] // 2, axis), pixel_size, f"{name}, across {AXES[axis]}")
    save(figure, path)


def draw_surfaces(path: Path, volume: np.ndarray, level: float) -> None:
    """The surface at a density level, seen along z, y and x."""
    part = _cropped(without_specks(volume, level), level)
    figure, axes = new_figure(9.0, 3.3, columns=3)
    for axis, panel in enumerate(axes[0]):
        panel.imshow(surface_image(part, level, axis), origin="lower", interpolation="bilinear")
        panel.set_axis_off()
        panel.set_title(f"seen along {AXES[axis]}")
    save(figure, path)


def surface_image(volume: np.ndarray, level: float, axis: int = 0, colours: np.ndarray | None = None) -> np.ndarray:
    """Shaded picture `(rows, columns, 4)` of the surface at a level, seen from the far end of an axis; clear where there is none.

    The first crossing along each line of sight, with the density's gradient as its normal, lit from above the viewer's left.
    colours: of the surface by voxel `(n, n, n, 3)`; one colour for all when None.
    """
    lines = np.moveaxis(volume, axis, 0)[::-1]
    solid = np.asarray(lines > level)
    depth, hit = solid.argmax(0), np.asarray(solid.any(0))
    rows, columns = np.indices(depth.shape)
    gradient = np.stack([ndimage.sobel(lines, direction)[depth, rows, columns] for direction in range(3)])
    normal = -gradient / np.maximum(np.linalg.norm(gradient, axis=0), 1e-12)
    light = np.array([-0.75, 0.45, -0.48])
    diffuse = np.clip(np.tensordot(light / np.linalg.norm(light), normal, 1), 0, 1)
    nearness = 1 - 0.45 * (depth - depth[hit].min()) / max(np.ptp(depth[hit]), 1) if hit.any() else np.ones(depth.shape)
    shade = np.clip((0.25 + 0.75 * diffuse) * nearness, 0, 1)[..., None]
    paint = np.array([0.62, 0.78, 0.95]) if colours is None else np.moveaxis(colours, axis, 0)[::-1][depth, rows, columns]
    colour = np.clip(shade * paint + (0.35 if colours is None else 0.1) * shade**4, 0, 1)
    return np.concatenate((colour, hit[..., None].astype(float)), axis=-1)


def surface_level(volume: np.ndarray, mask: np.ndarray | None = None) -> float:
    """A density level that shows the molecule: the 70th percentile inside the mask, or the 98th of the whole box."""
    if mask is None or not (mask > 0.5).any():
        return float(np.percentile(volume, 98))
    return float(np.percentile(volume[mask > 0.5], 70))


def without_specks(volume: np.ndarray, level: float) -> np.ndarray:
    """The map with pieces above the level that are smaller than SPECK of the largest taken below it."""
    labels, count = ndimage.label(volume > level)
    if count < 2:
        return volume
    sizes = np.bincount(labels.reshape(-1))
    specks = np.flatnonzero(sizes < SPECK * sizes[1:].max())
    return np.where(np.isin(labels, specks[specks > 0]), level - abs(level), volume)


def _cropped(volume: np.ndarray, level: float) -> np.ndarray:
    """The part with density above the level, with a margin, resampled to VIEW_PX along its longest side."""
    spans = ndimage.find_objects((volume > level).astype(np.int8))
    if not spans:
        return volume
    longest = max(span.stop - span.start for span in spans[0])
    reach = longest // 2 + 3
    centres = [(span.start + span.stop) // 2 for span in spans[0]]
    part = volume[tuple(slice(max(centre - reach, 0), centre + reach) for centre in centres)]
    scale = VIEW_PX / max(part.shape)
    for axis, size in enumerate(part.shape):
        part = signal.resample(part, round(size * scale), axis=axis)
    return part


def _outline(panel: Axes, mask: np.ndarray) -> None:
    if mask.min() < 0.5 < mask.max():
        panel.contour(mask, levels=[0.5], colors=[ORANGE], linewidths=1.2)
