"""What the profiles agree on, and what rules may not cost."""

import re
from typing import Any

import yaml

from workflow.session import ROOT

SHARED = ("keep-going", "rerun-incomplete", "rerun-triggers", "scheduler", "show-failed-logs")
RULE = re.compile(r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def profile(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    return settings


def rules() -> dict[str, str]:
    return {name: text for path in (ROOT / "rules").glob("*.smk") for name, text in RULE.findall(path.read_text())}


def test_a_workstation_and_a_cluster_decide_alike_what_runs_and_what_a_failure_stops() -> None:
    local, slurm = profile("local"), profile("slurm")
    assert {name: local[name] for name in SHARED} == {name: slurm[name] for name in SHARED}


def test_no_process_is_watched_that_is_started_for_every_batch() -> None:
    by_batch = {name: text for name, text in rules().items() if "{batch}" in text.partition("output:")[2].partition("log:")[0]}
    assert {"import_batch", "batch_try", "patch_motion", "patch_ctf", "preprocess", "extract_particles"} <= set(by_batch)
    assert [name for name, text in by_batch.items() if "benchmark:" in text] == []


def test_a_round_that_needs_no_device_asks_for_none() -> None:
    assert "_gpu" not in rules()["select_round"]
    assert "auxiliary_gpu=1" in rules()["auxiliary_round"]
