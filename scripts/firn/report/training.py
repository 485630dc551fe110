"""Figures of a network's training: the loss of its steps, how well each epoch did on what was kept apart, and each value of a parameter."""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.report.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save

SMOOTHED = 50
"""Points that the smoothed loss has, about."""


def draw_training(path: Path, curve: pd.DataFrame, chosen: int) -> None:
    """Loss over the epochs, and, where there are rows of test, the area under precision over recall; the chosen epoch is marked.

    curve: epoch (from 1), split (train or test), loss, auprc, in the order of the steps; steps without a finite loss are not drawn.
    """
    steps, tests = curve[curve["split"] == "train"], curve[curve["split"] == "test"]
    figure, axes = new_figure(9.0 if len(tests) else 5.0, 3.6, columns=2 if len(tests) else 1)
    within = steps.groupby("epoch").cumcount() / steps.groupby("epoch")["loss"].transform("size")
    told = np.isfinite(steps["loss"].to_numpy(dtype=float))
    place, loss = (steps["epoch"] - 1 + within).to_numpy()[told], steps["loss"].to_numpy(dtype=float)[told]
    axes[0, 0].plot(place, loss, color=GREY, linewidth=0.5, alpha=0.6, label="each step")
    width = max(1, len(loss) // SMOOTHED)
    parts = [part for part in np.array_split(np.arange(len(loss)), max(1, len(loss) // width)) if len(part)]
    axes[0, 0].plot([place[part].mean() for part in parts], [loss[part].mean() for part in parts], color=BLUE, label="mean")
    axes[0, 0].set(xlabel="epochs", ylabel="loss")
    axes[0, 0].axvline(chosen, color=RED)
    axes[0, 0].legend()
    if len(tests):
        axes[0, 1].plot(tests["epoch"], tests["auprc"], "o-", color=ORANGE)
        axes[0, 1].axvline(chosen, color=RED)
        axes[0, 1].set(xlabel="epoch", ylabel="area under precision over recall", title=f"epoch {chosen} chosen")
        axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def draw_cross_validation(path: Path, told: pd.DataFrame, name: str, chosen: tuple[float, int]) -> None:
    """Areas under precision over recall of the folds against the values of a parameter, and their means over the epochs.

    told: value, fold, epoch, auprc; chosen: (value, epoch), marked. Values lie at equal distances, since they may span decades.
    """
    figure, axes = new_figure(9.0, 3.6, columns=2)
    values = sorted(set(told["value"]))
    means = told.groupby(["value", "epoch"])["auprc"].mean().unstack("value")
    best = {value: means[value].idxmax() for value in values if means[value].notna().any()}
    for value, epoch in best.items():
        areas = told[(told["value"] == value) & (told["epoch"] == epoch)]["auprc"]
        axes[0, 0].plot(
            [values.index(value)] * len(areas), areas, "o", color=GREY, markersize=3.5, label="a fold" if value == values[0] else None
        )
    axes[0, 0].plot(
        [values.index(value) for value in best], [means[value][epoch] for value, epoch in best.items()], "o-", color=BLUE, label="mean"
    )
    axes[0, 0].axvline(values.index(chosen[0]), color=RED)
    axes[0, 0].set(
        xlabel=name, ylabel="area under precision over recall", xticks=range(len(values)), xticklabels=[f"{value:g}" for value in values]
    )
    axes[0, 0].legend()
    shades = (GREY, BLUE, GREEN, ORANGE)
    for number, value in enumerate(values):
        dash = ("-", "--", ":")[number // len(shades) % 3]
        axes[0, 1].plot(
            means.index, means[value], marker="o", markersize=3, linestyle=dash, color=shades[number % len(shades)], label=f"{value:g}"
        )
    axes[0, 1].axvline(chosen[1], color=RED)
    axes[0, 1].set(xlabel="epoch", ylabel="mean over the folds")
    axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 1].legend(title=name)
    save(figure, path)
