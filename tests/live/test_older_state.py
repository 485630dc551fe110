"""Sessions that another version of the program left: they go on, whatever of their small files is not as it would be now."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from firn.live import layout, session
from firn.live.rounds import NEEDED, PLANNED, recall
from stream_plan import land
from tick_folder import decide, finish, turn

FIRST: dict[str, Any] = {
    "started": 1.8e9, "last_found": 1.8e9, "disk": [[1.8e9, 3.5e10]], "alarms": {}, "quiet_since": 1.8e9,
    "control": {
        "state": "run", "reason": "", "settle_s": 0.0, "give_up_s": 1000.0, "max_wait_s": 1000.0, "poll_s": 0.001, "open_batches": 8,
        "quiet_min": None, "priority": "oldest", "thresholds": {"motion_total": {"min": None, "max": 15.0}}, "reject": ["b"], "accept": [],
        "alarms": {"no_new_min": 10, "failure_percent": 5, "disk_free_gb": 0.0, "disk_full_h": 6},
    },
    "ledgers": {
        "movies": {
            "root": "movies", "waiting": {}, "refused": {}, "ready": {"raw/g.tif": [1.8e9, 1.8e9, "4 16 16"]},
            "taken": {f"raw/{name}.tif": [1.8e9, 1.8e9, "0001" if name in "abc" else "0002"] for name in "abcdef"},
            "batches": 2, "shapes": {"4 16 16": 7}, "opened": {"0002": 0},
            "tallies": {"0001": {"time": 1.8e9, "accepted": 1, "rejected": 1, "picks": 0, "particles": 0, "failed": {"CODEC": 1}}},
        }
    },
}  # fmt: skip
"""What the first version that had live sessions remembered of the session made here."""


@pytest.fixture
def left(run_folder: Path, tmp_path: Path) -> Path:
    """The run folder of a session with a batch that is done, one at work, a movie that waits for the next, and a refused file."""
    decide(thresholds={"motion_total": {"max": 15.0}}, reject=["b"], give_up_s=0.001)
    land("a", "b", "c")
    Path("raw/bad.tif").write_bytes(b"nothing")
    turn()
    finish("0001", lost=("raw/c.tif",))
    land("d", "e", "f", "g")
    turn()
    shutil.copytree("live", tmp_path / "left")
    return tmp_path / "left"


def restore(left: Path) -> None:
    """The session's small files as they were left, and no result since."""
    shutil.rmtree("live")
    shutil.copytree(left, "live")
    for job in ("movies", "motion"):
        shutil.rmtree(layout.result_file(job, "0002").parent, ignore_errors=True)


def check_that_it_goes_on() -> None:
    """The open batch ends, the rest is taken, and every file is told of once."""
    if not layout.result_file("motion", "0002").exists():
        finish("0002")
    layout.END_MARK.touch()
    for _ in range(4):
        if not turn():
            break
        for path in Path("live/batches/movies").glob("000[1-9].json"):
            if not layout.result_file("motion", path.stem).exists():
                finish(path.stem)
    assert layout.ENDED.exists()
    told = json.loads(layout.SESSION.read_text())
    counters = {name: told["counters"][name] for name in ("found", "accepted", "rejected", "failed", "refused", "batches")}
    assert counters == {"found": 8, "accepted": 5, "rejected": 1, "failed": 1, "refused": 1, "batches": 3}
    assert not told["alarms"]


def changed(content: Any, place: tuple[str, ...], to: Any = None) -> Any:
    """The content without a key, or with another value there."""
    content = copy.deepcopy(content)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner.pop(place[-1])
    return content if to is None else set_to(content, inner, place[-1], to)


def set_to(content: Any, inner: dict[str, Any], name: str, to: Any) -> Any:
    inner[name] = to
    return content


