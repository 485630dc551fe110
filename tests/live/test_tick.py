"""What one tick does with files, results, failures and decisions, without Snakemake."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml

from firn.live import layout, targets, tick, workers
from firn.live.stirring import times_of
from firn.live.targets import live_targets, record_failure
from stream_plan import land
from tick_folder import PLAN, decide, finish, on_sleep, rows, session, turn


def test_a_full_batch_is_cut_and_its_jobs_asked_for(run_folder: Path) -> None:
    land("a", "b", "c", "d")
    assert turn() == ["results/movies/batches/0001/job.json", "results/motion/batches/0001/job.json", "live/ticks/000002"]
    files = json.loads(layout.batch_file("movies", "0001").read_text())["files"]
    assert [entry["path"] for entry in files] == ["raw/a.tif", "raw/b.tif", "raw/c.tif"]
    assert session()["counters"]["queued"] == 1


def test_a_job_that_waits_is_not_kept_waiting_for_what_is_told_to_people(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "TELL_S", 1e6)
    land("a", "b", "c")
    turn()
    layout.SESSION.unlink()
    land("d", "e", "f")
    turn()
    assert layout.batch_file("movies", "0002").exists()
    assert not layout.SESSION.exists()
    monkeypatch.setattr(tick, "TELL_S", 0.0)
    land("g", "h", "i")
    turn()
    assert layout.SESSION.exists()


def test_a_file_that_comes_while_a_tick_rests_wakes_it(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    os.utime("raw", (1, 1))
    on_sleep(monkeypatch, lambda: land("a", "b", "c"))
    monkeypatch.setattr(tick, "rest", lambda before, seconds, every: woken.append(times_of(before) != before))
    turn()
    assert woken == [True]


def test_no_more_batches_are_open_than_allowed(run_folder: Path) -> None:
    decide(open_batches=2)
    land(*"abcdefghi")
    turn()
    assert sorted(path.stem for path in Path("live/batches/movies").iterdir()) == ["0001", "0002"]
    finish("0001")
    turn()
    assert layout.batch_file("movies", "0003").exists()


def test_a_number_of_workers_bounds_the_batches_in_work_where_there_is_no_gpu(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "gpu_count", lambda: 0)
    decide(workers=1)
    land(*"abcdef")
    turn()
    assert sorted(path.stem for path in Path("live/batches/movies").iterdir()) == ["0001"]
    decide(workers=2)
    turn()
    assert layout.batch_file("movies", "0002").exists()
    assert session()["workers"]["in_force"]
    assert session()["workers"]["reason"].startswith("no movie was timed yet")


def test_the_end_mark_takes_what_is_left_and_refuses_what_is_no_movie(run_folder: Path) -> None:
    land("a", "b")
    Path("raw/bad.tif").write_bytes(b"nothing")
    layout.END_MARK.touch()
    turn()
    finish("0001", lost=("raw/b.tif",))
    assert turn() == []
    assert layout.ENDED.exists()
    counters = session()["counters"]
    assert (counters["found"], counters["accepted"], counters["failed"], counters["refused"]) == (3, 1, 1, 1)
    told = json.loads(layout.batch_file("movies", "0000").read_text())["refused"]
    assert [entry["path"] for entry in told] == ["raw/bad.tif"]


def test_a_session_ends_by_itself_when_it_is_quiet(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b", "c")
    turn()
    finish("0001")
    on_sleep(monkeypatch, lambda: decide(quiet_min=1e-9))
    assert turn() == []
    assert layout.ENDED.exists()


def test_a_lost_memory_is_made_again_and_nothing_is_taken_twice(run_folder: Path) -> None:
    land(*"abcdef")
    turn()
    finish("0001")
    layout.END_MARK.touch()
    layout.STATE.unlink()
    layout.OPEN.unlink()
    finish("0002")
    turn()
    assert sorted(rows()["movie"]) == [f"raw/{name}.tif" for name in "abcdef"]
    assert session()["counters"]["accepted"] == 6


def test_a_kill_between_results_and_memory_counts_nothing_twice(run_folder: Path) -> None:
    land(*"abc")
    turn()
    finish("0001")
    memory, opened = layout.STATE.read_text(), layout.OPEN.read_text()
    land("d")
    layout.END_MARK.touch()
    turn()
    layout.STATE.write_text(memory)
    layout.OPEN.write_text(opened)
    finish("0002")
    turn()
    assert sorted(rows()["movie"]) == [f"raw/{name}.tif" for name in "abcd"]
    assert session()["counters"]["accepted"] == 4


def test_a_failed_batch_is_tried_as_new_nodes(run_folder: Path) -> None:
    land("a", "b", "c")
    turn()
    record_failure("results/movies/batches/0001/job.json")
    assert turn() == ["live/tries/movies/0001/1.json", "live/ticks/000003"]
    record_failure("live/tries/movies/0001/1.json")
    assert turn()[0] == "live/tries/movies/0001/2.json"
    finish("0001")
    layout.try_file("movies", "0001", 2).parent.mkdir(parents=True)
    layout.try_file("movies", "0001", 2).write_text("{}")
    layout.END_MARK.touch()
    assert turn() == []
    assert session()["counters"]["accepted"] == 3


def test_snakemake_starts_again_once_when_a_try_made_the_first_import(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land(*"abcdef")
    turn()
    record_failure("results/movies/batches/0001/job.json")
    assert turn()[0] == "live/tries/movies/0001/1.json"
    on_sleep(monkeypatch, lambda: finish("0001"))
    assert turn() == []
    monkeypatch.setattr(targets, "STARTED", time.time())
    assert live_targets(PLAN)[-3:-1] == ["results/movies/batches/0002/job.json", "results/motion/batches/0002/job.json"]
    for batch in ("0001", "0002"):
        layout.try_file("movies", batch, 1).parent.mkdir(parents=True)
        layout.try_file("movies", batch, 1).write_text("{}")
    finish("0002")
    land("g", "h", "i")
    assert turn()[0] == "results/movies/batches/0003/job.json"


def test_a_pause_cuts_nothing_and_a_start_goes_on(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(state="pause", reason="new grid")
    land("a", "b", "c")
    seen: list[bool] = []
    on_sleep(monkeypatch, lambda: seen.append(layout.batch_file("movies", "0001").exists()), lambda: decide(state="run"))
    turn()
    assert seen == [False]
    assert layout.batch_file("movies", "0001").exists()
    told = [json.loads(line) for line in layout.DECISION_LOG.read_text().splitlines()]
    assert ("state", "run", "pause", "new grid") in [(entry["what"], entry["old"], entry["new"], entry["reason"]) for entry in told]


def test_stop_leaves_and_run_goes_on_where_it_was(run_folder: Path) -> None:
    land("a", "b", "c")
    turn()
    decide(state="stop")
    assert turn() == []
    decide(state="run")
    assert live_targets(PLAN)[:-1] == ["results/movies/batches/0001/job.json", "results/motion/batches/0001/job.json"]


def test_thresholds_and_hand_decisions_change_verdicts_of_finished_batches(run_folder: Path) -> None:
    land("a", "b", "c")
    turn()
    finish("0001", motion=15.0)
    land("d", "e", "f")
    turn()
    assert list(rows()["verdict"]) == ["accepted"] * 3
    decide(thresholds={"motion_total": {"max": 12}}, accept=["a"])
    land("g", "h", "i")
    turn()
    assert list(rows()["verdict"]) == ["accepted", "rejected", "rejected"]
    assert session()["counters"]["rejected"] == 2
    assert yaml.safe_load(layout.DECISIONS.read_text()) == {"a": "accept"}


def test_a_fault_in_the_control_file_changes_nothing_and_raises_an_alarm(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b")
    turn_of_events = [lambda: layout.CONTROL.write_text("state: puase"), lambda: land("c")]
    on_sleep(monkeypatch, *turn_of_events)
    turn()
    assert layout.batch_file("movies", "0001").exists()
    assert "puase" in session()["alarms"]["control"]


def test_a_refused_file_that_changes_is_looked_at_again(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(give_up_s=1e-9)
    Path("raw/c.tif").write_bytes(b"half")
    land("a", "b")
    on_sleep(monkeypatch, lambda: None, lambda: land("c"), lambda: None)
    turn()
    files = json.loads(layout.batch_file("movies", "0001").read_text())["files"]
    assert [entry["path"] for entry in files] == ["raw/a.tif", "raw/b.tif", "raw/c.tif"]
    assert not list(Path("live/refused/movies").iterdir())


def test_a_batch_that_is_not_started_raises_an_alarm_until_it_is(run_folder: Path) -> None:
    land(*"abc")
    turn()
    path = layout.batch_file("movies", "0001")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cut": time.time() - 1000}))
    land(*"def")
    turn()
    assert "movies/0001 waits for 17 minutes" in session()["alarms"]["not_started"]
    layout.log_file("movies", "0001").parent.mkdir(parents=True)
    layout.log_file("movies", "0001").touch()
    land(*"ghi")
    turn()
    assert "not_started" not in session()["alarms"]
