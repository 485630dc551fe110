"""The figure of a training: drawn with and without micrographs kept apart, and with steps that have no loss."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from firn.report import training
from firn.report.training import draw_training


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[plt.Figure]:
    """Figures that would be saved."""
    figures: list[plt.Figure] = []
    monkeypatch.setattr(training, "save", lambda figure, path: figures.append(figure))
    return figures


def curve(tested: bool) -> pd.DataFrame:
    steps = pd.DataFrame({"epoch": np.repeat([1, 2], 100), "split": "train", "loss": np.repeat([4.0, 2.0], 100), "auprc": np.nan})
    steps.loc[[3, 150], "loss"] = [np.nan, np.inf]
    tests = pd.DataFrame({"epoch": [1, 2], "split": "test", "loss": 1.0, "auprc": [0.3, 0.2]})
    return pd.concat([steps, tests], ignore_index=True) if tested else steps


def test_steps_without_a_finite_loss_leave_no_gap_in_its_mean(drawn: list[plt.Figure]) -> None:
    draw_training(Path("x.png"), curve(tested=True), 1)
    mean = drawn[0].axes[0].lines[1].get_ydata()
    assert np.isfinite(mean).all()
    assert (mean[0], mean[-1]) == (4.0, 2.0)
    assert drawn[0].axes[1].lines[0].get_ydata().tolist() == [0.3, 0.2]
    assert drawn[0].axes[1].get_title() == "epoch 1 chosen"
    plt.close("all")


def test_without_a_test_there_is_one_panel(drawn: list[plt.Figure]) -> None:
    draw_training(Path("x.png"), curve(tested=False), 2)
    assert len(drawn[0].axes) == 1
    plt.close("all")
