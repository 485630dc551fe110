"""Template picking: rotated templates find rotated particles, and name template and rotation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apoferritin import score_picks, write_exposures
from firn.errors import InputError
from firn.formats.mrc import write_image, write_stack
from firn.formats.tables import read_table, write_table
from firn.jobs import template_picker
from firn.runtime.entry import open_job


def _write_classes(folder: Path, images: np.ndarray, pixel_size: float) -> None:
    write_stack(folder / "classes.mrcs", images, pixel_size)
    names = [f"{number + 1:06d}@{folder}/classes.mrcs" for number in range(len(images))]
    write_table(folder / "classes.star", pd.DataFrame({"class_number": np.arange(1, len(images) + 1), "class_image": names}), "classes")


def _run(diameter: float, **settings: object) -> pd.DataFrame:
    wanted = {"type": "template_picker", "exposures": "ctf", "templates": "cls", "diameter": diameter, "plots": 0} | settings
    inputs = {"exposures": ["results/ctf/batches/0001"], "templates": ["results/cls"]}
    with open_job(template_picker.Params, wanted, inputs, Path("results/t/batches/0001"), "t", "0001", threads=1) as job:
        template_picker.run(job)
    return read_table("results/t/batches/0001/picks.star", "picks")


def _hand(angle: float, n: int, y0: float, x0: float, pixel_size: float) -> np.ndarray:
    """A long and a short arm at a right angle, 160 Å across, turned by an angle from +x towards +y; row, column of its centre."""
    y, x = np.mgrid[:n, :n].astype(float)
    turn = np.deg2rad(angle)
    u, v = (
        ((x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)) * pixel_size,
        ((y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)) * pixel_size,
    )
    arms = ((abs(v) < 20) & (abs(u) < 75)) | ((abs(u - 50) < 20) & (v > 0) & (v < 60))
    return arms.astype(np.float32)


def test_rotation_and_place_of_a_particle_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixel_size, places = 4.0, {30.0: (60.0, 70.0), -100.0: (130.0, 140.0), 175.0: (60.0, 190.0)}
    image = np.random.default_rng(1).normal(0, 0.7, (256, 256))
    for angle, (y, x) in places.items():
        image -= _hand(angle, 256, y, x, pixel_size)
    write_image("mic.mrc", image, pixel_size)
    row = {
        "exposure_id": "e1",
        "batch": "0001",
        "micrograph": "mic.mrc",
        "optics_name": "o",
        "voltage_kv": 300.0,
        "micrograph_pixel_size": pixel_size,
    }
    write_table("results/ctf/batches/0001/exposures.star", pd.DataFrame([row]), "exposures")
    decoy = np.roll(_hand(0.0, 96, 48, 48, 3.0), 0)[:, ::-1].copy()
    _write_classes(Path("results/cls"), np.stack((decoy, _hand(0.0, 96, 48, 48, 3.0))), 3.0)
    picks = _run(180, recentre=False)[:3]
    assert set(picks["class_number"]) == {2}
    for angle, (y, x) in places.items():
        nearest = picks.iloc[int(np.hypot(picks["x_px"] - x, picks["y_px"] - y).argmin())]
        assert np.hypot(nearest["x_px"] - x, nearest["y_px"] - y) * pixel_size < 20 / 2.4
        assert abs((nearest["psi"] + angle + 180) % 360 - 180) <= 5.01


def test_apoferritin_is_found_by_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exposures = write_exposures(Path("results/ctf"), 3)
    y, x = np.mgrid[:64, :64] - 32.0
    radius = np.hypot(y, x) * 3.0
    shell = np.sqrt(np.clip(62.0**2 - radius**2, 0, None)) - np.sqrt(np.clip(42.0**2 - radius**2, 0, None))
    _write_classes(Path("results/cls"), shell[None], 3.0)
    picks = _run(130, angular_step=90)
    best = max(score_picks(picks[picks["pick_score"] > least], exposures)[0] for least in np.linspace(0.2, 0.6, 9))
    assert best >= 0.93


def test_no_template_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_exposures(Path("results/ctf"), 1)
    write_table("results/cls/classes.star", pd.DataFrame({"class_number": [], "class_image": []}), "classes")
    with pytest.raises(InputError, match="has no class to pick with"):
        _run(130)
