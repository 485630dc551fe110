"""The real Topaz, where it is on the PATH or FIRN_TOPAZ names it: trained, picked and denoised with on a measured micrograph of apoferritin.

It draws its steps by chance that cannot be fixed, so what is asserted leaves wide room.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from apoferritin import LABELS, MATCH_PX, ROOT
from firn.formats.mrc import read_mrc, write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import topaz_denoise, topaz_picker, topaz_train
from firn.runtime.entry import open_job

TOPAZ = shutil.which(os.environ.get("FIRN_TOPAZ", "topaz"))
pytestmark = [pytest.mark.topaz, pytest.mark.skipif(TOPAZ is None, reason="needs Topaz")]
NAME, SIDE, PIXEL_SIZE = "May08_03.05.02.bin_avg", 602, 1.5
"""Pixels of the corner that is used; no multiple of what it is made smaller by."""
UP = "results/ctf/batches/0001"
SHARED = {"batch": "0001", "micrograph_pixel_size": PIXEL_SIZE, "voltage_kv": 300.0}


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two exposures of one corner of a micrograph; centres xy of its particles."""
    monkeypatch.chdir(tmp_path)
    image = read_mrc(ROOT / f"demo/empiar-10146/{NAME}.mrc")[0][:SIDE, :SIDE]
    points = pd.read_csv(LABELS / f"{NAME}.csv")[["x_px", "y_px"]].to_numpy(dtype=float)
    points = points[(points < SIDE).all(1)]
    for name in ("a", "b"):
        write_image(f"{name}.mrc", image, PIXEL_SIZE)
    rows = [SHARED | {"exposure_id": name, "micrograph": f"{name}.mrc"} for name in ("a", "b")]
    write_table(f"{UP}/exposures.star", pd.DataFrame(rows[:1]), "exposures")
    picks = [pd.DataFrame(points, columns=["x_px", "y_px"]).assign(**row) for row in rows]
    write_table("results/known/picks.star", pd.concat(picks), "picks")
    return points


def picked(**settings: object) -> pd.DataFrame:
    wanted = {"type": "topaz_picker", "exposures": "ctf", "diameter": 130, "executable": TOPAZ, "plots": 0} | settings
    home, inputs = Path("results/picks/batches/0001"), {"exposures": [UP]}
    inputs |= {"trained": ["results/trained"]} if "trained" in settings else {}
    with open_job(topaz_picker.Params, wanted, inputs, home, "picks", "0001", threads=1) as job:
        topaz_picker.run(job)
    return read_table(home / "picks.star", "picks")


def test_its_own_model_finds_particles_where_people_do(labels: np.ndarray) -> None:
    """Two thirds are found and two thirds of the finds are right, each within a quarter of the particle's diameter."""
    picks = picked(downsampling=4, threshold=-1)
    found = picks[["x_px", "y_px"]].to_numpy(dtype=float)
    distances = cdist(found, labels)
    pairs = linear_sum_assignment(np.where(distances <= MATCH_PX, distances, 1e6))
    right = distances[pairs] <= MATCH_PX
    assert right.sum() > 2 / 3 * max(len(found), len(labels)) - 5
    offsets = (found[pairs[0]] - labels[pairs[1]])[right]
    assert np.abs(np.median(offsets, axis=0)).max() < 6
    assert json.loads(Path("results/picks/batches/0001/topaz.json").read_text())["version"] != "unknown"


def test_it_trains_a_model_that_picks() -> None:
    """The share told to Topaz leaves it the unknown particles, and the model that it writes is one that it reads."""
    wanted = {"type": "topaz_train", "picks": "known", "expected_particles": 80, "downsampling": 4, "epochs": 2, "updates": 2}
    wanted |= {"executable": TOPAZ, "test_fraction": 0.5, "arguments": ["--minibatch-size=64"]}
    with open_job(topaz_train.Params, wanted, {"picks": ["results/known"]}, Path("results/trained"), "trained", threads=1) as job:
        topaz_train.run(job)
    curve = pd.read_csv("results/trained/training.tsv", sep="\t")
    assert curve["split"].tolist() == ["train", "train", "test"] * 2
    assert len(picked(trained="trained", threshold=-6)) > 5


def test_it_denoises_a_micrograph_and_keeps_its_size_and_grey_values() -> None:
    wanted = {"type": "topaz_denoise", "exposures": "ctf", "executable": TOPAZ, "model": "unet-small", "plots": 0}
    wanted |= {"arguments": ["--patch-size=256", "--patch-padding=64"]}
    home = Path("results/clean/batches/0001")
    with open_job(topaz_denoise.Params, wanted, {"exposures": [UP]}, home, "clean", "0001", threads=1) as job:
        topaz_denoise.run(job)
    row = read_table(home / "exposures.star", "exposures").iloc[0]
    before, after = read_mrc(row["micrograph"])[0], read_mrc(row["micrograph_denoised"])[0]
    assert before.shape == after.shape
    assert abs(after.mean() - before.mean()) < 0.2 * before.std()
    assert np.diff(after, axis=0).std() < 0.5 * np.diff(before, axis=0).std()
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.3