def test_a_session_of_the_first_version_goes_on(left: Path) -> None:
    layout.STATE.write_text(json.dumps(FIRST))
    layout.OPEN.write_text('{"over": "", "batches": {"movies": {"0002": 0}}}')
    for name in ("results", "points.jsonl", "latest.json", "session.html"):
        (layout.LIVE / name).unlink(missing_ok=True)
    layout.RESULTS_MARK.unlink()
    check_that_it_goes_on()


@pytest.mark.parametrize("to", [None, "of another kind"], ids=["missing", "of another kind"])
def test_a_session_goes_on_whatever_of_its_memory_is_not_as_it_would_be_now(left: Path, to: Any) -> None:
    memory = json.loads((left / "state.json").read_text())
    ledger = [("ledgers", "movies", name) for name in memory["ledgers"]["movies"]]
    for place in [*((name,) for name in memory), ("ledgers", "movies"), *ledger]:
        restore(left)
        layout.STATE.write_text(json.dumps(changed(memory, place, to)))
        check_that_it_goes_on()


def test_a_session_goes_on_with_what_a_later_version_remembered_besides(left: Path) -> None:
    memory = json.loads((left / "state.json").read_text())
    ledger = memory["ledgers"]["movies"]
    for place in ((), ("control",), ("control", "alarms"), ("ledgers", "movies"), ("ledgers", "movies", "tallies", "0001")):
        restore(left)
        inner = copy.deepcopy(memory)
        part = inner
        for name in place:
            part = part[name]
        part["later"] = {"more": [1, 2]}
        layout.STATE.write_text(json.dumps(inner))
        check_that_it_goes_on()
    restore(left)
    entries = {path: [*entry, "later"] for path, entry in ledger["taken"].items()}
    layout.STATE.write_text(json.dumps(memory | {"ledgers": {"movies": ledger | {"taken": entries}}}))
    check_that_it_goes_on()


@pytest.mark.parametrize("name", ["batches/movies/0001.json", "batches/movies/0002.json"])
def test_a_session_goes_on_with_batches_that_tell_less(left: Path, name: str) -> None:
    batch = json.loads((left / name).read_text())
    for key in ("cut", "import", "batch"):
        restore(left)
        layout.STATE.unlink()
        (layout.LIVE / name).write_text(json.dumps(changed(batch, (key,))))
        check_that_it_goes_on()
    restore(left)
    layout.STATE.unlink()
    (layout.LIVE / name).write_text(json.dumps(batch | {"files": [{"path": file["path"]} for file in batch["files"]]}))
    check_that_it_goes_on()


def test_a_refused_file_of_which_less_is_told_is_looked_at_again(left: Path) -> None:
    layout.STATE.unlink()
    (path,) = Path("live/refused/movies").glob("*.json")
    path.write_text(json.dumps({"path": "raw/bad.tif", "code": "HEADER", "reason": "no movie"}))
    check_that_it_goes_on()


def test_rounds_that_tell_less_are_known_by_their_plans(run_folder: Path) -> None:
    plan = PLANNED | {"number": 1, "role": "classify", "made": {"supply": 1}, "particles": 500}
    path = layout.round_file("class2d", "0001")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(plan))
    whole = recall({}, ["class2d"])["class2d"]
    assert whole[0].keys() >= NEEDED
    assert recall({"class2d": whole}, ["class2d"])["class2d"] == whole
    assert recall({"class2d": [{"number": 1}]}, ["class2d"])["class2d"] == whole
    path.write_text(json.dumps({name: value for name, value in plan.items() if name not in ("limits", "picks", "number")}))
    assert recall({}, ["class2d"])["class2d"] == whole


def test_every_kind_of_memory_is_one_that_a_session_has(left: Path) -> None:
    memory = json.loads((left / "state.json").read_text())
    assert all(isinstance(value, session.KINDS[name]) for name, value in memory.items() if name in session.KINDS)
    assert {"ledgers", "rounds", "control", "alarms", "started", "disk"} <= session.KINDS.keys() & memory.keys()
