"""What one tick does with files, results, failures and decisions, without Snakemake."""

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from firn.errors import ExposureError
from firn.formats.ids import exposure_id
from firn.formats.tables import write_table
from firn.live import layout, targets, tick, workers
from firn.live.stirring import times_of
from firn.live.targets import live_targets, record_failure
from stream_plan import land

PLAN: dict[str, dict[str, Any]] = {
    "movies": {
        "files": ["raw/*.tif"], "batch_size": 3, "eer_fractions": 40, "eer_upsampling": 2,
        "jobs": {"movies": [], "motion": ["movies"]}, "curation": [{"max_motion": 20.0}],
    }
}  # fmt: skip
QUICK = {"settle_s": 0, "give_up_s": 1000, "max_wait_s": 1000, "poll_s": 0.001, "quiet_min": None, "alarms": {"disk_free_gb": 0}}


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    Path("live").mkdir()
    decide()
    monkeypatch.setattr(tick, "TELL_S", 0.0)
    return tmp_path


def decide(**changes: Any) -> None:
    layout.CONTROL.write_text(yaml.safe_dump(QUICK | changes))


def turn() -> list[str]:
    """Run a tick, and say what Snakemake would be asked for."""
    tick.run_tick(PLAN, Path(live_targets(PLAN)[-1]))
    return live_targets(PLAN)


def finish(batch: str, motion: float = 10.0, lost: tuple[str, ...] = ()) -> None:
    """Leave the results that the jobs of a batch leave."""
    files = [entry["path"] for entry in json.loads(layout.batch_file("movies", batch).read_text())["files"]]
    for job in PLAN["movies"]["jobs"]:
        folder = layout.result_file(job, batch).parent
        folder.mkdir(parents=True, exist_ok=True)
        kept = [path for path in files if path not in lost]
        rows = pd.DataFrame({"exposure_id": [exposure_id(path) for path in kept], "movie": kept, "motion_total": motion})
        write_table(folder / "exposures.star", rows, "exposures")
        failed = [{"exposure_id": exposure_id(path), "movie": path, "reason_code": "CODEC", "reason": "broken"} for path in lost]
        if failed:
            write_table(folder / "failed.star", pd.DataFrame(failed), "failed")
        (folder / "job.json").write_text("{}")


def session() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(layout.SESSION.read_text())
    return content


def rows() -> pd.DataFrame:
    return pd.read_csv(layout.EXPOSURES, dtype={"batch": str})


def on_sleep(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], None]) -> None:
    """Do one thing each time the tick goes to sleep; too many sleeps are an error."""
    left = list(actions)
    monkeypatch.setattr(tick.time, "sleep", lambda seconds: left.pop(0)())


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


def alarm_lines() -> list[dict[str, Any]]:
    """What was written about alarms."""
    return [json.loads(line) for line in layout.ALARM_LOG.read_text().splitlines()]


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
