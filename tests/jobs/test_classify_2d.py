"""classify_2d on simulated particles with false picks, from files to files."""

import json
from pathlib import Path

import numpy as np
import pytest

from false_picks import BOX, PIXEL_SIZE, classify, write_particles
from firn.errors import InputError
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table, write_table
from firn.refine import class2d


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with 150 particles, 50 false picks, and their classification."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_particles(Path("results/stack"), 150, 50)
        classify()
    return folder


@pytest.fixture
def here(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run_folder)
    return run_folder


def test_every_particle_gets_a_class_that_the_class_table_counts(here: Path) -> None:
    particles = read_table("results/class2d/particles.star", "particles", needs=("class_number", "psi", "origin_x", "class_probability"))
    classes = read_table("results/class2d/classes.star", "classes")
    counts = particles["class_number"].value_counts()
    assert len(particles) == 200
    assert classes["class_count"].tolist() == [counts[number] for number in classes["class_number"]]
    assert classes["class_count"].iloc[:-1].is_monotonic_decreasing
    assert classes["class_fraction"].sum() == pytest.approx(1, abs=1e-4)
    assert particles["class_probability"].between(0, 1.0001).all()


def test_averages_have_the_particles_box_and_show_white_molecules(here: Path) -> None:
    averages, pixel_size = read_mrc("results/class2d/classes.mrcs")
    classes = read_table("results/class2d/classes.star", "classes")
    assert averages.shape == (len(classes), BOX, BOX)
    assert pixel_size == pytest.approx(PIXEL_SIZE)
    best = averages[classes["class_gain"].to_numpy().argmax()]
    assert best.max() > 3 * abs(best.min())


def test_false_picks_do_not_share_classes_with_particles(here: Path) -> None:
    particles = read_table("results/class2d/particles.star", "particles")
    true = particles.groupby("class_number")["firnTrue"].agg(["mean", "size"])
    pure = (true["mean"].clip(lower=0.5).where(true["mean"] >= 0.5, 1 - true["mean"]) * true["size"]).sum() / len(particles)
    assert pure > 0.95


def test_false_picks_lie_in_a_class_of_their_own_with_an_empty_average(here: Path) -> None:
    particles, classes = read_table("results/class2d/particles.star", "particles"), read_table("results/class2d/classes.star", "classes")
    averages, _ = read_mrc("results/class2d/classes.mrcs")
    last = particles[particles["class_number"] == classes["class_number"].iloc[-1]]
    assert not averages[-1].any()
    assert averages[:-1].any(axis=(1, 2)).all()
    assert classes["class_gain"].iloc[-1] == 0
    assert (last["firnTrue"] == 0).sum() > 25
    assert (last["firnTrue"] == 1).sum() <= 3


def test_without_it_all_particles_stay_in_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 40, 20)
    classify(classes=3, iterations=3, unexplained=False)
    assert len(read_table("results/class2d/classes.star", "classes")) <= 3
    assert read_mrc("results/class2d/classes.mrcs")[0].any(axis=(1, 2)).all()


def test_psi_and_origin_undo_the_particles_pose(here: Path) -> None:
    """Relative to the class average, whose own angle and centre are free: spread within the largest class."""
    particles = read_table("results/class2d/particles.star", "particles")
    mine = particles[
        (particles["class_number"] == particles.loc[particles["firnTrue"] == 1, "class_number"].mode()[0]) & (particles["firnTrue"] == 1)
    ]
    difference = np.deg2rad(mine["psi"] - mine["firnTruePsi"])
    typical = np.angle(np.median(np.cos(difference)) + 1j * np.median(np.sin(difference)))
    assert np.median(np.abs(np.angle(np.exp(1j * (difference - typical))))) < np.deg2rad(3)
    error = np.stack((-mine["origin_y"] - mine["firnTrueShiftY"], -mine["origin_x"] - mine["firnTrueShiftX"]))
    psi = np.deg2rad(mine["psi"].to_numpy())
    in_average = np.stack((np.cos(psi) * error[0] + np.sin(psi) * error[1], np.cos(psi) * error[1] - np.sin(psi) * error[0]))
    assert np.median(np.abs(in_average - np.median(in_average, axis=1, keepdims=True))) < 0.4 * PIXEL_SIZE


def test_no_column_and_no_half_set_is_lost(here: Path) -> None:
    before, after = (read_table(f"results/{job}/particles.star", "particles") for job in ("stack", "class2d"))
    assert set(before.columns) <= set(after.columns)
    assert after["particle_id"].tolist() == before["particle_id"].tolist()
    assert after["half"].tolist() == before["half"].tolist()


def test_particles_of_one_half_set_alone_are_classified_as_those_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_particles(Path("results/stack"), 40, 0)
    averages = []
    for given in (table.drop(columns="half"), table.assign(half=1)):
        write_table("results/stack/particles.star", given, "particles")
        classify(classes=2, iterations=3, final_iterations=1)
        averages.append(read_mrc("results/class2d/classes.mrcs")[0])
    assert averages[0].any()
    assert np.array_equal(*averages)
    assert set(read_table("results/class2d/particles.star", "particles")["half"]) == {1}


def test_too_few_particles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 5, 0)
    with pytest.raises(InputError, match="has 5 particles"):
        classify()


def test_few_particles_get_fewer_classes_and_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 25, 0)
    job = classify(classes=50, iterations=1, final_iterations=1)
    assert any("2 are used" in sentence for sentence in job.warnings)
    assert len(read_table("results/class2d/classes.star", "classes")) <= 2


def told_of(folder: Path) -> dict[str, tuple[int, int]]:
    """(done, of) that the log of the classification tells last of each step."""
    notes = [json.loads(line) for line in Path(f"{folder}/logs/class2d.jsonl").read_text().splitlines()]
    return {note["step"]: (note["done"], note["of"]) for note in notes if "step" in note}


UNSETTLED = {"iterations": 4, "batch_per_class": 6}


@pytest.mark.parametrize(
    ("cut", "changes", "early"),
    [((3,), UNSETTLED, False), ((2, 6), UNSETTLED, False), ((7, 13), {"iterations": 20}, True)],
    ids=["once", "twice", "settled before its time"],
)
def test_a_run_killed_in_an_iteration_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: tuple[int, ...], changes: dict[str, int], early: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_particles(Path("results/stack"), 40, 10)
    iterate, steps = class2d.iterate, []

    def counted(*arguments):
        steps.append(arguments[-2])
        return iterate(*arguments)

    def interrupted(*arguments):
        state = counted(*arguments)
        if len(steps) in cut:
            raise KeyboardInterrupt
        return state

    settings = {"classes": 3, "final_iterations": 2} | changes
    monkeypatch.setattr(class2d, "iterate", counted)
    classify(**settings)
    whole, table, all_steps = (
        read_mrc("results/class2d/classes.mrcs")[0],
        read_table("results/class2d/particles.star", "particles"),
        steps[:],
    )
    assert (steps[-3] < settings["iterations"] - 1) == early
    assert told_of(tmp_path) == {
        "iterations, fewer once settled": (len(steps) - 2, settings["iterations"]),
        "passes over all particles": (2, 2),
    }
    steps.clear()
    monkeypatch.setattr(class2d, "iterate", interrupted)
    for _ in cut:
        with pytest.raises(KeyboardInterrupt):
            classify(**settings)
    classify(**settings)
    assert sorted(set(steps)) == all_steps
    assert len(steps) == len(all_steps) + len(cut)
    assert np.array_equal(read_mrc("results/class2d/classes.mrcs")[0], whole)
    assert read_table("results/class2d/particles.star", "particles").equals(table)
