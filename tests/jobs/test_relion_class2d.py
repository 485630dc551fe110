"""2D classification by RELION: the real one where it is installed, cut short and gone on with, and a stand-in for what it is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.families import relion
from firn.families.relion import Listener
from firn.formats.mrc import read_mrc
from firn.formats.particles import read_particles
from firn.formats.tables import read_table
from firn.jobs import relion_class2d
from firn.runtime.entry import open_job
from refine_session import PIXEL, write_session
from relion_stand_in import install

HOME = Path("results/classes")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def classify(**settings: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    wanted = {"type": "relion_class2d", "particles": "keep", "particle_diameter": 115} | settings
    with open_job(relion_class2d.Params, wanted, {"particles": ["keep"]}, HOME, "classes", threads=3) as job:
        relion_class2d.run(job)
    return read_particles(HOME / "particles.star"), read_table(HOME / "classes.star", "classes")


@pytest.mark.relion
@pytest.mark.skipif(not shutil.which("relion_refine"), reason="needs RELION")
def test_relion_classifies_and_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    write_session(Path(), 60, snr=2.0)

    class Impatient(Listener):
        def __call__(self, line: str) -> None:
            super().__call__(line)
            if "Expectation iteration 3" in line:
                raise KeyboardInterrupt

    monkeypatch.setattr(relion, "Listener", Impatient)
    settings = {"classes": 3, "iterations": 4, "psi_step": 24, "pad": 1, "offset_range": 2}
    with pytest.raises(KeyboardInterrupt):
        classify(**settings)
    monkeypatch.setattr(relion, "Listener", Listener)
    particles, classes = classify(**settings)
    (arguments,) = json.loads((HOME / "relion.json").read_text())["arguments"]
    assert arguments[0] == "--continue"
    assert arguments[1].endswith("run_it002_optimiser.star")
    counts = classes["class_count"].tolist()
    assert sum(counts) == 60
    assert counts == sorted(counts, reverse=True)
    assert np.bincount(particles["class_number"])[1:].tolist() == counts
    averages, pixel_size = read_mrc(HOME / "classes.mrcs")
    assert averages.reshape(-1, 32, 32).shape[0] == len(classes)
    assert pixel_size == pytest.approx(PIXEL)
    largest = averages.reshape(-1, 32, 32)[0]
    assert largest[12:20, 12:20].mean() > 5 * abs(largest[:4].mean())


def test_one_worker_needs_no_mpi_and_classes_come_back_by_size_with_their_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path("bin"))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    write_session(Path(), 20, snr=1.0)
    particles, classes = classify(classes=5, iterations=2, threads_per_worker=3)
    assert not Path("mpirun.txt").exists()
    told = json.loads((HOME / "relion.json").read_text())
    (arguments,) = told["arguments"]
    assert told["program"] == str(Path("bin/relion_refine").absolute())
    assert told["version"] == "RELION version: 0.0"
    named = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert {name: named[name] for name in ("--K", "--iter", "--tau2_fudge", "--psi_step", "--j")} == {
        "--K": "5", "--iter": "2", "--tau2_fudge": "2", "--psi_step": "12", "--j": "3",
    }  # fmt: skip
    assert not {"--ref", "--split_random_halves", "--auto_refine"} & set(arguments)
    # The stand-in deals its reversed rows to classes 1, 2, 3 in turn: 7, 7 and 6 of 20; its averages hold their class's number.
    assert classes["class_count"].tolist() == [7, 7, 6]
    assert classes["class_fraction"].sum() == pytest.approx(1)
    assert classes["class_resolution"].tolist() == [32 * PIXEL] * 3
    assert read_mrc(HOME / "classes.mrcs")[0][:, 5, 5].tolist() == [1, 2, 3]
    assert particles["class_number"].tolist() == [(19 - row) % 3 + 1 for row in range(20)]
    assert particles["psi"].tolist() == [0] * 20
    assert (HOME / "relion" / "run_it002_model.star").exists()


def test_two_workers_are_three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path("bin"))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    write_session(Path(), 6, snr=1.0)
    classify(classes=2, iterations=1, workers=2, executable=str(Path("bin/relion_refine").absolute()))
    assert Path("mpirun.txt").read_text().split("\n")[:3] == ["-n", "3", str(Path("bin/relion_refine_mpi").absolute())]
