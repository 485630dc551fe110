"""The alarm for a lack of memory holds while a job that died of it is not done, and says what that job said."""

from pathlib import Path
from typing import Any

import pytest

from firn.live import layout
from firn.live.memory import memory_alarm
from firn.runtime.atomic import write_json, write_text

JOBS = {"movies": ["movies", "pre"]}
LACK = "out of memory: 12.50 GiB more were wanted of cuda:0, which has 1.0 of 11.0 GiB free; use a GPU with more"
LOG = f"2026-01-01 00:00:00,000 INFO begins\n2026-01-01 00:00:01,000 ERROR {LACK}\n"


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def entry(**what: Any) -> dict[str, Any]:
    return {"number": 2, "state": "open", "try": 1} | what


def test_a_batch_tells_until_it_is_done() -> None:
    write_text(layout.log_file("pre", "0003"), LOG)
    assert memory_alarm({"movies": {"0003": 0}}, JOBS, {}) == ""
    write_json(layout.failed_job_file("pre", "0003"), {"time": 1.0})
    assert memory_alarm({"movies": {"0003": 0}}, JOBS, {}) == f"Batch 0003 of pre is {LACK}"
    assert memory_alarm({"movies": {}}, JOBS, {}) == ""


def test_a_try_of_a_batch_tells_while_the_next_one_runs() -> None:
    write_text(layout.try_log("movies", "0003", 2), LOG)
    assert memory_alarm({"movies": {"0003": 3}}, JOBS, {}) == f"Batch movies/0003 is {LACK}"


@pytest.mark.parametrize(
    ("what", "told"), [({"try": 2}, True), ({"try": 3, "state": "failed"}, True), ({"try": 2, "state": "done"}, False)]
)
def test_a_round_tells_until_it_is_done(what: dict[str, Any], told: bool) -> None:
    write_text(layout.round_log("class2d", "0002", 1), "long ago\n" * 1000 + LOG)
    assert memory_alarm({}, JOBS, {"class2d": [entry(**what)]}) == (f"Round 2 of class2d is {LACK}" if told else "")


def test_other_ends_are_not_told() -> None:
    write_text(layout.round_log("class2d", "0002", 1), "ERROR classes differ in size\n")
    assert memory_alarm({}, JOBS, {"class2d": [entry()]}) == ""
