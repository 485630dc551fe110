"""Faults of the machine and foes of the user: states that are no states, few file handles, disks written through the memory."""

import os
import pickle
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from firn.formats.movie import iterate_frames, read_header
from firn.runtime.checkpoint import Checkpoint
from firn.simulate.write_eer import write_eer_movie
from firn.simulate.write_movie import write_tiff_movie

ROOT = Path(__file__).resolve().parents[2]


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


@pytest.fixture
def state(tmp_path: Path) -> tuple[Checkpoint, Path]:
    checkpoint = Checkpoint(tmp_path / "state", {"a": 1})
    checkpoint.save({"number": 1})
    return checkpoint, next((tmp_path / "state").iterdir())


def test_a_state_that_holds_code_is_not_run_and_the_job_begins_anew(state: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    checkpoint, path = state
    torch.save({"number": Trap(tmp_path / "canary")}, path)
    assert checkpoint.load() is None
    path.write_bytes(pickle.dumps(Trap(tmp_path / "canary"), protocol=2))
    assert checkpoint.load() is None
    assert not (tmp_path / "canary").exists()


def test_a_damaged_state_is_told_and_the_job_begins_anew(state: tuple[Checkpoint, Path], caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, path = state
    sound = path.read_bytes()
    for damaged in (sound[: len(sound) // 2], b"", sound[:200] + bytes(200) + sound[400:], b"nothing"):
        path.write_bytes(damaged)
        assert checkpoint.load() is None
    assert len(caplog.messages) == 4
    assert all("begins anew" in message and "\n" not in message for message in caplog.messages)


def test_many_movies_are_read_with_few_file_handles(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).poisson(2.0, (30, 16, 16)).astype(np.uint8)
    write_tiff_movie(tmp_path / "a.tif", frames)
    write_eer_movie(tmp_path / "a.eer", frames, np.random.default_rng(2), pixel_size=1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))
    try:
        for number in range(20):
            path = tmp_path / ("a.tif" if number % 2 else "a.eer")
            read_header(path, eer_fractions=10)
            assert sum(1 for _ in iterate_frames(path, eer_fractions=10, threads=4)) in (10, 30)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_is_written_through_mapped_memory_where_a_full_disk_kills_without_a_word() -> None:
    mapped = re.compile(r"memmap\(|mmap_mode=|open_memmap|mrcfile\.mmap|mmap\.mmap")
    lines = [line for path in (ROOT / "scripts").rglob("*.py") for line in path.read_text().splitlines() if mapped.search(line)]
    assert [line for line in lines if 'mode="r"' not in line] == []


def test_no_rule_hands_anything_to_a_shell() -> None:
    rules = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    assert not [path.name for path in rules if re.search(r"^\s*(shell|run):", path.read_text(), re.MULTILINE)]


def test_the_table_of_faults_names_tests_that_are_there() -> None:
    named = re.findall(r"`(tests/[a-z_/0-9]+\.py)(?:::(test_[a-z0-9_]+))?`", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert len(named) > 60
    missing = [f"{path}::{name}" for path, name in named if f"def {name or 'test_'}" not in (ROOT / path).read_text(encoding="utf-8")]
    assert missing == []
