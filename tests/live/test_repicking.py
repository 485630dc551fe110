"""A picker switched in a running session, tick by tick, without Snakemake: what is opened again, what waits, what is not touched."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from firn.formats.ids import exposure_id
from firn.formats.tables import write_table
from firn.live import layout, targets, tick
from firn.live.pickers import decided
from firn.live.targets import live_targets, record_failure
from firn.runtime.atomic import write_json
from stream_plan import JOBS, QUICK, STREAM, land

CONFIG = {"blobs": {"type": "blob_picker", "min_diameter": 80, "max_diameter": 120}, "picks": {"type": "inspect_picks", "min_ncc": None}}
CHAIN = {"movies": [], "ctf": ["movies"], "blobs": ["ctf"], "picks": ["ctf", "blobs"], "stack": ["ctf", "picks"]}
QUICK_ALONE = QUICK | {"streams": {"enabled": False}}
PER_MOVIE = 60


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    decide()
    return tmp_path


def decide(**changes: Any) -> None:
    layout.LIVE.mkdir(exist_ok=True)
    layout.CONTROL.write_text(yaml.safe_dump(QUICK_ALONE | changes))


def wanted(batch: int) -> dict[str, dict[str, Any]]:
    """Settings that count in a batch, as the graph tells them."""
    counts = [one for one in decided() if int(one["first"]["movies"]) <= batch]
    changes = counts[-1]["jobs"] if counts else {}
    return {job: settings | changes.get(job, {}).get("settings", {}) for job, settings in CONFIG.items()}


def plan() -> dict[str, dict[str, Any]]:
    firsts = sorted({1, *(int(one["first"]["movies"]) for one in decided())})
    numbers = [max([0, *(one["number"] for one in decided() if int(one["first"]["movies"]) <= first)]) for first in firsts]
    picked = [{"first": first, "number": number, "jobs": wanted(first)} for first, number in zip(firsts, numbers, strict=True)]
    picking = {"pickers": {"blobs": CONFIG["blobs"]}, "inspections": {"picks": CONFIG["picks"]}, "picked": picked}
    return {
        "movies": {
            "files": ["raw/*.tif"], "batch_size": 2, "eer_fractions": 40, "eer_upsampling": 2, "jobs": CHAIN, "curation": [],
            "picking": picking, "started": targets.STARTED,
        }
    }  # fmt: skip


def turn() -> list[str]:
    """Run a tick, and say what Snakemake would be asked for, without the next tick."""
    tick.run_tick(plan(), Path(live_targets(plan(), JOBS)[-1]), [STREAM])
    return asked()


def asked() -> list[str]:
    return [target for target in live_targets(plan(), JOBS) if not {"ticks", "reports"} & set(Path(target).parts)]


def start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Snakemake starts anew."""
    monkeypatch.setattr(targets, "STARTED", time.time())


def make(*results: str) -> None:
    """Leave what the jobs of batches leave: exposures, particles, and a record with the settings that count."""
    for result in results:
        _, job, _, batch, _ = Path(result).parts
        folder = Path(result).parent
        paths = [entry["path"] for entry in json.loads(layout.batch_file("movies", batch).read_text())["files"]]
        names = [exposure_id(path) for path in paths]
        write_table(folder / "exposures.star", pd.DataFrame({"exposure_id": names, "movie": paths}), "exposures")
        if job == "stack":
            write_table(folder / "particles.star", pd.DataFrame({"exposure_id": names * PER_MOVIE}), "particles")
        write_json(folder / "job.json", {"settings": wanted(int(batch)).get(job, {})})


def of(batch: str, *jobs: str) -> list[str]:
    return [str(layout.result_file(job, batch)) for job in jobs]


def finish_two_batches() -> None:
    land("a", "b")
    make(*turn())
    land("c", "d")
    make(*turn())
    land("e")
    turn_until_nothing()


