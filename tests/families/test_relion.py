"""RELION's refinement as a program apart: processes, devices, its own arguments and the user's, what it says, classes by size."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from firn.errors import InputError
from firn.families.relion import Listener, by_size, merged, rank_count, resources, worker_count
from firn.jobs.relion_refine3d import Params


def params(**settings: Any) -> Params:
    return Params(particles="a", volume="b", particle_diameter=100, **settings)


@pytest.mark.parametrize(("workers", "halves", "ranks"), [(1, False, 1), (2, False, 3), (5, False, 6), (2, True, 3), (4, True, 5)])
def test_mpi_starts_one_process_more_than_work_and_none_for_a_single_worker(workers: int, halves: bool, ranks: int) -> None:
    assert rank_count(worker_count(params(workers=workers), halves), halves) == ranks


def test_independent_halves_have_two_workers_unless_told_and_never_an_odd_number() -> None:
    assert worker_count(params(), halves=True) == 2
    assert worker_count(params(), halves=False) == 1
    for workers in (1, 3):
        with pytest.raises(InputError, match=f"workers: {workers} cannot be shared evenly"):
            worker_count(params(workers=workers), halves=True)


@pytest.mark.parametrize(("devices", "halves", "workers"), [(1, False, 1), (3, False, 3), (3, True, 4), (4, True, 4)])
def test_every_device_has_a_worker(devices: int, halves: bool, workers: int) -> None:
    assert worker_count(params(devices=devices), halves) == workers


def test_every_worker_has_a_leased_device_in_turn_and_its_share_of_the_threads() -> None:
    gpus = [torch.device("cuda", number) for number in (3, 5)]
    given = dict(option for option in resources(params(), 4, gpus, 16) if len(option) == 2)
    assert given == {"--j": "4", "--pool": "3", "--gpu": "3:5:3:5"}
    assert ["--gpu", "3:3"] in resources(params(), 2, gpus[:1], 16)
    cpu = [torch.device("cpu")]
    alone = [option[0] for option in resources(params(threads_per_worker=5), 1, cpu, 16)]
    assert alone == ["--j", "--pool", "--dont_combine_weights_via_disc"]
    assert ["--j", "5"] in resources(params(threads_per_worker=5), 1, cpu, 16)
    assert ["--j", "1"] in resources(params(), 4, cpu, 2)


def test_the_users_arguments_take_the_place_of_ours() -> None:
    assert merged([["--a"], ["--gpu", "0:0"], ["--j", "1"]], ["--gpu", "0:1", "--x"]) == ["--a", "--j", "1", "--gpu", "0:1", "--x"]


def test_progress_and_the_reason_of_a_failure_are_heard() -> None:
    notes: list[dict[str, Any]] = []
    listener = Listener(SimpleNamespace(progress=SimpleNamespace(note=lambda **fields: notes.append(fields))))  # type: ignore[arg-type]
    for line in ("CurrentResolution= 12.5 Angstroms, which requires", "Expectation iteration 4 of 25", '000/??? sec ~~(,_,">'):
        listener(line)
    listener("Expectation iteration 5")
    assert notes == [
        {"step": "iterations", "done": 3, "resolution": 12.5, "of": 25},
        {"step": "iterations", "done": 4, "resolution": 12.5},
    ]
    for line in ("in: exp_model.cpp, line 7", "ERROR:", "File is not there", "=== Backtrace ==="):
        listener(line)
    assert listener.error == "File is not there"


def test_classes_are_numbered_by_size_and_empty_ones_come_last() -> None:
    order, posed = by_size(pd.DataFrame({"class_number": [4, 2, 4, 4, 2, 1]}), 5)
    assert order.tolist() == [3, 1, 0, 2, 4]
    assert posed["class_number"].tolist() == [1, 2, 1, 1, 2, 3]
    assert np.all(order[posed["class_number"] - 1] + 1 == [4, 2, 4, 4, 2, 1])
