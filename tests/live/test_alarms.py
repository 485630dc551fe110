"""Alarms come once and go once, and say what is wrong with numbers."""

from dataclasses import replace
from itertools import pairwise

import pytest

from firn.live.alarms import Facts, failure_share, find_alarms, hours_until_full, news, sample
from firn.live.control import Alarms

CALM = Facts(now=10_000.0, collecting=True, last_found=9_900.0, recent=(), disk=((10_000.0, 1e12),), tries={})


def test_a_calm_session_raises_nothing() -> None:
    assert find_alarms(CALM, Alarms()) == {}


@pytest.mark.parametrize(
    ("facts", "key", "says"),
    [
        (replace(CALM, last_found=10_000 - 11 * 60), "no_new_files", "11 minutes"),
        (replace(CALM, recent=((1.0, 40, 0), (2.0, 7, 3))), "failures", "3 of the last 50"),
        (replace(CALM, disk=((10_000.0, 3e9),)), "disk", "3.0 GB"),
        (replace(CALM, disk=((6_400.0, 200e9), (10_000.0, 100e9))), "disk_soon", "1.0 hours"),
        (replace(CALM, tries={"movies/0004": 3}), "stuck", "movies/0004"),
        (replace(CALM, waits={"movies/0004": 3.0, "movies/0003": 17.0}), "not_started", "movies/0003 waits for 17 minutes"),
        (replace(CALM, control_fault="live/control.yaml: state: no"), "control", "last valid settings stay"),
    ],
    ids=["silence", "failures", "disk", "disk soon", "stuck", "not started", "control"],
)
def test_each_fault_raises_its_own_alarm(facts: Facts, key: str, says: str) -> None:
    found = find_alarms(facts, Alarms())
    assert list(found) == [key]
    assert says in found[key]


def test_silence_is_no_alarm_while_paused() -> None:
    assert find_alarms(replace(CALM, collecting=False, last_found=0.0), Alarms()) == {}


def test_only_the_last_exposures_count_for_failures() -> None:
    assert failure_share([(1.0, 0, 20), (2.0, 30, 0), (3.0, 30, 1)]) == (1, 61)


def test_a_few_failures_at_the_start_are_no_alarm() -> None:
    assert find_alarms(replace(CALM, recent=((1.0, 3, 1),)), Alarms()) == {}


def test_one_bad_movie_among_the_first_is_no_alarm() -> None:
    assert find_alarms(replace(CALM, recent=((1.0, 12, 1),)), Alarms()) == {}


def test_an_alarm_at_its_limit_does_not_come_and_go() -> None:
    recent = [(float(number), int(number % 17 > 0), int(number % 17 == 0)) for number in range(400)]
    active: dict[str, str] = {}
    came = 0
    for count in range(1, len(recent)):
        found = find_alarms(replace(CALM, recent=tuple(recent[:count]), active=active), Alarms())
        came += len(found.keys() - active.keys())
        active = found
    assert came == 1
    assert "failures" in active


def test_a_batch_that_was_started_a_while_ago_is_no_alarm() -> None:
    assert find_alarms(replace(CALM, waits={"movies/0003": 14.0}), Alarms()) == {}


def test_a_disk_that_is_not_filling_is_never_full() -> None:
    assert hours_until_full(((0.0, 5e9), (3600.0, 6e9))) == float("inf")
    assert hours_until_full(((0.0, 5e9),)) == float("inf")


def test_disk_samples_are_a_minute_apart_and_do_not_grow_without_end() -> None:
    samples: list[list[float]] = []
    for second in range(0, 20_000, 7):
        samples = sample(samples, float(second), 1e9)
    assert len(samples) <= 60
    gaps = [late[0] - early[0] for early, late in pairwise(samples[:-1])]
    assert min(gaps) >= 60
    assert samples[-1][0] == second


def test_news_are_what_came_and_what_went() -> None:
    told = news({"a": "old", "b": "stays"}, {"b": "stays", "c": "new"})
    assert {(entry["alarm"], entry["event"]) for entry in told} == {("c", "raised"), ("a", "cleared")}
