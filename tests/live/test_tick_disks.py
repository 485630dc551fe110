"""Ticks beside disks that are full, away, slow to show files, or will not give them."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from firn.errors import ExposureError
from firn.live import layout, targets, tick
from firn.live.targets import live_targets, record_failure
from stream_plan import land
from tick_folder import PLAN, alarm_lines, decide, finish, on_sleep, session, turn


@pytest.mark.parametrize("cut_to", [None, 40])
def test_tables_that_come_up_later_than_their_job_s_record_are_waited_for(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, cut_to: int | None
) -> None:
    land("a", "b", "c")
    turn()
    finish("0001")
    table = layout.result_file("motion", "0001").with_name("exposures.star")
    first, whole = layout.result_file("movies", "0001").with_name("exposures.star"), table.read_bytes()
    first.unlink()
    table.unlink()
    if cut_to is not None:
        table.write_bytes(whole[:cut_to])

    def come_up() -> None:
        assert not layout.outcome_file("movies", "0001").exists()
        table.write_bytes(whole)
        layout.END_MARK.touch()

    on_sleep(monkeypatch, lambda: None, come_up)
    assert turn() == []
    assert session()["counters"]["accepted"] == 3


def test_a_movie_of_which_no_table_ever_tells_is_lost_after_a_while(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b", "c")
    turn()
    finish("0001")
    for job in PLAN["movies"]["jobs"]:
        layout.result_file(job, "0001").with_name("exposures.star").unlink()
    layout.END_MARK.touch()
    on_sleep(monkeypatch, lambda: None, lambda: monkeypatch.setattr(tick, "LATE_S", 0.0))
    assert turn() == []
    assert session()["failures"] == {"LOST": 3}


def test_nothing_is_tried_again_while_the_disk_is_nearly_full(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b", "c")
    turn()
    record_failure("results/movies/batches/0001/job.json")
    decide(alarms={"disk_free_gb": 1e9})
    on_sleep(monkeypatch, lambda: decide())
    assert turn()[0] == "live/tries/movies/0001/1.json"
    assert [(line["alarm"], line["event"]) for line in alarm_lines()] == [("disk", "raised"), ("disk", "cleared")]


def test_a_tick_waits_for_results_that_are_away_and_lets_snakemake_start_again(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b", "c")
    turn()
    finish("0001")
    Path("results").rename("elsewhere")
    assert live_targets(PLAN) == ["live/ticks/000002"]
    on_sleep(monkeypatch, lambda: Path("elsewhere").rename("results"))
    assert turn() == []
    assert [(line["alarm"], line["event"]) for line in alarm_lines()] == [("storage", "raised"), ("storage", "cleared")]
    monkeypatch.setattr(targets, "STARTED", time.time())
    layout.END_MARK.touch()
    assert turn() == []
    assert session()["counters"]["accepted"] == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_tick_waits_for_a_full_disk_and_tells_of_it_afterwards(run_folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write, full = os.replace, [True]

    def replace(*paths: Any) -> None:
        if full[0]:
            raise OSError(number, os.strerror(number))
        write(*paths)

    def make_room() -> None:
        full[0] = False

    layout.RESULTS_KNOWN.write_text("mark")
    layout.RESULTS_MARK.parent.mkdir()
    layout.RESULTS_MARK.write_text("mark")
    land("a", "b", "c")
    monkeypatch.setattr(os, "replace", replace)
    on_sleep(monkeypatch, make_room)
    assert turn()[0] == "results/movies/batches/0001/job.json"
    assert {(line["alarm"], line["event"]) for line in alarm_lines()} == {("storage", "raised"), ("storage", "cleared")}
    assert not [path for path in Path().rglob("*") if path.name.endswith(".tmp")]


def test_no_batch_is_tried_again_beyond_a_quota_which_no_free_space_tells_of(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b", "c")
    turn()
    record_failure("results/movies/batches/0001/job.json")
    sync, beyond = os.fsync, [True]

    def refuse_much(file: int) -> None:
        if beyond[0] and os.fstat(file).st_size > 2**20:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        sync(file)

    monkeypatch.setattr(os, "fsync", refuse_much)
    on_sleep(monkeypatch, lambda: beyond.__setitem__(0, False))
    assert turn()[0] == "live/tries/movies/0001/1.json"
    (sentence,) = (line["sentence"] for line in alarm_lines() if (line["alarm"], line["event"]) == ("storage", "raised"))
    assert sentence == "the run folder's disk cannot be written to (Disk quota exceeded); make room"
    assert ("storage", "cleared") in {(line["alarm"], line["event"]) for line in alarm_lines()}


def test_nothing_is_begun_with_movies_that_are_away_and_the_session_does_not_end(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b")
    decide(max_wait_s=0)
    turn()
    record_failure("results/movies/batches/0001/job.json")
    layout.END_MARK.touch()
    Path("raw").rename("elsewhere")
    on_sleep(monkeypatch, lambda: Path("elsewhere").rename("raw"))
    assert turn()[0] == "live/tries/movies/0001/1.json"
    sentences = [line["sentence"] for line in alarm_lines() if line["alarm"] == "movies_movies"]
    assert sentences[0].startswith("Folder raw, from which movies came")


def test_a_refused_file_that_may_be_read_now_is_looked_at_again_but_not_at_the_end(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(give_up_s=1e-9)
    denied, check, access = [True], tick.check_movie, os.access

    def check_readable(path: str, *others: Any) -> Any:
        if path == "raw/c.tif" and denied[0]:
            raise ExposureError("UNREADABLE", f"{path}: cannot be read (Permission denied)")
        return check(path, *others)

    monkeypatch.setattr(tick, "check_movie", check_readable)
    monkeypatch.setattr(os, "access", lambda path, *others: not denied[0] and access(path, *others))
    land("a", "b", "c")
    on_sleep(monkeypatch, lambda: None, lambda: denied.__setitem__(0, False), lambda: None)
    turn()
    assert [entry["path"] for entry in json.loads(layout.batch_file("movies", "0001").read_text())["files"]][-1] == "raw/c.tif"
    assert not list(Path("live/refused/movies").iterdir())


def test_a_file_that_the_disk_does_not_give_does_not_keep_a_session_from_ending(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *others: Any) -> Any:
        raise ExposureError("UNREADABLE", f"{path}: cannot be read (Input/output error)")

    monkeypatch.setattr(tick, "check_movie", refuse)
    land("a")
    layout.END_MARK.touch()
    assert turn() == []
    assert session()["failures"] == {"UNREADABLE": 1}