def turn_until_nothing() -> None:
    """A tick that takes up what is done and is then told to leave, so that it comes back."""
    content = yaml.safe_load(layout.CONTROL.read_text())
    layout.CONTROL.write_text(yaml.safe_dump(content | {"state": "stop"}))
    turn()
    layout.CONTROL.write_text(yaml.safe_dump(content))


def test_only_picks_and_what_follows_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_two_batches()
    decide(picker={"max_diameter": 150}, reason="larger")
    assert turn() == []
    assert [(one["scope"], one["reason"]) for one in [decided()[0]["wanted"] | {"reason": decided()[0]["reason"]}]] == [("all", "larger")]
    assert turn() == []
    assert json.loads(layout.OPEN.read_text())["over"] == "again"
    start_again(monkeypatch)
    assert turn() == of("0001", "blobs", "picks", "stack") + of("0002", "blobs", "picks", "stack")
    assert all(layout.result_file(job, batch).exists() for job in ("movies", "ctf") for batch in ("0001", "0002"))
    make(*asked())
    turn_until_nothing()
    assert json.loads(layout.SESSION.read_text())["counters"]["ready"] == 4
    assert asked() == []
    assert json.loads(layout.SESSION.read_text())["picking"] == {"decisions": 1, "batches_to_pick_again": 0}


def test_other_limits_leave_the_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_two_batches()
    decide(picker={"min_ncc": 0.3})
    turn()
    turn()
    start_again(monkeypatch)
    assert turn() == of("0001", "picks", "stack") + of("0002", "picks", "stack")


def test_batches_to_come_alone_are_picked_otherwise() -> None:
    finish_two_batches()
    decide(picker={"max_diameter": 150, "scope": "future"})
    turn()
    assert decided()[0]["first"] == {"movies": "0003"}
    land("f")
    assert turn() == of("0003", *CHAIN)
    make(*asked())
    turn_until_nothing()
    assert asked() == []
    assert json.loads(layout.result_file("blobs", "0002").read_text())["settings"]["max_diameter"] == 120
    assert json.loads(layout.result_file("blobs", "0003").read_text())["settings"]["max_diameter"] == 150


def test_a_decision_taken_back_picks_as_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_two_batches()
    decide(picker={"max_diameter": 150})
    turn()
    turn()
    start_again(monkeypatch)
    make(*turn())
    turn_until_nothing()
    decide()
    turn()
    turn()
    start_again(monkeypatch)
    assert set(turn()) >= set(of("0001", "blobs"))
    assert [one["jobs"] for one in decided()][-1] == {}
    make(*asked())
    assert json.loads(layout.result_file("blobs", "0001").read_text())["settings"]["max_diameter"] == 120


def test_a_failed_batch_that_is_picked_again_starts_anew_as_to_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b")
    results = turn()
    make(*results[:2])
    record_failure(results[2])
    assert turn() == ["live/tries/movies/0001/1.json"]
    make(*results)
    write_json(layout.try_file("movies", "0001", 1), {})
    turn_until_nothing()
    decide(picker={"max_diameter": 150})
    turn()
    turn()
    start_again(monkeypatch)
    assert turn() == of("0001", "blobs", "picks", "stack")


def test_a_batch_in_work_during_the_switch_ends_as_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    land("a", "b")
    results = turn()
    make(*results[:4])
    decide(picker={"max_diameter": 150})
    turn()
    make(results[4])
    turn()
    start_again(monkeypatch)
    assert turn() == of("0001", "blobs", "picks", "stack")


def test_a_kill_while_batches_are_opened_again_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_two_batches()
    decide(picker={"max_diameter": 150})
    turn()
    turn()
    start_again(monkeypatch)
    memory, opened = layout.STATE.read_text(), layout.OPEN.read_text()
    turn()
    layout.STATE.write_text(memory)
    layout.OPEN.write_text(opened)
    assert sorted(turn()) == sorted(of("0001", "blobs", "picks", "stack") + of("0002", "blobs", "picks", "stack"))
    layout.STATE.unlink()
    layout.OPEN.unlink()
    land("f")
    assert set(turn()) >= set(of("0001", "blobs", "picks", "stack"))
    assert set(turn()) >= set(of("0003", *CHAIN))


