"""Orientation diagnostics tell a full set of views from one with preferred orientation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.formats.mrc import write_volume
from firn.formats.star import read_star
from firn.jobs import orientation_diagnostics, reconstruct
from firn.runtime.entry import open_job
from firn.simulate.phantom import random_phantom
from half_maps import atoms_map, noisy_halves, write_halves
from posed_particles import random_angles, write_particles

BOX, PIXEL = 32, 5.0
PHANTOM = random_phantom(60, 45.0, seed=4, widths=(2.0, 3.0))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def diagnose(volume: str, particles: str | None = None, mask: str | None = None, **settings: Any) -> dict[str, Any]:
    slots = {name: folder for name, folder in (("volume", volume), ("particles", particles), ("mask", mask)) if folder}
    inputs = {name: [folder] for name, folder in slots.items()}
    given = {"type": "orientation_diagnostics", **slots, **settings}
    with open_job(orientation_diagnostics.Params, given, inputs, Path("results/views"), "views", threads=1) as job:
        orientation_diagnostics.run(job)
    return json.loads(Path("results/views/job.json").read_text(encoding="utf-8"))


def rebuild(angles: np.ndarray) -> None:
    write_particles("posed", PHANTOM, angles, BOX, PIXEL, snr=0.02)
    inputs = {"particles": ["posed"]}
    with open_job(reconstruct.Params, {"particles": "posed"}, inputs, Path("results/map"), "map", threads=1) as job:
        reconstruct.run(job)


def test_all_views_are_isotropic_and_mostly_top_views_are_not():
    angles = random_angles(1200)
    rebuild(angles)
    even = diagnose("results/map", "results/map", directions=512)
    chance = np.random.default_rng(2)
    angles[:, 1] = np.where(chance.random(len(angles)) < 0.05, angles[:, 1], chance.uniform(0, 15, len(angles)))
    rebuild(angles)
    top = diagnose("results/map", "results/map", directions=512)
    values = [{name: metric["value"] for name, metric in record["metrics"].items()} for record in (even, top)]
    assert values[0]["cfar"] > 0.6 > 0.5 > values[1]["cfar"]
    assert values[0]["scf"] > 0.9 > 0.3 > values[1]["scf"]
    assert values[1]["resolution_worst_direction"] > 1.5 * values[1]["resolution_best_direction"]
    assert any("anisotropic" in warning for warning in top["warnings"])
    assert any("unevenly" in warning for warning in top["warnings"])
    table = read_star("results/views/directions.star")["directions"]
    upright = table["rlnAngleTilt"] < 30
    assert table["firnConicalResolution"][upright].mean() > 1.2 * table["firnConicalResolution"][~upright].mean()
    assert table["firnRelativeSignal"][upright].mean() > table["firnRelativeSignal"][~upright].mean()


def test_symmetry_multiplies_the_views():
    table = write_particles("posed", PHANTOM, np.array([[0.0, 90.0, 0.0], [3.0, 90.0, 40.0]] * 10), BOX, PIXEL)
    write_halves(Path("map"), noisy_halves(atoms_map(BOX, PIXEL, b_factor=900.0), 1.0), PIXEL)
    assert len(table) == 20
    plain = diagnose("map", "posed", directions=512)["metrics"]["unmeasured"]["value"]
    assert diagnose("map", "posed", directions=512, symmetry="C7")["metrics"]["unmeasured"]["value"] < plain - 20


def test_agreement_up_to_nyquist_is_remarked_upon():
    write_halves(Path("map"), noisy_halves(atoms_map(BOX, PIXEL, b_factor=300.0), 0.01), PIXEL)
    write_volume("own/mask.mrc", np.ones((BOX,) * 3, np.float32), PIXEL)
    assert any("Nyquist" in warning for warning in diagnose("map", mask="own")["warnings"])
