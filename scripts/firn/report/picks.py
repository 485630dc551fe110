"""Figures of picking and extraction: micrographs with their picks, score against power, montages of particles."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize, to_rgb
from scipy.ndimage import gaussian_filter

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save, show_image, stretch

SHOWN_PX = 700
TITLE_LETTERS = 40
MOSAIC_PX = 900
"""Side of a montage, about as many pixels as the figure has on the screen."""
BRIGHT = "#4ade80"
"""Green that stands out on grey."""
JUNK = (GREY, ORANGE, RED, BLUE, GREEN)
SMOOTH = 15.0
"""Å. Width (sd) of the blur that micrographs and particles are shown with is about a third of this."""


def draw_picks(path: Path, micrograph: np.ndarray, picks: pd.DataFrame, pixel_size: float) -> None:
    """A micrograph `(y, x)` with a circle of the particle's diameter around each pick, coloured by pick_score."""
    figure, axes = new_figure(7.0, 6.4)
    overlay(axes[0, 0], micrograph, picks, pixel_size, picks["pick_score"].to_numpy(dtype=float) if len(picks) else np.empty(0))
    colours = ScalarMappable(norm=Normalize(0, 1), cmap="viridis")
    figure.colorbar(colours, ax=axes[0, 0], label="normalised cross-correlation", shrink=0.7)
    axes[0, 0].set_title(f"{len(picks)} maxima")
    save(figure, path)


def draw_beside(path: Path, panels: list[tuple[str, np.ndarray]], pixel_size: float) -> None:
    """Micrographs `(y, x)` with titles side by side, no finer than the screen and not smoothed; pixel_size in Å."""
    figure, axes = new_figure(4.8 * len(panels), 4.9, columns=len(panels))
    for axis, (title, micrograph) in zip(axes[0], panels, strict=True):
        step = _step(micrograph)
        show_image(axis, np.nan_to_num(_binned(micrograph, step)), pixel_size * step, title)
    save(figure, path)


def draw_decisions(path: Path, panels: list[tuple[str, np.ndarray, pd.DataFrame]], pixel_size: float) -> None:
    """Micrographs side by side, kept picks green and refused ones red; each panel is (title, micrograph, picks with `kept`)."""
    figure, axes = new_figure(4.2 * len(panels), 4.9, columns=len(panels))
    for axis, (title, micrograph, picks) in zip(axes[0], panels, strict=True):
        overlay(axis, micrograph, picks[~picks["kept"]], pixel_size, RED)
        _circles(axis, picks[picks["kept"]], pixel_size, BRIGHT, _step(micrograph))
        axis.set_title(f"{_short(title)}\n{int(picks['kept'].sum())} of {len(picks)} kept")
    save(figure, path)


def _short(name: str) -> str:
    """A name that fits over a panel: its beginning and its end."""
    return name if len(name) <= TITLE_LETTERS else f"{name[: TITLE_LETTERS // 2]}…{name[-TITLE_LETTERS // 2 + 1 :]}"


def draw_thresholds(
    path: Path,
    score: np.ndarray,
    power: np.ndarray,
    kept: np.ndarray,
    limits: dict[str, float | None],
    line: tuple[float, float, float] | None,
) -> None:
    """Correlation against local power of all picks with the limits, and the distribution of the correlation.

    line: (a, b, c) of the limit a score + b ln(power) >= c.
    """
    figure, axes = new_figure(9.0, 4.2, columns=2)
    level = np.log10(np.maximum(power, 1e-12))
    low, high = np.percentile(level, [0.2, 99.8])
    span = (float(low) - 0.1, float(high) + 0.1)
    axes[0, 0].hist2d(score, level, bins=80, range=[(float(score.min()), float(score.max()) + 1e-6), span], cmap="Blues", norm="symlog")
    axes[0, 0].set(xlabel="normalised cross-correlation", ylabel="log10 local power (noise = 0)", title="All picks")
    axes[0, 0].grid(False)
    _limits(axes[0, 0], limits, line)
    bins = np.linspace(float(score.min()), float(score.max()) + 1e-6, 70)
    axes[0, 1].hist([score[kept], score[~kept]], bins=bins, stacked=True, color=[BLUE, GREY], label=["kept", "refused"])
    axes[0, 1].set(xlabel="normalised cross-correlation", ylabel="picks", title=f"{int(kept.sum())} of {len(kept)} picks kept")
    axes[0, 1].legend()
    save(figure, path)


