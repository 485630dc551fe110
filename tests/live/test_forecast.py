"""Forecasts give back the B-factor and the particles that a microscope's law was made with."""

import math

import numpy as np
import pytest

from firn.live.forecast import fit_line, forecast

COUNTS = [5e3, 1e4, 2e4, 4e4, 8e4]


def obeying(b_factor: float, first: float = 4.0, counts: list[float] = COUNTS) -> list[dict[str, float]]:
    """Rounds whose resolution follows ln N = B / (2 d²) + constant, the first at a given resolution."""
    return [{"particles": n, "resolution": (first**-2 + 2 / b_factor * math.log(n / counts[0])) ** -0.5} for n in counts]


@pytest.mark.parametrize("b_factor", [60.0, 150.0, 400.0])
def test_the_b_factor_of_rounds_that_obey_the_law_is_found(b_factor: float):
    found = forecast(obeying(b_factor), 1000.0)
    assert found is not None
    assert found["b_factor"] == pytest.approx(b_factor, abs=0.06)


def test_as_many_more_particles_as_told_bring_the_gain_that_is_told():
    rounds = obeying(150.0)
    found = forecast(rounds, 2000.0)
    assert found is not None
    for step in found["steps"]:
        total = rounds[-1]["particles"] + step["more_particles"]
        reached = (4.0**-2 + 2 / 150.0 * math.log(total / COUNTS[0])) ** -0.5
        assert reached == pytest.approx(rounds[-1]["resolution"] - step["gain"], rel=1e-6)
        assert step["hours"] == pytest.approx(step["more_particles"] / 2000.0, abs=0.006)


def test_the_error_of_the_slope_is_that_of_repeated_measurements():
    generator = np.random.default_rng(3)
    exact = np.array([entry["resolution"] for entry in obeying(150.0)]) ** -2
    fits = [fit_line(COUNTS, ((exact + 2e-4 * generator.standard_normal(5)) ** -0.5).tolist()) for _ in range(400)]
    told, true = np.sqrt(np.mean([fit.error**2 for fit in fits])), np.std([fit.slope for fit in fits])
    assert told == pytest.approx(true, rel=0.15)


def test_cheap_gains_say_collect_and_dear_ones_say_stop():
    easy, hard = forecast(obeying(60.0), 1000.0), forecast(obeying(1000.0), 1000.0)
    assert easy is not None
    assert hard is not None
    assert (easy["verdict"], hard["verdict"]) == ("collect", "stop")


def test_a_map_that_does_not_improve_says_that_something_else_is_wrong():
    rounds = [{"particles": n, "resolution": 4.0 + 0.02 * (-1) ** place} for place, n in enumerate(COUNTS)]
    found = forecast(rounds, 1000.0)
    assert found is not None
    assert found["verdict"] == "change"


def test_a_map_at_the_limit_of_its_pixels_says_so():
    rounds = obeying(60.0)
    found = forecast(rounds, 1000.0, pixel_size=rounds[-1]["resolution"] / 2.05)
    assert found is not None
    assert "pixels" in found["reason"]


def test_without_rounds_of_different_size_nothing_is_told():
    assert forecast(obeying(100.0)[:2], 1.0) is None
    assert forecast(obeying(100.0, counts=[1e4, 1.1e4, 1.2e4]), 1.0) is None


def test_no_time_is_told_when_nothing_comes():
    found = forecast(obeying(150.0), 0.0)
    assert found is not None
    assert [step["hours"] for step in found["steps"]] == [None, None]
