"""Rounds of streams in a session, tick by tick, without Snakemake: plans, tries, thresholds, the end, a lost memory."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from firn.formats.ids import exposure_id
from firn.formats.tables import write_table
from firn.live import layout, rounds, tick
from firn.live.targets import live_targets, record_failure
from stream_plan import JOBS, QUICK, STREAM, land

PLAN: dict[str, dict[str, Any]] = {
    "movies": {
        "files": ["raw/*.tif"], "batch_size": 2, "eer_fractions": 40, "eer_upsampling": 2,
        "jobs": {"movies": [], "stack": ["movies"]}, "curation": [],
    }
}  # fmt: skip
QUICK_ROUNDS = QUICK | {"streams": {"every_2d": 60}}
PER_MOVIE = 30


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    decide()
    monkeypatch.setattr(tick, "TELL_S", 0.0)
    return tmp_path


def decide(**changes: Any) -> None:
    layout.LIVE.mkdir(exist_ok=True)
    layout.CONTROL.write_text(yaml.safe_dump(QUICK_ROUNDS | changes))


def turn() -> list[str]:
    """Run a tick, and say what Snakemake would be asked for, without the next tick."""
    tick.run_tick(PLAN, Path(live_targets(PLAN, JOBS)[-1]), [STREAM])
    return [target for target in live_targets(PLAN, JOBS) if not {"ticks", "reports"} & set(Path(target).parts)]


def report() -> list[str]:
    """Reports that Snakemake is asked for."""
    return [target for target in live_targets(PLAN, JOBS) if "/reports/" in target]


def preprocess(batch: str, motion: float = 10.0) -> None:
    """Leave what the jobs of a batch leave: exposures, and particles of each."""
    paths = [entry["path"] for entry in json.loads(layout.batch_file("movies", batch).read_text())["files"]]
    for job in PLAN["movies"]["jobs"]:
        folder = layout.result_file(job, batch).parent
        names = [exposure_id(path) for path in paths]
        write_table(folder / "exposures.star", pd.DataFrame({"exposure_id": names, "movie": paths, "motion_total": motion}), "exposures")
        if job == "stack":
            write_table(folder / "particles.star", pd.DataFrame({"exposure_id": names * PER_MOVIE}), "particles")
        (folder / "job.json").write_text("{}")


def make(target: str, refused: str = "", **metrics: float) -> None:
    """Leave what a round leaves."""
    _, _, job, name, _ = Path(target).parts
    folder = layout.round_folder(job, name)
    folder.mkdir(parents=True)
    told = {"metrics": {key: {"value": value} for key, value in metrics.items()}, "seconds": 1.0}
    (folder / "job.json").write_text(json.dumps(told))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(json.dumps({"refused": refused} if refused else {}))


def collect(*names: str, motion: float = 10.0) -> list[str]:
    """Let movies land and be preprocessed; what is asked for then."""
    land(*names)
    batch = turn()[-1].split("/")[3]
    preprocess(batch, motion)
    return turn()


def plan_of(target: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(target).parent.with_suffix(".json").read_text())
    return content


def table() -> list[dict[str, str]]:
    with layout.ROUNDS.open() as stream:
        return list(csv.DictReader(stream))


def on_sleep(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], Any]) -> None:
    """Do one thing each time the tick goes to sleep; too many sleeps are an error."""
    left = list(actions)
    monkeypatch.setattr(tick.time, "sleep", lambda seconds: left.pop(0)())


def test_rounds_follow_each_other_and_leave_the_targets_when_done(run_folder: Path) -> None:
    assert collect("a", "b") == ["live/rounds/class2d/0001/1.json"]
    assert plan_of("live/rounds/class2d/0001/1.json")["particles"] == 60
    make("live/rounds/class2d/0001/1.json", best_resolution=12.0)
    assert turn() == ["live/rounds/keep/0001/1.json"]
    make("live/rounds/keep/0001/1.json", particles_kept=50)
    assert collect("c", "d") == ["live/rounds/class2d/0002/1.json"]
    assert plan_of("live/rounds/class2d/0002/1.json")["inputs"]["templates"] == ["results/class2d/rounds/0001"]
    assert [(row["job"], row["particles"], row["kept"], row["resolution"]) for row in table()] == [
        ("class2d", "60", "", "12.0"),
        ("keep", "60", "50", ""),
    ]
    told = json.loads(layout.SESSION.read_text())["rounds"]
    assert (told["class2d"]["state"], told["class2d"]["last"]["particles"]) == ("open", 60)


def test_a_report_follows_rounds_never_two_at_once(run_folder: Path) -> None:
    collect("a", "b")
    assert report() == []
    make("live/rounds/class2d/0001/1.json")
    turn()
    assert report() == ["live/reports/1.json"]
    make("live/rounds/keep/0001/1.json")
    assert collect("c", "d") == ["live/rounds/class2d/0002/1.json"]
    assert report() == ["live/reports/1.json"]
    layout.report_file(1).parent.mkdir()
    layout.report_file(1).write_text("{}")
    make("live/rounds/class2d/0002/1.json")
    turn()
    assert report() == ["live/reports/3.json"]
    record_failure(report()[0])
    assert report() == []


def test_a_threshold_changes_the_next_round_and_no_batch(run_folder: Path) -> None:
    collect("a", "b", motion=30.0)
    make("live/rounds/class2d/0001/1.json")
    turn()
    make("live/rounds/keep/0001/1.json")
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*.*") if "rounds" not in path.parts}
    decide(thresholds={"motion_total": {"max": 20}})
    land("c", "d", "e", "f")
    assert [target.split("/")[1] for target in turn()] == ["movies", "stack", "movies", "stack"]
    for batch in ("0002", "0003"):
        preprocess(batch)
    assert turn() == ["live/rounds/class2d/0002/1.json"]
    plan = plan_of("live/rounds/class2d/0002/1.json")
    assert list(plan["sources"]["stack"]) == ["0002", "0003"]
    assert plan["particles"] == 120
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_failed_round_is_tried_again_then_given_up_and_another_comes(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PAUSE_BETWEEN_TRIES_S", 0.0)
    targets = collect("a", "b")
    for number in (1, 2):
        assert targets == [f"live/rounds/class2d/0001/{number}.json"]
        record_failure(targets[0])
        targets = turn()
    record_failure(targets[0])
    on_sleep(monkeypatch, lambda: land("c", "d"))
    assert turn() == ["results/movies/batches/0002/job.json", "results/stack/batches/0002/job.json"]
    assert "class2d failed 3 times" in json.loads(layout.SESSION.read_text())["alarms"]["round_class2d"]
    preprocess("0002")
    assert turn() == ["live/rounds/class2d/0002/1.json"]
    assert plan_of("live/rounds/class2d/0002/1.json")["particles"] == 120


def test_the_session_ends_after_last_rounds_of_all_particles(run_folder: Path) -> None:
    decide(streams={"first_2d": 1000})
    land("a", "b", "c")
    turn()
    layout.END_MARK.touch()
    turn()
    for batch in ("0001", "0002"):
        preprocess(batch)
    assert turn() == ["live/rounds/class2d/0001/1.json"]
    assert not layout.ENDED.exists()
    make("live/rounds/class2d/0001/1.json")
    assert turn() == ["live/rounds/keep/0001/1.json"]
    make("live/rounds/keep/0001/1.json", refused="no 2D class is selected")
    assert turn() == []
    assert layout.ENDED.exists()
    assert [row["state"] for row in table()] == ["done", "refused"]


def test_a_lost_memory_plans_no_round_twice(run_folder: Path) -> None:
    collect("a", "b")
    make("live/rounds/class2d/0001/1.json")
    layout.STATE.unlink()
    layout.OPEN.unlink()
    assert turn() == ["live/rounds/keep/0001/1.json"]
    assert [row["job"] for row in table()] == ["class2d"]


def test_old_rounds_keep_all_but_their_particle_tables(run_folder: Path) -> None:
    story: rounds.Rounds = {"class2d": []}
    for number in range(1, 7):
        state = "open" if number == 6 else "done"
        inputs = {"templates": ["results/class2d/rounds/0001"]} if state == "open" else {}
        entry = {"number": number, "role": "classify", "planned": 1.0, "particles": 9, "made": {}, "limits": {}}
        rounds.write_plan(story, entry | {"job": "class2d", "inputs": inputs})
        story["class2d"][-1]["state"] = state
        for place in ("", "excluded"):
            folder = layout.round_folder("class2d", f"{number:04d}") / place
            folder.mkdir(parents=True)
            (folder / "particles.star").touch()
            (folder / "classes.mrcs").touch()
    rounds.thin_out(story)
    kept = sorted(path.parts[3] for path in Path("results").glob("class2d/rounds/*/excluded/particles.star"))
    assert kept == ["0001", "0003", "0004", "0005", "0006"]
    assert len(list(Path("results").rglob("particles.star"))) == 10
    assert len(list(Path("results").rglob("classes.mrcs"))) == 12


def test_streams_can_be_turned_off(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(streams={"enabled": False})
    land("a", "b")
    turn()
    preprocess("0001")
    on_sleep(monkeypatch, lambda: None, lambda: land("c", "d"))
    assert all(target.startswith("results/") for target in turn())


def test_a_pause_plans_no_round(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b")
    turn()
    preprocess("0001")
    decide(state="pause")
    on_sleep(monkeypatch, lambda: None, decide)
    assert turn() == ["live/rounds/class2d/0001/1.json"]
