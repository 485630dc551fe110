"""How devices are divided between lanes: closed forms, and what is written for whom."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from firn.live import workers
from firn.live.points import Points
from firn.live.workers import LANES, divide, enforce, lanes_of, needed, plan_workers, seconds_per_movie

P, R, A = ("preprocess",), ("reconstruct",), ("auxiliary",)


@pytest.mark.parametrize(
    ("count", "needs", "division"),
    [
        (1, (0.5, 0.5, 0.1), {LANES: 1}),
        (2, (0.8, 0.6, 0.1), {P: 1, ("reconstruct", "auxiliary"): 1}),
        (2, (1.6, 0.9, 0.1), {P: 1, LANES: 1}),
        (3, (0.8, 0.9, 0.05), {P: 1, R: 1, A: 1}),
        (3, (1.6, 0.9, 0.05), {P: 2, ("reconstruct", "auxiliary"): 1}),
        (4, (1.6, 0.9, 0.05), {P: 2, R: 1, A: 1}),
        (8, (0.5, 0.2, 0.0), {P: 6, R: 1, A: 1}),
    ],
)
def test_devices_go_where_they_are_missed_most(count: int, needs: tuple[float, ...], division: dict[Any, int]) -> None:
    assert divide(count, dict(zip(LANES, needs, strict=True))) == division


def test_every_lane_has_a_device_and_every_device_a_lane() -> None:
    for count, load in itertools.product((1, 2, 3, 5), (0.0, 0.7, 4.0)):
        lanes = lanes_of(divide(count, dict.fromkeys(LANES, load)))
        assert all(lanes.values())
        assert sorted({number for numbers in lanes.values() for number in numbers}) == list(range(count))


def test_a_number_that_somebody_decided_is_kept() -> None:
    for wanted in (1, 2, 3, 4):
        assert len(lanes_of(divide(4, {"preprocess": 0.1, "reconstruct": 3.0}, wanted))["preprocess"]) == wanted
    assert len(lanes_of(divide(2, {}, 7))["preprocess"]) == 2


def test_without_a_solver_the_division_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise ImportError

    monkeypatch.setattr(workers, "_solved", fail)
    assert divide(1, {}) == {LANES: 1}
    assert divide(4, {}) == {P: 3, ("reconstruct", "auxiliary"): 1}
    assert len(lanes_of(divide(4, {}, 2))["preprocess"]) == 2
    assert all(lanes_of(divide(3, {}, 3)).values())


def test_needs_are_seconds_times_movies() -> None:
    done = {"role": "classify", "seconds": 900.0, "finished": 9000.0}
    old = {"role": "classify", "seconds": 900.0, "finished": 1.0}
    needs = needed(18.0, 300.0, 100, {"class2d": [old, done, done]}, 9100.0, 1)
    assert needs == {"preprocess": 2.0, "reconstruct": 0.5, "auxiliary": 0.05}
    assert needed(None, 300.0, 0, {}, 9100.0, 1) == {"preprocess": 0.0, "reconstruct": 0.0, "auxiliary": 0.0}


def test_time_per_movie_is_the_sum_of_the_stages_but_the_import() -> None:
    lines = [f"[1, 2, 'a', 0, '', {motion}, {pick}, 100]".replace("'", '"') for motion, pick in ((8, 1), (10, 2), (90, 3))]
    points = Points(["seconds_motion", "seconds_pick", "seconds_movies"], lines)
    assert seconds_per_movie(points, ["movies"]) == 12
    assert seconds_per_movie(Points([], []), []) is None


def test_the_plan_says_what_would_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "gpu_count", lambda: 2)
    plan = plan_workers(None, 18.0, 900.0, 0, {}, 0.0)
    assert (plan["workers"], plan["in_force"], plan["needs"]["preprocess"]) == (2, False, 4.5)
    assert plan["reason"].endswith("5 would keep up")


def test_a_lanes_file_of_somebody_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "gpu_count", lambda: 3)
    enforce(plan_workers(None, 18.0, 300.0, 0, {}, 0.0))
    assert not Path("lanes.yaml").exists()
    enforce(plan_workers(2, 18.0, 300.0, 0, {}, 0.0))
    assert yaml.safe_load(Path("lanes.yaml").read_text())["preprocess"] == [0, 1]
    enforce(plan_workers(1, 18.0, 300.0, 0, {}, 0.0))
    assert yaml.safe_load(Path("lanes.yaml").read_text()) == {"preprocess": [0], "reconstruct": [2], "auxiliary": [1]}
    Path("lanes.yaml").write_text("preprocess: [2]\n")
    enforce(plan_workers(2, 18.0, 300.0, 0, {}, 0.0))
    assert Path("lanes.yaml").read_text() == "preprocess: [2]\n"
