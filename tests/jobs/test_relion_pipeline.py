"""RELION's own pipeline picks and extracts in an exported project, and firn takes up what it made: the same exposures, places and images."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from firn.formats.mrc import write_image
from firn.formats.particles import load_images
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import export_relion, extract_particles, import_relion
from firn.runtime.entry import open_job

PIXEL, BOX, SHAPE = 4.0, 32, (320, 384)
PROJECT = Path("results/to_relion/project")
OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": PIXEL}
PICK = (
    "Input micrographs for autopick: == Import/job001/micrographs.star;OR: use Laplacian-of-Gaussian? == Yes;"
    "Min. diameter for LoG filter (A) == 80;Max. diameter for LoG filter (A) == 140;Pixel size in micrographs (A) == 4"
)
EXTRACT = (
    "micrograph STAR file:  == Import/job001/micrographs.star;"
    "Input coordinates:  == AutoPick/job002/coords_suffix_autopick.star;Particle box size (pix): == 32"
)

pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(shutil.which("relion_pipeliner") is None or shutil.which("relion_autopick") is None, reason="needs RELION"),
]


def relion(*command: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run folder with two micrographs of dark spots, exported, picked in and extracted from by RELION's pipeline, and brought back."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_table("results/ctf/exposures.star", _micrographs(), "exposures")
        inputs = {"exposures": ["results/ctf"]}
        with open_job(export_relion.Params, {"exposures": "ctf"}, inputs, Path("results/to_relion"), "to_relion", threads=1) as job:
            export_relion.run(job)
        for number, kind, options in ((2, "AutoPick", PICK), (3, "Extract", EXTRACT)):
            relion("relion_pipeliner", "--addJob", kind, "--addJobOptions", options)
            relion("relion_pipeliner", "--RunJobs", f"{kind}/job{number:03d}/", "--sec_wait_after", "0")
        with open_job(import_relion.Params, {"project": str(PROJECT)}, {}, Path("results/theirs"), "theirs", threads=1) as job:
            import_relion.run(job)
    return folder


@pytest.fixture(autouse=True)
def _in_run_folder(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder)


def _micrographs() -> pd.DataFrame:
    rows = []
    for number in range(2):
        chance, spots = np.random.default_rng(number), np.zeros(SHAPE)
        spots[chance.integers(50, 270, 12), chance.integers(50, 330, 12)] = -800
        image = chance.normal(size=SHAPE) + gaussian_filter(spots, 6)
        path = f"results/motion/batches/0001/m {number}.mrc"
        write_image(Path(path), image.astype(np.float32), PIXEL)
        place = {"exposure_id": f"e{number}", "batch": "0001", "micrograph": path, "width_px": SHAPE[1], "height_px": SHAPE[0]}
        rows.append(place | OPTICS | {"defocus_u": 15000.0 + number, "defocus_v": 14000.0, "defocus_angle": 20.0, "optics_name": "a"})
    return pd.DataFrame(rows)


def test_what_relion_made_belongs_to_the_exposures_that_went_there():
    before, after = (read_table(f"results/{name}/exposures.star", "exposures") for name in ("ctf", "theirs"))
    pd.testing.assert_frame_equal(after[before.columns], before, check_dtype=False)
    particles = read_table("results/theirs/particles.star", "particles")
    assert len(particles) > 20
    assert particles["exposure_id"].tolist() == [f"e{name[-5]}" for name in particles["micrograph"]]
    assert particles["micrograph"].unique().tolist() == before["micrograph"].tolist()


def test_picks_lie_where_relion_found_them():
    picks = read_table("results/theirs/picks.star", "picks")
    for number, rows in picks.groupby("exposure_id"):
        theirs = read_star(PROJECT / f"AutoPick/job002/results/motion/batches/0001/m {number[1:]}_autopick.star")[""]
        np.testing.assert_allclose(rows[["x_px", "y_px"]], theirs[["rlnCoordinateX", "rlnCoordinateY"]], atol=1e-6)
        np.testing.assert_allclose(rows["pick_score"], theirs["rlnAutopickFigureOfMerit"], atol=1e-6)


def test_firn_cuts_the_images_that_relion_cut():
    """RELION cuts at the pixel below a broken coordinate, firn at the nearest: where these are one, the images are too."""
    settings = {"exposures": "theirs", "picks": "theirs", "box_px": BOX}
    inputs = {name: ["results/theirs/batches/0001"] for name in ("exposures", "picks")}
    with open_job(extract_particles.Params, settings, inputs, Path("results/again"), "again", "0001", threads=1) as job:
        extract_particles.run(job)
    ours, theirs = (read_table(f"results/{name}/particles.star", "particles") for name in ("again", "theirs"))
    cut_at = np.floor(theirs[["x_px", "y_px"]].to_numpy()).astype(int)
    alike = (cut_at == np.floor(theirs[["x_px", "y_px"]].to_numpy() + 0.5)).all(axis=1)
    places = {(theirs["micrograph"][number], *cut_at[number]): number for number in np.flatnonzero(alike)}
    centres = zip(ours["micrograph"], *ours[["x_px", "y_px"]].to_numpy().astype(int).T, strict=True)
    pairs = [(number, places[centre]) for number, centre in enumerate(centres) if centre in places]
    assert len(pairs) > 5
    mine, other = load_images(ours), load_images(theirs)
    assert min(np.corrcoef(mine[one].ravel(), other[two].ravel())[0, 1] for one, two in pairs) > 0.999
