"""Numbers that get worse raise one alarm each, in words, and noise raises none."""

from collections.abc import Callable

import numpy as np
import pytest

from firn.live.points import Points, as_script
from firn.live.trends import attribute_alarms, backlog_alarm, dose_alarm, picks_alarm, resolution_alarm

HALF_HOUR = [(60.0 * minute, 0.0) for minute in range(31)]


def points(**columns: list[float]) -> Points:
    rows = zip(*columns.values(), strict=True)
    return Points(list(columns), [as_script([0, 0, "name", 0, "", *row]) for row in rows])


def raised(values: list[float], column: str) -> list[int]:
    """Exposures at which the alarm of a column came, while they came one by one."""
    active: dict[str, str] = {}
    came: list[int] = []
    for count in range(1, len(values) + 1):
        found = attribute_alarms(points(**{column: values[:count][-260:]}), active)
        came += [count] if column in found and column not in active else []
        active = found
    return came


@pytest.mark.parametrize(
    ("column", "before", "after", "says"),
    [
        ("ctf_fit_resolution", 3.8, 5.5, "CTF fit resolution is worse: 5.5 Å over the last 20 exposures, 3.8 Å before"),
        ("ice_ring_score", 1.0, 1.6, "Ice ring is worse: 1.6 over the last 20 exposures, 1 before"),
        ("motion_total", 10.0, 30.0, "Total motion is worse: 30 Å over the last 20 exposures, 10 Å before"),
    ],
)
def test_a_number_that_gets_worse_is_told_with_both_values(column: str, before: float, after: float, says: str):
    assert attribute_alarms(points(**{column: [before] * 60 + [after] * 20}), ()) == {column: says}


def test_a_number_that_gets_better_is_no_alarm():
    assert attribute_alarms(points(ctf_fit_resolution=[5.0] * 60 + [3.5] * 20), ()) == {}


def test_a_few_bad_exposures_are_no_alarm():
    assert attribute_alarms(points(motion_total=[10.0] * 60 + [80.0, 10.0] * 4 + [10.0] * 12), ()) == {}


def draw(seed: int) -> np.ndarray:
    return 3.5 + np.random.default_rng(seed).gamma(2.0, 0.3, size=1200)


@pytest.mark.parametrize("seed", range(3))
def test_noise_raises_no_alarm(seed: int):
    assert raised(draw(seed).tolist(), "ctf_fit_resolution") == []


@pytest.mark.parametrize("seed", range(3))
def test_a_step_raises_one_alarm_within_as_many_exposures_as_are_looked_at(seed: int):
    came = raised((draw(seed)[:600] + 1.2 * (np.arange(600) >= 300)).tolist(), "ctf_fit_resolution")
    assert len(came) == 1
    assert 300 < came[0] <= 320


def test_a_number_just_at_the_limit_does_not_come_and_go():
    generator = np.random.default_rng(11)
    values = 4 + 0.3 * generator.standard_normal(500) + 0.6 * (np.arange(500) >= 200)
    assert len(raised(values.tolist(), "ctf_fit_resolution")) <= 1


def test_next_to_no_picks_are_told():
    assert (
        picks_alarm([300] * 60 + [5] * 20, held=False) == "Next to nothing is picked: 5 picks per micrograph over the last 20, 300 before"
    )
    assert "0 picks" in picks_alarm([0] * 20, held=False)
    assert picks_alarm([300] * 60 + list(range(230, 250)), held=False) == ""


def test_a_dose_that_changes_by_a_tenth_is_told():
    doses = [1.0, 1.02] * 40
    assert dose_alarm([*doses, *[0.8] * 20], held=False).startswith(
        "The dose has changed by -21 %: 0.8 e/Å² are counted per frame, 1.01 before"
    )
    assert "+19 %" in dose_alarm([*doses, *[1.2] * 20], held=False)
    assert dose_alarm([*doses, *[0.93] * 20], held=False) == ""
    assert dose_alarm([*doses, *[0.93] * 20], held=True) != ""
    assert attribute_alarms(points(dose_counted=[*doses, *[0.5] * 20]), ()).keys() == {"dose"}


def test_picks_at_their_limit_are_told():
    assert "exactly 500 picks" in picks_alarm([500, 480] * 10, held=False)
    assert picks_alarm(list(range(480, 500)), held=False) == ""


@pytest.mark.parametrize(
    ("size", "alarm"),
    [
        (lambda time: 5 + time / 30, True),
        (lambda time: 40.0, False),
        (lambda time: 60 - time / 60, False),
        (lambda time: 8 * (time % 300 > 150), False),
    ],
    ids=["growing", "steady", "shrinking", "breathing"],
)
def test_only_a_backlog_that_grows_for_half_an_hour_is_told(size: Callable[[float], float], alarm: bool):
    samples = [(time, size(time)) for time, _ in HALF_HOUR]
    assert bool(backlog_alarm(samples, 300.0, 180.0, held=False)) is alarm
    assert backlog_alarm(samples[:20], 300.0, 180.0, held=False) == ""


def test_a_growing_backlog_tells_how_many_workers_would_keep_up():
    sentence = backlog_alarm([(time, time / 20) for time, _ in HALF_HOUR], 300.0, 200.0, held=False)
    assert "300 movies come per hour, 200 are finished; 0.5 times as many workers more" in sentence


def test_a_map_that_is_no_better_for_twice_the_particles_is_told():
    rounds = [{"particles": 1e4, "resolution": 4.0}, {"particles": 1.5e4, "resolution": 3.99}, {"particles": 2.1e4, "resolution": 3.98}]
    assert resolution_alarm(rounds) == "The map is no better for more particles: 3.98 Å from 21000, 4.00 Å from 10000 before"
    assert resolution_alarm(rounds[:2]) == ""
    assert resolution_alarm([*rounds[:2], {"particles": 2.1e4, "resolution": 3.8}]) == ""
