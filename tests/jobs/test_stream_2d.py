"""stream_2d: rounds of a growing data set go on from each other, cheaper than from nothing and no worse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from false_picks import write_particles
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table, write_table
from firn.jobs import stream_2d
from firn.refine import class2d
from firn.runtime.entry import open_job
from firn.runtime.job import Job

SETTINGS = {"particles": "stack", "classes": 8, "iterations": 8, "max_resolution": 14.0, "particle_diameter": 120.0}


def round_of(particles: str, number: int, former: int | None = None, **settings: object) -> Job:
    inputs = {"particles": [f"results/{particles}"]} | ({"templates": [f"results/class2d/rounds/{former:04d}"]} if former else {})
    home = Path(f"results/class2d/rounds/{number:04d}")
    with open_job(stream_2d.Params, SETTINGS | settings, inputs, home, "class2d", threads=1) as job:
        stream_2d.run(job)
    return job


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Job]]:
    """Two rounds: 120 of 400 particles, then all; and all from nothing."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        table = write_particles(Path("results/stack"), 300, 100)
        write_table(Path("results/few/particles.star"), table.sample(120, random_state=1).sort_index(), "particles")
        return folder, [round_of("few", 1), round_of("stack", 2, former=1), round_of("stack", 3)]


def purity(folder: Path, number: int) -> float:
    particles = read_table(folder / f"results/class2d/rounds/{number:04d}/particles.star", "particles")
    true = particles.groupby("class_number")["firnTrue"].agg(["mean", "size"])
    return float((np.maximum(true["mean"], 1 - true["mean"]) * true["size"]).sum() / len(particles))


def test_a_round_holds_all_particles_and_keeps_false_picks_apart(rounds: tuple[Path, list[Job]]) -> None:
    folder, jobs = rounds
    assert [job.metrics["particles"]["value"] for job in jobs] == [120, 400, 400]
    assert purity(folder, 2) > 0.95


def test_going_on_resolves_no_less_than_starting_anew(rounds: tuple[Path, list[Job]]) -> None:
    first, second, anew = (job.metrics["mean_resolution"]["value"] for job in rounds[1])
    assert second < first
    assert second < 1.1 * anew


def test_classes_go_on_from_those_of_the_round_before(rounds: tuple[Path, list[Job]]) -> None:
    """Most earlier averages are found again, without turning or shifting them, in the next round but not in one from nothing."""
    stacks = [read_mrc(rounds[0] / f"results/class2d/rounds/{number:04d}/classes.mrcs")[0] for number in (1, 2, 3)]
    stacks = [stack[stack.any(axis=(1, 2))] for stack in stacks]
    flat = [(stack - stack.mean((1, 2), keepdims=True)).reshape(len(stack), -1) for stack in stacks]
    flat = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in flat]
    again, anew = (np.median((flat[0] @ other.T).max(1)) for other in flat[1:])
    assert again > 0.9
    assert anew < 0.7


def test_missing_classes_are_made_by_splitting(rounds: tuple[Path, list[Job]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rounds[0])
    few = round_of("few", 4, classes=3)
    assert few.metrics["classes"]["value"] == 3
    assert round_of("stack", 5, former=4).metrics["classes"]["value"] >= 7


@pytest.mark.parametrize("former", [None, 1], ids=["from nothing", "from classes"])
def test_a_round_killed_in_a_pass_ends_with_the_same_bits_and_repeats_that_pass_alone(
    rounds: tuple[Path, list[Job]], monkeypatch: pytest.MonkeyPatch, former: int | None
) -> None:
    monkeypatch.chdir(rounds[0])
    number, total = (6, 4) if former is None else (7, 3)
    settings = {"classes": 4, "iterations": 2, "final_iterations": 2}
    files = [Path(f"results/class2d/rounds/{number:04d}/{name}") for name in ("classes.mrcs", "classes.star", "particles.star")]
    round_of("few", number, former, **settings)
    whole = [read_mrc(files[0])[0], *(path.read_text() for path in files[1:])]
    iterate, steps = class2d.iterate, list[int]()

    def interrupted(*arguments: Any) -> class2d.State:
        steps.append(arguments[-2])
        if len(steps) in (2, 4):
            raise KeyboardInterrupt
        return iterate(*arguments)

    monkeypatch.setattr(class2d, "iterate", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            round_of("few", number, former, **settings)
    round_of("few", number, former, **settings)
    assert steps == [0, 1, 1, 2, 2, *range(3, total)]
    assert np.array_equal(read_mrc(files[0])[0], whole[0])
    assert [path.read_text() for path in files[1:]] == whole[1:]