def test_what_cannot_do_changes_nothing_and_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    finish_two_batches()
    for choice, sentence in (({"diameter": 150}, "blob_picker has none"), ({"templates": "latest"}, "no selection of 2D classes yet")):
        decide(picker=choice)
        land(*("fg" if "diameter" in choice else "hi"))
        turn()
        assert sentence in json.loads(layout.SESSION.read_text())["alarms"]["control"]
        assert not decided()


def test_nothing_is_replaced_while_a_round_reads_it_and_its_successor_takes_the_new_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    decide(streams={})
    finish_two_batches()
    (first,) = [target for target in asked() if "/rounds/" in target]
    decide(streams={}, picker={"max_diameter": 150})
    turn()
    land("f")
    turn()
    assert all(layout.result_file(job, batch).exists() for job in CHAIN for batch in ("0001", "0002"))
    folder = layout.round_folder("class2d", "0001")
    write_table(folder / "particles.star", pd.DataFrame({"exposure_id": ["e"]}), "particles")
    write_json(folder / "job.json", {"metrics": {}, "seconds": 1.0})
    write_json(Path(first), {"folder": str(folder)})
    make(*of("0003", *CHAIN))
    turn()
    start_again(monkeypatch)
    turn()
    assert not (folder / "particles.star").exists()
    assert set(asked()) == {
        *of("0001", "blobs", "picks", "stack"),
        *of("0002", "blobs", "picks", "stack"),
        "live/rounds/class2d/0002/1.json",
    }
    again = json.loads(layout.round_file("class2d", "0002").read_text())
    assert (again["picks"], again["inputs"]["templates"], list(again["sources"]["stack"])) == (1, ["results/class2d/rounds/0001"], ["0003"])
    assert not list((layout.LIVE / "rounds" / "keep").glob("*.json"))


def test_a_decision_taken_back_before_anything_was_opened_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    decide(streams={})
    finish_two_batches()
    (first,) = [target for target in asked() if "/rounds/" in target]
    decide(streams={}, picker={"max_diameter": 150})
    turn()
    decide(streams={})
    turn()
    folder = layout.round_folder("class2d", "0001")
    write_json(folder / "job.json", {"metrics": {}, "seconds": 1.0})
    write_json(Path(first), {"folder": str(folder)})
    turn()
    assert "live/rounds/keep/0001/1.json" in asked()
    assert layout.outcome_file("movies", "0001").exists()


def test_auto_goes_over_to_templates_by_itself_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decide(streams={}, picker={"type": "auto"})
    finish_two_batches()
    (first,) = [target for target in asked() if "/rounds/" in target]
    assert not decided()
    for job, target, kept in (("class2d", first, None), ("keep", "live/rounds/keep/0001/1.json", 150)):
        folder = layout.round_folder(job, "0001")
        folder.mkdir(parents=True)
        (folder / "classes.mrcs").write_bytes(b"")
        table = pd.DataFrame({"class_number": [1], "class_image": [f"000001@{folder}/classes.mrcs"]})
        write_table(folder / "classes.star", table, "classes")
        metrics = {} if kept is None else {"particles_kept": {"value": kept}}
        write_json(folder / "job.json", {"metrics": metrics, "seconds": 1.0})
        write_json(Path(target), {"folder": str(folder)})
        turn()
    (entry,) = decided()
    assert (entry["by"], entry["jobs"]["blobs"]["type"], entry["jobs"]["blobs"]["settings"]) == (
        "session",
        "template_picker",
        {"diameter": 120},
    )
    logged = [json.loads(line) for line in layout.DECISION_LOG.read_text().splitlines()]
    assert [line["reason"] for line in logged if line.get("by") == "session"] == ["results/keep/rounds/0001 has the first good classes"]
    land("f")
    turn()
    assert len(decided()) == 1
