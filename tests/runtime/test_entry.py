"""The door: what a job leaves behind when it succeeds, and that it leaves nothing when it fails."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import model_validator

from firn.errors import InputError
from firn.runtime.entry import open_job
from firn.runtime.params import JobParams, Kind


class Params(JobParams):
    """A job for tests."""

    stage: ClassVar[str] = "utilities"
    count: int = 3
    """How many."""


def settings(**changes: object) -> dict[str, object]:
    return {"type": "test", "revision": 1, "seed": 7, **changes}


def break_halfway() -> None:
    with open_job(Params, settings(), {}, Path("results/a"), "a") as job:
        (job.folder / "map.mrc").write_text("new")
        raise RuntimeError("broken")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_outputs_and_record_appear_together() -> None:
    with open_job(Params, settings(), {}, Path("results/a"), "a") as job:
        (job.folder / "map.mrc").write_text("x")
        job.metric("resolution", 3.5, "Å")
        job.metric("undefined", float("nan"))
        assert not Path("results/a/map.mrc").exists()
    record = json.loads(Path("results/a/job.json").read_text())
    assert Path("results/a/map.mrc").exists()
    assert record["metrics"] == {"resolution": {"value": 3.5, "unit": "Å"}, "undefined": {"value": None, "unit": ""}}
    assert record["seed"] == 7
    assert record["versions"]["torch"].startswith("2.")
    assert record["seconds"] >= 0


def test_a_failed_job_leaves_its_older_results_untouched() -> None:
    with open_job(Params, settings(), {}, Path("results/a"), "a") as job:
        (job.folder / "map.mrc").write_text("old")
    with pytest.raises(RuntimeError):
        break_halfway()
    assert Path("results/a/map.mrc").read_text() == "old"


def test_a_rerun_replaces_folders_and_clears_what_a_killed_run_left() -> None:
    stale = Path("results/.a.partial")
    stale.mkdir(parents=True)
    (stale / "half.mrc").write_text("stump")
    for name in ("one", "two"):
        with open_job(Params, settings(), {}, Path("results/a"), "a") as job:
            (job.folder / "batches").mkdir()
            (job.folder / "batches" / name).write_text(name)
    assert [path.name for path in Path("results/a/batches").iterdir()] == ["two"]
    assert not Path("results/a/half.mrc").exists()
    assert not stale.exists()


class ClassParams(Params):
    """A job with a folder for each class."""

    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"class_*": ("volume",)}


def test_a_rerun_with_fewer_classes_leaves_no_class_of_the_former_run_but_what_is_not_its_own() -> None:
    Path("results/a/batches/0001").mkdir(parents=True)
    for count in (3, 2):
        with open_job(ClassParams, settings(count=count), {}, Path("results/a"), "a") as job:
            for number in range(1, count + 1):
                (job.folder / f"class_{number}").mkdir()
                (job.folder / f"class_{number}" / "map.mrc").write_text(str(count))
    assert sorted(path.name for path in Path("results/a").iterdir()) == ["batches", "class_1", "class_2", "figures", "job.json"]
    assert Path("results/a/class_2/map.mrc").read_text() == "2"


def test_chance_is_fixed_by_seed_job_batch_and_purpose() -> None:
    def draw(seed: int, name: str, batch: str | None, purpose: str) -> float:
        with open_job(Params, settings(seed=seed), {}, Path(f"results/{name}"), name, batch=batch) as job:
            return float(torch.rand(1, generator=job.generator(purpose)))

    first = draw(1, "a", None, "poses")
    assert draw(1, "a", None, "poses") == first
    others = [draw(2, "a", None, "poses"), draw(1, "b", None, "poses"), draw(1, "a", "0001", "poses"), draw(1, "a", None, "noise")]
    assert first not in others
    assert len(set(others)) == 4


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InputError, match="cuont"), open_job(Params, settings(cuont=2), {}, Path("results/a"), "a"):
        pass


def test_a_rule_between_two_parameters_is_broken_in_one_sentence() -> None:
    class Range(Params):
        low: int = 1
        high: int = 2

        @model_validator(mode="after")
        def _check(self) -> "Range":
            if self.high < self.low:
                raise ValueError(f"high ({self.high}) is smaller than low ({self.low})")
            return self

    with pytest.raises(InputError) as caught, open_job(Range, settings(low=3), {}, Path("results/a"), "a"):
        pass
    assert str(caught.value) == "high (2) is smaller than low (3)"


def test_a_job_that_runs_out_of_memory_says_so_in_one_sentence_and_leaves_nothing() -> None:
    with pytest.raises(InputError, match=r"^out of memory: "), open_job(Params, settings(), {}, Path("results/a"), "a"):
        torch.empty(2**50)
    assert not Path("results/a").exists()
