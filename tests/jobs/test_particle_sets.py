"""Sets and subsets of particles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from firn.errors import InputError
from firn.formats.tables import read_table, write_table
from firn.jobs import particle_sets, subset_particles
from firn.runtime.entry import open_job
from firn.runtime.job import Job


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, numbers: list[int], **columns: object) -> None:
    table = pd.DataFrame({"particle_id": [f"e1-{n:05d}" for n in numbers], "image": [f"{n:06d}@s.mrcs" for n in numbers]})
    table = table.assign(half=[1 + n % 2 for n in numbers], voltage_kv=300.0, image_pixel_size=1.0, psi=[float(n) for n in numbers])
    write_table(f"{name}/particles.star", table.assign(**columns), "particles")


def numbers(path: str) -> list[int]:
    table = read_table(f"results/job/{path}particles.star", "particles")
    return [int(name[-5:]) for name in table["particle_id"]] if len(table) else []


def combine(action: str, *folders: str) -> None:
    inputs = {"particles": [folders[0]], "others": list(folders[1:])}
    given = {"particles": folders[0], "others": list(folders[1:]), "action": action}
    with open_job(particle_sets.Params, given, inputs, Path("results/job"), "job", threads=1) as job:
        particle_sets.run(job)


def subset(**settings: object) -> Job:
    inputs = {"particles": ["a"]}
    with open_job(subset_particles.Params, {"particles": "a", **settings}, inputs, Path("results/job"), "job", threads=1) as job:
        subset_particles.run(job)
    return job


def test_sets_are_united_intersected_and_subtracted_by_name():
    write("a", [1, 2, 3, 4])
    write("b", [3, 4, 5], psi=[0.0, 0.0, 0.0])
    write("c", [4, 9])
    combine("union", "a", "b", "c")
    assert numbers("") == [1, 2, 3, 4, 5, 9]
    assert read_table("results/job/particles.star", "particles")["psi"].tolist() == [1, 2, 3, 4, 0, 9]
    combine("intersection", "a", "b", "c")
    assert numbers("") == [4]
    assert numbers("rest/") == [1, 2, 3]
    combine("difference", "a", "b", "c")
    assert numbers("") == [1, 2]
    assert numbers("rest/") == [3, 4]
    assert Path("results/job/figures/overlap.png").exists()


def test_a_particle_in_both_half_sets_and_an_empty_result_are_refused():
    write("a", [1, 2])
    write("b", [1, 2], half=[1, 1])
    with pytest.raises(InputError, match="halves must not mix"):
        combine("union", "a", "b")
    write("b", [5])
    with pytest.raises(InputError, match="intersection of a and b is empty"):
        combine("intersection", "a", "b")


def test_classes_and_the_range_of_a_column_are_kept_and_the_rest_is_the_rest():
    write("a", list(range(10)), class_number=[1, 2] * 5, class_probability=np.linspace(0, 0.9, 10))
    subset(classes=[2], column="class_probability", minimum=0.25)
    assert numbers("") == [3, 5, 7, 9]
    assert numbers("rest/") == [0, 1, 2, 4, 6, 8]
    subset(column="rlnMaxValueProbDistribution", maximum=0.15)
    assert numbers("") == [0, 1]


def test_a_random_part_has_its_size_keeps_the_order_and_is_the_same_again():
    write("a", list(range(200)))
    subset(fraction=0.25)
    first = numbers("")
    assert len(first) == 50
    assert first == sorted(first) != list(range(50))
    subset(fraction=0.25)
    assert numbers("") == first
    assert subset(count=500).warnings
    assert len(numbers("")) == 200


def test_balanced_halves_are_equal():
    write("a", list(range(30)), half=[1] * 20 + [2] * 10)
    subset(balance_halves=True)
    assert read_table("results/job/particles.star", "particles")["half"].value_counts().tolist() == [10, 10]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_share_out_every_particle_once(shuffle: bool):
    write("a", list(range(11)))
    subset(batches=3, shuffle=shuffle)
    parts = [numbers(f"split_{number}/") for number in (1, 2, 3)]
    assert sorted(number for part in parts for number in part) == list(range(11))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert (parts[0] == [0, 1, 2, 3]) is not shuffle


def test_unknown_columns_empty_results_and_contradictions_are_refused():
    write("a", [1, 2])
    with pytest.raises(InputError, match="no column nonsense"):
        subset(column="nonsense", minimum=0)
    with pytest.raises(InputError, match="none of the 2 particles"):
        subset(column="psi", minimum=5)
    for wrong in (
        {},
        {"minimum": 1.0},
        {"column": "psi"},
        {"fraction": 0.5, "count": 3},
        {"column": "psi", "minimum": 2.0, "maximum": 1.0},
    ):
        with pytest.raises(ValidationError):
            subset_particles.Params(particles="a", **wrong)