def draw_scale(
    path: Path,
    separated: dict[float, float] | None,
    matched: dict[float, float],
    found: float,
    profiles: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Over the diameter (Å): how well blobs tell particles from noise (if tried), how well they match; the average pick beside the ball.

    profiles: distances from the centre (Å), profile of the average pick, profile of the ball.
    """
    figure, axes = new_figure(10.0, 3.4, columns=3 if separated else 2)
    panels = [(separated, "separation of particles and noise"), (matched, "mean correlation with the particles")]
    for axis, (merits, label) in zip(axes[0], [panel for panel in panels if panel[0]], strict=False):
        diameters = np.array(list(merits or {}))
        axis.plot(diameters, list((merits or {}).values()), "o-", color=BLUE)
        axis.set(xscale="log", xlabel="diameter (Å)", ylabel=label)
        axis.axvline(found, color=RED)
        shown = diameters[:: max(1, len(diameters) // 5)]
        axis.set_xticks(shown, [f"{diameter:.0f}" for diameter in shown])
        axis.minorticks_off()
        axis.set_title(f"{found:.0f} Å" if merits is matched else "")
    last = axes[0, -1]
    last.plot(profiles[0], profiles[1], "o-", color=BLUE, label="average pick")
    last.plot(profiles[0], profiles[2], color=ORANGE, label="ball")
    last.set(xlabel="distance from the centre (Å)", ylabel="density")
    last.legend()
    save(figure, path)


def draw_counts(path: Path, counts: np.ndarray, odd: np.ndarray) -> None:
    """Picks kept in each exposure, in order; those far from the rest are marked."""
    figure, axes = new_figure(7.0, 3.2)
    place = np.arange(1, len(counts) + 1)
    axes[0, 0].bar(place, counts, color=np.where(odd, ORANGE, BLUE))
    axes[0, 0].axhline(float(np.median(counts)), color=GREY, linestyle="--")
    axes[0, 0].set(xlabel="exposure", ylabel="picks kept", title="Picks in each exposure (dashed: median; orange: far from it)")
    save(figure, path)


def draw_montage(path: Path, images: np.ndarray, pixel_size: float) -> None:
    """Up to 64 particles `(n, y, x)`, smoothed for the eye and no finer than the screen, each grey-scaled by itself."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = int(np.ceil(len(images) / columns))
    step = max(1, images.shape[-1] * columns // MOSAIC_PX)
    images, pixel_size = np.stack([_binned(image, step) for image in images]), pixel_size * step
    side = images.shape[-1]
    gap = max(1, side // 32)
    mosaic = np.ones((rows * (side + gap) - gap, columns * (side + gap) - gap), dtype=np.float32)
    for number, image in enumerate(images):
        top, left = (rows - 1 - number // columns) * (side + gap), number % columns * (side + gap)
        blurred = gaussian_filter(image, max(SMOOTH / 3 / pixel_size, 0.5))
        mosaic[top : top + side, left : left + side] = stretch(blurred)
    figure, axes = new_figure(7.0, 7.0 * rows / columns)
    show_image(axes[0, 0], mosaic, pixel_size)
    save(figure, path)


def draw_distances(path: Path, nearest: np.ndarray, distance: float, limit: float) -> None:
    """Histogram of distances (Å) to the nearest neighbour, up to a limit, with the distance of duplicates."""
    figure, axes = new_figure(6.0, 3.4)
    axes[0, 0].hist(nearest[np.isfinite(nearest)], bins=np.linspace(0, limit, 81), color=BLUE)
    axes[0, 0].axvline(distance, color=RED)
    axes[0, 0].set(xlabel="distance to the nearest neighbour (Å)", ylabel="particles")
    save(figure, path)


def overlay(axis: Axes, micrograph: np.ndarray, picks: pd.DataFrame, pixel_size: float, colour: np.ndarray | str) -> None:
    """Draw a micrograph `(y, x)` with a scale bar and a circle of the particle's diameter at each pick; pixel_size in Å."""
    small, step = _small(micrograph, pixel_size)
    show_image(axis, small, pixel_size * step)
    _circles(axis, picks, pixel_size, colour, step)


def _small(micrograph: np.ndarray, pixel_size: float) -> tuple[np.ndarray, int]:
    """(micrograph binned and smoothed for the eye, pixels per pixel)."""
    step = _step(micrograph)
    small = _binned(micrograph, step)
    return gaussian_filter(np.nan_to_num(small), max(SMOOTH / 3 / (pixel_size * step), 0.3)), step


def _binned(image: np.ndarray, step: int) -> np.ndarray:
    """Means of squares of `step` pixels, float32; what is left over at the far edges is left out."""
    height, width = image.shape[0] // step, image.shape[1] // step
    return image[: height * step, : width * step].astype(np.float32).reshape(height, step, width, step).mean((1, 3))


def _circles(axis: Axes, picks: pd.DataFrame, pixel_size: float, colour: np.ndarray | str, step: int) -> None:
    if picks.empty:
        return
    size = picks["diameter"].to_numpy(dtype=float) / (pixel_size * step)
    places = (picks[["x_px", "y_px"]].to_numpy(dtype=float) + 0.5) / step - 0.5
    circles = EllipseCollection(
        size, size, np.zeros(len(size)), units="xy", offsets=places, transOffset=axis.transData, facecolors="none", linewidths=1.0
    )
    if isinstance(colour, str):
        circles.set_edgecolor(colour)
    else:
        circles.set(array=colour, norm=Normalize(0, 1), cmap="viridis")
    axis.add_collection(circles)


def _step(micrograph: np.ndarray) -> int:
    return max(1, round(max(micrograph.shape) / SHOWN_PX))


def _limits(axis: Axes, limits: dict[str, float | None], line: tuple[float, float, float] | None) -> None:
    across, along = axis.get_xlim(), np.array(axis.get_ylim())
    if limits.get("min_ncc") is not None:
        axis.axvline(float(limits["min_ncc"] or 0), color=RED)
    if line is not None:
        per_score, per_log_power, least = line[0], line[1] * np.log(10), line[2]
        ends = np.array(across), along
        upright = per_score * np.ptp(ends[0]) > per_log_power * np.ptp(ends[1])
        x = (least - per_log_power * ends[1]) / per_score if upright else ends[0]
        y = ends[1] if upright else (least - per_score * ends[0]) / per_log_power
        axis.plot(x, y, color=RED)
    for power in (limits.get("min_power"), limits.get("max_power")):
        if power is not None and power > 0:
            axis.axhline(float(np.log10(power)), color=RED)
    axis.set_xlim(across)
    axis.set_ylim(along[0], along[1])


def draw_junk(path: Path, micrograph: np.ndarray, kinds: np.ndarray, names: tuple[str, ...], pixel_size: float) -> None:
    """A micrograph `(y, x)` with its junk in colour; kinds `(y, x)`, at any sampling, are indices of names, 0 is good."""
    figure, axes = new_figure(7.0, 6.4)
    small, step = _small(micrograph, pixel_size)
    show_image(axes[0, 0], small, pixel_size * step)
    rows, columns = (np.arange(side) * shape // side for side, shape in zip(small.shape, kinds.shape, strict=True))
    seen = kinds[rows][:, columns]
    for number, name in enumerate(names[1:], 1):
        colour = to_rgb(JUNK[(number - 1) % len(JUNK)])
        axes[0, 0].imshow(np.dstack([*(np.full(seen.shape, part) for part in colour), 0.5 * (seen == number)]), origin="lower")
        axes[0, 0].plot([], [], "s", color=colour, label=f"{name.replace('_', ' ')} {100 * (kinds == number).mean():.1f} %")
    axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes[0, 0].set_title(f"{100 * (kinds != 0).mean():.1f} % is no place for particles")
    save(figure, path)
