"""Figures of sets and subsets of particles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from firn.report.style import BLUE, GREY, ORANGE, new_figure, save


def draw_overlap(path: Path, names: Sequence[str], overlaps: Mapping[tuple[bool, ...], int], result: int) -> None:
    """Number of particles by the sets they are in, largest first, above dots that say which sets; the result's number as a line."""
    ordered = sorted(overlaps.items(), key=lambda item: -item[1])
    places = np.arange(len(ordered))
    figure, axes = new_figure(max(4.0, 1.8 + 0.9 * len(ordered)), 3.0 + 0.35 * len(names), rows=2, columns=1)
    bars, dots = axes[:, 0]
    drawn = bars.bar(places, [count for _, count in ordered], color=BLUE, width=0.6)
    bars.bar_label(drawn, fmt="{:,.0f}", fontsize=8)
    bars.axhline(result, color=ORANGE, linestyle="--", linewidth=1.2)
    bars.annotate(
        f"result: {result:,}", (1, result), (0, 3), ("axes fraction", "data"), "offset points", color=ORANGE, ha="right", fontsize=8
    )
    bars.set(ylabel="particles", xticks=[], ylim=(0, 1.15 * max(result, *(count for _, count in ordered))))
    for row in range(len(names)):
        inside = np.array([pattern[row] for pattern, _ in ordered])
        dots.scatter(places, np.full(len(places), -row), color=np.where(inside, BLUE, "#e2e8f0"), s=70)
    dots.set(yticks=-np.arange(len(names)), yticklabels=names, xticks=[], ylim=(0.6 - len(names), 0.6), xlim=bars.get_xlim())
    dots.spines[["left", "bottom"]].set_visible(False)
    dots.grid(visible=False)
    save(figure, path)


def draw_chosen(path: Path, values: np.ndarray, chosen: np.ndarray, label: str, limits: tuple[float | None, float | None]) -> None:
    """Histogram of a column for all and for the chosen particles; limits as lines."""
    figure, axes = new_figure(6.4, 3.4)
    panel = axes[0, 0]
    finite = values[np.isfinite(values)]
    low, high = (float(value) for value in np.percentile(finite, [0.1, 99.9])) if len(finite) else (0.0, 0.0)
    edges = np.linspace(low, high, 61) if high > low else np.linspace(low - 0.5, low + 0.5, 3)
    panel.hist(values, bins=list(edges), color=GREY, alpha=0.45, label=f"all: {len(values):,}")
    panel.hist(values[chosen], bins=list(edges), color=BLUE, alpha=0.8, label=f"chosen: {int(chosen.sum()):,}")
    for limit in limits:
        if limit is not None:
            panel.axvline(limit, color=ORANGE, linewidth=1.4)
    panel.set(xlabel=label, ylabel="particles")
    panel.legend()
    save(figure, path)
