"""Checks of an installation say what is wrong, and runs of the benchmark and of the validation are compared, whatever the clock says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from firn.errors import InputError
from firn.upkeep import installation
from firn.upkeep.disk import measure_disk
from firn.upkeep.installation import (
    check_cache,
    check_device,
    check_folder,
    check_job_types,
    check_lane,
    check_launch,
    check_packages,
    findings,
)
from firn.upkeep.speeds import comparison_table, keep, measure_device, read_runs
from firn.upkeep.validation import judge_run, read_expectations, verdict_table

ROOT = Path(__file__).resolve().parents[2]


def test_packages_that_differ_from_the_lock_are_named_with_both_versions(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# pins\ntorch=={torch.__version__}\nnumpy==0.1\nno-such-thing==1.0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"2 packages .*numpy \d.* instead of 0\.1, no-such-thing missing instead of 1\.0"):
        check_packages(lock)


def test_every_job_type_can_be_started() -> None:
    assert "can be started" in check_job_types(ROOT)


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert "MB/s" in check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firn.upkeep.disk._forget", lambda path: path.write_bytes(b"x" * path.stat().st_size))
    assert not measure_disk(tmp_path, 8).intact
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_or_a_device_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRN_CACHE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_cache(tmp_path) is None
    assert check_lane("reconstruct", tmp_path) is None
    monkeypatch.setenv("FIRN_CACHE", str(tmp_path / "fast"))
    assert "single images" in str(check_cache(tmp_path))


def test_a_device_that_multiplies_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_device(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(installation, "irfft3", lambda spectra, shape: torch.zeros(shape))
    with pytest.raises(InputError, match="Fourier transform there and back"):
        check_device(torch.device("cpu"))


def test_one_check_that_fails_does_not_keep_others_from_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "check_launch", lambda root: "started")
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/requirements.lock").write_text("nothing==1\n", encoding="utf-8")
    found = {each.name: each.good for each in findings(tmp_path, tmp_path / "run")}
    assert (found["packages"], found["run folder"], found["a session through Snakemake"]) == (False, True, True)


@pytest.mark.slow
def test_a_small_session_runs_through_snakemake() -> None:
    assert check_launch(ROOT) == "two jobs and their report"


def a_run(speed: float, host: str = "a", folder: str = "/d") -> dict[str, Any]:
    return {"machine": {"host": host}, "folder": folder, "speeds": {"cpu: memory": [speed, "GB/s"], "disk: read": [speed, "MB/s"]}}


def test_speeds_are_compared_with_the_median_of_earlier_runs_of_the_same_machine(tmp_path: Path) -> None:
    store = tmp_path / "deep/runs.jsonl"
    assert [each.before for each in keep(a_run(10), store)] == [None, None]
    for other in (a_run(14), a_run(12), a_run(1000, host="b")):
        keep(other, store)
    memory, disk = keep(a_run(9, folder="/e"), store)
    assert (memory.before, memory.slower) == (12, True)
    assert disk.before is None
    assert "SLOWER" in comparison_table([memory])
    assert len(read_runs(store)) == 5


def test_a_line_that_was_cut_short_spoils_no_comparison(tmp_path: Path) -> None:
    store = tmp_path / "runs.jsonl"
    keep(a_run(10), store)
    with store.open("a", encoding="utf-8") as stream:
        stream.write('{"machine": {"ho\n')
    assert keep(a_run(10), store)[0].before == 10


def test_a_device_has_a_positive_speed_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firn.upkeep.speeds.SIZES", {"cpu": (16, 16, 8)})
    monkeypatch.setattr("firn.upkeep.speeds.SHORTEST_S", 1e-4)
    speeds = measure_device(torch.device("cpu"))
    assert set(speeds) == {"matrix product", "2D transform", "3D transform", "memory"}
    assert all(value > 0 for value, _ in speeds.values())


def test_numbers_are_judged_by_both_bounds_and_missing_ones_are_bad(tmp_path: Path) -> None:
    record = {"metrics": {"low": {"value": 1.0}, "high": {"value": 9.0}, "none": {"value": None}}}
    (tmp_path / "results/a").mkdir(parents=True)
    (tmp_path / "results/a/job.json").write_text(json.dumps(record), encoding="utf-8")
    expected = {"a": {"low": [0.5, None], "high": [None, 8.0], "none": [0, 1], "gone": [0, 1]}, "b": {"low": [0, 1]}}
    verdicts = list(judge_run(tmp_path, expected))
    assert [verdict.good for verdict in verdicts] == [True, False, False, False, False]
    assert verdict_table(verdicts).endswith("1 of 5 numbers are as expected")


@pytest.mark.parametrize("text", ["- a", "a: 3", "a: {b: [1]}", "a: {b: [1, two]}", "{}"])
def test_expectations_that_are_no_bounds_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"e\.yaml"):
        read_expectations(tmp_path / "e.yaml")


def test_the_expectations_of_the_demo_are_of_jobs_that_it_has() -> None:
    import yaml

    jobs = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["jobs"]
    assert set(read_expectations(ROOT / "config/validation.yaml")) <= set(jobs)
