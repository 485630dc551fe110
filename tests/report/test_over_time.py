"""Exposures over time: a value stands as high in its row as in the distribution beside it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from firn.report.over_time import draw_over_time


@pytest.mark.parametrize("limit", [None, 6.0, 40.0])
def test_values_and_their_distribution_share_their_heights_wherever_the_limits_lie(limit: float | None) -> None:
    chance = np.random.default_rng(1)
    table = pd.DataFrame({"verdict": ["accepted", "rejected"] * 6, "ctf_fit_resolution": chance.normal(4, 1, 12), "picks": range(12)})
    figure = draw_over_time(table, {"ctf_fit_resolution": (None, limit)} if limit else {})
    rows = [figure.axes[place : place + 2] for place in range(0, len(figure.axes), 2)]
    assert len(rows) == 2
    for values, distribution in rows:
        np.testing.assert_allclose(values.get_ylim(), distribution.get_ylim())
    plt.close(figure)
