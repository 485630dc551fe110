"""Tuning of blobs: the size of unknown particles is found, handed to blob_picker, and refused where there is none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from firn.errors import InputError
from firn.formats.blobs import read_blobs, write_blobs
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import blob_picker, blob_picker_tuner
from firn.runtime.entry import open_job
from firn.runtime.job import Job

PIXEL, SIDE = 5.0, (520, 560)


def _place(chance: np.random.Generator, count: int, apart: float) -> np.ndarray:
    """Places yx in pixels, at least so far apart, a margin from the edges."""
    places: list[np.ndarray] = []
    for _ in range(5000):
        place = chance.uniform(apart / 2, np.array(SIDE) - apart / 2)
        if len(places) < count and all(np.hypot(*(place - other)) > apart for other in places):
            places.append(place)
    return np.array(places).reshape(-1, 2)


def _micrograph(diameter: float, places: np.ndarray, chance: np.random.Generator, contrast: float) -> np.ndarray:
    """Noise with dark ellipsoids in all directions whose mean axis is the diameter in Å, by their closed-form projection."""
    y, x = np.mgrid[: SIDE[0], : SIDE[1]] * PIXEL
    image = chance.normal(0, 1, SIDE)
    for cy, cx in places * PIXEL:
        turn, long = chance.uniform(0, np.pi), chance.uniform(0.85, 1.2) * diameter / 2
        short = diameter**2 / 4 / long
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        image -= contrast * np.sqrt(np.clip(1 - (u / long) ** 2 - (v / short) ** 2, 0, None))
    return image


def _session(diameter: float, count: int, contrast: float, seed: int) -> pd.DataFrame:
    """Two micrographs in results/ctf; the true picks."""
    chance = np.random.default_rng(seed)
    rows, truth = [], []
    for number in range(2):
        places = _place(chance, count, 1.15 * diameter / PIXEL)
        write_image(f"m{number}.mrc", _micrograph(diameter, places, chance, contrast), PIXEL)
        name = {
            "exposure_id": f"e{number}",
            "batch": "0001",
            "micrograph": f"m{number}.mrc",
            "optics_name": "o",
            "micrograph_pixel_size": PIXEL,
        }
        rows.append(name)
        truth.append(pd.DataFrame({"y_px": places[:, 0], "x_px": places[:, 1]}).assign(**name))
    for folder in ("results/ctf", "results/ctf/batches/0001"):
        write_table(f"{folder}/exposures.star", pd.DataFrame(rows), "exposures")
    return pd.concat(truth, ignore_index=True)


def _tune(**settings: object) -> Job:
    wanted = {"type": "blob_picker_tuner", "exposures": "ctf", "plots": 1} | settings
    inputs = {"exposures": ["results/ctf"]} | ({"picks": ["results/hand"]} if "picks" in settings else {})
    with open_job(blob_picker_tuner.Params, wanted, inputs, Path("results/tuner"), "tuner", threads=1) as job:
        blob_picker_tuner.run(job)
    return job


@pytest.mark.parametrize(("diameter", "count", "contrast"), [(85.0, 90, 2.0), (140.0, 60, 1.0), (300.0, 25, 0.8)])
def test_the_size_of_particles_is_found_and_they_are_picked_with_it(tmp_path, monkeypatch, diameter, count, contrast):
    monkeypatch.chdir(tmp_path)
    truth = _session(diameter, count, contrast, seed=int(diameter))
    job = _tune()
    assert job.metrics["diameter"]["value"] == pytest.approx(diameter, rel=0.15)
    low, high = read_blobs("results/tuner/blobs.yaml")
    assert low < diameter < high
    wanted = {"type": "blob_picker", "exposures": "ctf", "blobs": "tuner", "plots": 0}
    inputs = {"exposures": ["results/ctf/batches/0001"], "blobs": ["results/tuner"]}
    with open_job(blob_picker.Params, wanted, inputs, Path("results/blobs/batches/0001"), "blobs", "0001", threads=1) as job:
        blob_picker.run(job)
    picks = read_table("results/blobs/batches/0001/picks.star", "picks")
    assert job.metrics["min_diameter"]["value"] == low
    strongest = picks.sort_values("pick_score", ascending=False).groupby("exposure_id").head(int(0.8 * count))
    for row in strongest.itertuples():
        here = truth[truth["exposure_id"] == row.exposure_id]
        assert np.hypot(here["x_px"] - row.x_px, here["y_px"] - row.y_px).min() < 0.3 * diameter / PIXEL


def test_picks_made_by_hand_tell_where_to_measure_the_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = _session(150.0, 60, 1.0, seed=5)
    Path("results/hand").mkdir()
    by_hand = truth[truth["exposure_id"] == "e1"].iloc[:25]
    write_table("results/hand/picks.star", by_hand, "picks")
    job = _tune(picks="hand")
    assert job.metrics["diameter"]["value"] == pytest.approx(150.0, rel=0.15)
    assert job.metrics["picks made by hand that are found"]["value"] > 0.5
    assert 0 < job.metrics["min_ncc"]["value"] < 1
    assert {path.name for path in Path("results/tuner/figures").iterdir()} == {"diameters.png", "picks_e1.png"}


def test_noise_has_no_size_and_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _session(100.0, 0, 1.0, seed=6)
    with pytest.raises(InputError, match=r"no clear size of particles in 2 micrographs .*: give blob_picker min_diameter"):
        _tune()


def test_unreadable_micrographs_are_listed_and_none_at_all_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _session(140.0, 60, 1.0, seed=7)
    Path("m0.mrc").write_bytes(b"short")
    _tune(smallest=100, largest=300)
    assert read_table("results/tuner/failed.star", "failed")["exposure_id"].tolist() == ["e0"]
    Path("m1.mrc").write_bytes(b"short")
    with pytest.raises(InputError, match="no micrograph could be read"):
        _tune()


def test_micrographs_smaller_than_the_blobs_and_foreign_picks_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = _session(140.0, 20, 1.0, seed=8)
    with pytest.raises(InputError, match="too small to look for blobs of 450 Å"):
        _tune(smallest=450)
    Path("results/hand").mkdir()
    write_table("results/hand/picks.star", truth.assign(exposure_id="other"), "picks")
    with pytest.raises(InputError, match="lie in none of the exposures"):
        _tune(picks="hand")


@pytest.mark.parametrize("settings", [{}, {"min_diameter": 100}, {"blobs": "tuner", "max_diameter": 100}])
def test_a_picker_needs_both_diameters_or_a_tuner(settings):
    with pytest.raises(ValidationError, match="give min_diameter and max_diameter, or, as blobs"):
        blob_picker.Params(exposures="ctf", **settings)


def test_given_diameters_win_over_the_tuner(tmp_path):
    params = blob_picker.Params(exposures="ctf", blobs="tuner", min_diameter=100, max_diameter=120)
    assert (params.min_diameter, params.max_diameter) == (100, 120)


@pytest.mark.parametrize("text", ["", "a: [", "min_diameter: 100", json.dumps({"min_diameter": 120, "max_diameter": 100})])
def test_a_file_without_diameters_in_order_is_refused(tmp_path, text):
    (tmp_path / "blobs.yaml").write_text(text)
    with pytest.raises(InputError, match=r"blobs.yaml"):
        read_blobs(tmp_path / "blobs.yaml")


def test_diameters_return_from_their_file(tmp_path):
    write_blobs(tmp_path / "blobs.yaml", 100.04, 160.06, "why", {100.0: 0.5})
    assert read_blobs(tmp_path / "blobs.yaml") == (100.0, 160.1)
