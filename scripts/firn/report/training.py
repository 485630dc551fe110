"""Figure of a network's training: the loss of its steps, and how well each epoch did on what was kept apart."""

from pathlib import Path

import numpy as np
import pandas as pd

from firn.report.style import BLUE, GREY, ORANGE, RED, new_figure, save

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
