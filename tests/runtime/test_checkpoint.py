"""The state of a job that was cut short: found by the same job, by no other, and gone when the job succeeded."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch

from firn.runtime.checkpoint import Checkpoint
from firn.runtime.entry import open_job
from firn.runtime.params import JobParams


class Params(JobParams):
    """A job for tests."""

    stage: ClassVar[str] = "utilities"
    count: int = 3
    """How many."""


STATE = {"number": 7, "volume": torch.arange(8.0).reshape(2, 2, 2), "poses": [{"shift": (0.5, None)}]}


def break_after_saving(count: int) -> None:
    with open_job(Params, {"count": count}, {}, Path("results/a"), "a") as job:
        job.checkpoint.save(STATE)
        raise KeyboardInterrupt


def found(count: int) -> object:
    with open_job(Params, {"count": count}, {}, Path("results/a"), "a") as job:
        return job.checkpoint.load()


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_that_was_cut_short_finds_its_state() -> None:
    with pytest.raises(KeyboardInterrupt):
        break_after_saving(3)
    state = found(3)
    assert isinstance(state, dict)
    assert state["number"] == 7
    assert torch.equal(state["volume"], STATE["volume"])
    assert state["poses"] == [{"shift": (0.5, None)}]


def test_other_settings_find_nothing() -> None:
    with pytest.raises(KeyboardInterrupt):
        break_after_saving(3)
    assert found(4) is None


def test_success_forgets_the_state() -> None:
    with pytest.raises(KeyboardInterrupt):
        break_after_saving(3)
    found(3)
    assert found(3) is None
    assert [path.name for path in Path("results").iterdir()] == ["a"]


def test_a_stump_of_a_later_state_leaves_the_earlier_one(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", {"seed": 1})
    checkpoint.save(STATE)
    for path in list((tmp_path / "state").iterdir()):
        path.with_suffix(".1.tmp").write_bytes(b"stump")
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["number"] == 7


def test_a_workplace_is_one_for_the_same_identity_and_goes_when_states_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / ".job.state"
    place = Checkpoint(folder, ["a"]).workplace()
    (place / "file").write_text("kept")
    assert Checkpoint(folder, ["a"]).workplace() == place
    assert Checkpoint(folder, ["b"]).workplace() != place
    Checkpoint(folder, ["b"]).clear()
    assert not place.exists()
