"""A failed job leaves one archive that tells all about it, and nothing that is nobody else's business."""

import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.runtime.entry import enter
from firn.runtime.error_report import archive_of, find_failure, write_error_report
from firn.runtime.params import JobParams


class Params(JobParams):
    """A job for tests."""

    stage: ClassVar[str] = "utilities"
    count: int = 3
    """How many."""


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_volume(Path("results/up/map.mrc"), np.ones((8, 8, 8), dtype=np.float32), 1.5)
    Path("results/up/particles.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\n" + "1@a.mrcs\n" * 500, encoding="utf-8")
    Path("results/up/job.json").write_text(json.dumps({"job": "up", "type": "import_volume"}), encoding="utf-8")
    yield
    logging.basicConfig(force=True)


def rule(batch: str | None = None) -> Any:
    """What Snakemake gives a script."""
    wildcards = {"job": "a"} | ({"batch": batch} if batch else {})
    home, log = ("results/a", "logs/a.log") if batch is None else (f"results/a/batches/{batch}", f"logs/a/batches/{batch}.log")
    return SimpleNamespace(
        log=[log], output=SimpleNamespace(json=f"{home}/job.json"), wildcards=wildcards, threads=1, config={"title": "Night 12"},
        params=SimpleNamespace(settings={"type": "test", "revision": 1, "seed": 7, "count": 5}, inputs={"volume": ["results/up"]}),
    )  # fmt: skip


def fail(error: Exception, batch: str | None = None) -> None:
    with enter(rule(batch), Params):
        raise error


def packed(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_message_of_a_users_error_names_an_archive_that_tells_all():
    with pytest.raises(SystemExit, match=r"count is odd\n.*logs/a\.error\.zip"):
        fail(InputError("count is odd"))
    told = packed(Path("logs/a.error.zip"))
    failure = json.loads(told["failure.json"])
    assert (failure["job"], failure["type"], failure["settings"]["count"]) == ("a", "test", 5)
    assert "count is odd" in told["error.txt"]
    assert "count is odd" in told["log/a.log"]
    assert json.loads(told["session.json"])["title"] == "Night 12"
    assert any(line.startswith("numpy==") for line in told["versions.txt"].splitlines())


def test_any_other_error_keeps_its_kind_and_its_traceback_and_names_the_archive():
    with pytest.raises(ZeroDivisionError) as caught:
        fail(ZeroDivisionError("by zero"))
    assert "logs/a.error.zip" in caught.value.__notes__[0]
    told = packed(Path("logs/a.error.zip"))
    assert "Traceback" in told["error.txt"]
    assert "ZeroDivisionError: by zero" in told["log/a.log"]


def test_inputs_are_told_by_their_heads_and_not_by_their_contents():
    with pytest.raises(SystemExit):
        fail(InputError("no"))
    inputs = json.loads(packed(Path("logs/a.error.zip"))["inputs.json"])["results/up"]
    assert inputs["files"]["map.mrc"] == 1024 + 8**3 * 4
    assert "8 x 8 x 8" in inputs["maps"]["map.mrc"]
    assert "_rlnImageName #1" in inputs["tables"]["particles.star"]
    assert len(inputs["tables"]["particles.star"]) < 100
    assert inputs["record"]["type"] == "import_volume"


def test_no_private_variable_of_the_environment_is_told():
    with pytest.raises(SystemExit):
        fail(InputError("no"))
    told = packed(Path("logs/a.error.zip"))
    assert not any("hunter2" in text or "MY_PASSWORD" in text for text in told.values())
    assert json.loads(told["machine.json"])["environment"]["CUDA_VISIBLE_DEVICES"] == ""


def test_a_batch_has_its_own_archive():
    with pytest.raises(SystemExit, match=r"logs/a/batches/0003\.error\.zip"):
        fail(InputError("no"), "0003")
    assert json.loads(packed(Path("logs/a/batches/0003.error.zip"))["failure.json"])["batch"] == "0003"


def test_a_job_that_was_killed_is_told_from_its_log():
    with pytest.raises(KeyboardInterrupt), enter(rule(), Params):
        raise KeyboardInterrupt
    assert not archive_of(Path("logs/a.log")).exists()
    Path(".snakemake/log").mkdir(parents=True)
    Path(".snakemake/log/2026.snakemake.log").write_text("Exiting because a job execution failed\n", encoding="utf-8")
    told = packed(write_error_report(find_failure("a")))
    assert json.loads(told["failure.json"])["settings"]["count"] == 5
    assert "results/up" in json.loads(told["inputs.json"])
    assert "a job execution failed" in told["error.txt"]


def test_a_job_without_a_log_is_refused_with_those_that_have_one():
    with pytest.raises(SystemExit):
        fail(InputError("no"))
    with pytest.raises(InputError, match="jobs with a log: a"):
        find_failure("b")


def test_a_report_that_cannot_be_written_does_not_hide_the_error():
    Path("logs").mkdir()
    Path("logs/a.error.zip").mkdir()
    with pytest.raises(SystemExit, match="count is odd\nNo error report"):
        fail(InputError("count is odd"))
    assert not list(Path("logs").glob(".a.error*"))
