"""Each exposure of the table is read once, and the lines are those of the whole table whatever happens between."""

import json
from pathlib import Path
from typing import Any

import pytest

from firn.live import layout, points
from firn.live.exposures import Row, append_exposures, write_exposures


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(number: int, verdict: str = "accepted", **numbers: float) -> Row:
    told = {"time_found": 1e9 + number, "time_ready": 1e9 + number + 60.5, "defocus": 12345.678 + number, "seconds_ctf": 1.5} | numbers
    outcome: dict[str, Any] = {"exposure_id": f"e{number}", "movie": f"raw/a b/{number}, odd.tif", "numbers": told}
    return Row("movies", "0001", outcome, verdict, "" if verdict == "accepted" else "motion_total 50 is above 40")


def read_anew() -> points.Points:
    points.forget_points()
    return points.read_points()


def test_lines_hold_times_name_verdict_reason_and_numbers():
    write_exposures([row(1), row(2, "rejected")])
    found = points.read_points()
    assert found.columns == ["defocus", "seconds_ctf"]
    assert json.loads(found.lines[1]) == [
        1000000002, 1000000062.5, "2, odd", 1, "motion_total 50 is above 40", 12348, 1.5,
    ]  # fmt: skip
    assert found.last("defocus", 2) == [12347, 12348]
    assert found.last("picks", 2) == []


def test_appended_exposures_are_added_to_those_read_before():
    write_exposures([row(number) for number in range(5)])
    first = points.read_points()
    points.POINTS.write_text(points.POINTS.read_text().replace('"0, odd"', '"as it was read"'))
    assert append_exposures([row(5), row(6, "failed")])
    found = points.read_points()
    assert "as it was read" in found.lines[0]
    assert (first.lines[1:], found.lines[1:]) == (read_anew().lines[1:5], read_anew().lines[1:])


def test_a_table_written_anew_is_read_anew():
    write_exposures([row(number) for number in range(5)])
    points.read_points()
    write_exposures([row(number, "rejected") for number in range(5)])
    found = points.read_points()
    assert [json.loads(line)[3] for line in found.lines] == [1] * 5


def test_a_line_that_is_still_being_written_waits_for_the_next_time():
    write_exposures([row(1)])
    whole = layout.EXPOSURES.read_bytes()
    append_exposures([row(2)])
    second = layout.EXPOSURES.read_bytes()[len(whole) :]
    layout.EXPOSURES.write_bytes(whole + second[:20])
    points.forget_points()
    assert len(points.read_points().lines) == 1
    layout.EXPOSURES.write_bytes(whole + second)
    assert len(points.read_points().lines) == 2


def test_nothing_is_added_to_a_line_cut_short():
    write_exposures([row(1), row(2)])
    layout.EXPOSURES.write_bytes(layout.EXPOSURES.read_bytes()[:-15])
    assert not append_exposures([row(3)])
    assert len(points.read_points().lines) == 1


def test_damaged_memory_is_made_again():
    write_exposures([row(1)])
    expected = points.read_points()
    points.POINTS.write_text("{no json")
    assert points.read_points() == expected


def test_a_session_without_exposures_has_no_points():
    assert points.read_points() == points.Points([], [])


def test_no_text_can_end_a_script():
    assert "<" not in points.as_script(["</script><script>alert(1)"])
    assert json.loads(points.as_script(["</script>"])) == ["</script>"]
