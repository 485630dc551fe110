"""A round is made from its plan: of accepted exposures only, once, and with a sentence where its particles cannot do."""

import json
from pathlib import Path
from typing import Any

import pytest

from false_picks import write_particles
from firn.errors import InputError, MachineError
from firn.formats.tables import read_table, write_table
from firn.jobs import stream_2d
from firn.runtime.round_try import accepted_particles, gathered, make_round


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two batches of ten particles, each of exposures a and b in turn; and one without any."""
    monkeypatch.chdir(tmp_path)
    for batch in ("0001", "0002"):
        folder = Path(f"results/stack/batches/{batch}")
        table = write_particles(folder, 10, 0)
        write_table(folder / "particles.star", table.assign(exposure_id=[f"{'ab'[row % 2]}{batch}" for row in range(10)]), "particles")
    return tmp_path


def plan(sources: dict[str, dict[str, list[str]]], **settings: Any) -> dict[str, Any]:
    settings = {"type": "stream_2d", "revision": 1, "seed": 1, "classes": 2, "particle_diameter": 120.0, "max_resolution": 16.0} | settings
    inputs = {"particles": ["sources"]}
    return {"job": "class2d", "role": "classify", "number": 3, "lane": None, "settings": settings, "inputs": inputs, "sources": sources}


def test_particles_of_rejected_exposures_and_missing_batches_are_left_out(run_folder: Path) -> None:
    found = accepted_particles({"stack": {"0001": ["a0001"], "0002": ["a0002", "b0002"], "0003": ["a0003"]}})
    assert found["exposure_id"].value_counts().to_dict() == {"a0001": 5, "a0002": 5, "b0002": 5}


def test_no_particle_at_all_is_said(run_folder: Path) -> None:
    with pytest.raises(InputError, match="no accepted exposure has a particle"):
        accepted_particles({"stack": {"0001": []}})


def test_gathered_particles_go_when_the_round_is_made(run_folder: Path) -> None:
    home = Path("results/class2d/rounds/0003")
    with gathered(plan({"stack": {"0001": ["a0001", "b0001"]}}), home) as inputs:
        assert len(read_table(Path(inputs["particles"][0]) / "particles.star", "particles")) == 10
    assert not Path(inputs["particles"][0]).exists()


def test_a_round_whose_particles_cannot_do_is_refused_with_a_sentence(run_folder: Path) -> None:
    make_round(plan({"stack": {"0001": ["a0001"]}}), Path("live/rounds/class2d/0003/1.json"), 1)
    assert "needs at least 20" in json.loads(Path("live/rounds/class2d/0003/1.json").read_text())["refused"]
    assert not Path("results/class2d/rounds/0003").exists()


def test_a_round_without_memory_is_no_fault_of_its_particles(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stream_2d, "run", greedy)
    with pytest.raises(MachineError, match="out of memory"):
        make_round(plan({"stack": {"0001": ["a0001"]}}), Path("live/rounds/class2d/0003/1.json"), 1)
    assert not Path("live/rounds").exists()


def test_a_round_that_is_there_is_not_made_again(run_folder: Path) -> None:
    """Such as one whose record alone was lost."""
    sources = {"stack": {batch: [f"a{batch}", f"b{batch}"] for batch in ("0001", "0002")}}
    make_round(plan(sources, iterations=1, final_iterations=1), Path("live/rounds/class2d/0003/1.json"), 1)
    made = Path("results/class2d/rounds/0003/job.json").stat().st_mtime_ns
    make_round(plan({}), Path("live/rounds/class2d/0003/2.json"), 1)
    assert Path("results/class2d/rounds/0003/job.json").stat().st_mtime_ns == made
    assert json.loads(Path("live/rounds/class2d/0003/2.json").read_text()) == {"folder": "results/class2d/rounds/0003"}
