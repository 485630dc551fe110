"""Global CTF refinement as a job: what a microscope did wrong is found and mends the map; noise changes nothing; RELION agrees."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.aberrations import optics_groups
from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import ctf_refine_global, reconstruct, simulate_particles
from firn.runtime.entry import open_job

BOX, PIXEL = 64, 1.4
POSE = ("rot", "tilt", "psi", "origin_x", "origin_y")


def run_job(module, settings: dict, inputs: dict, name: str):
    title = "stack" if module is simulate_particles else name
    with open_job(module.Params, settings, inputs, Path(f"results/{name}"), title, threads=1) as job:
        module.run(job)
    return job


def simulate(count: int, seed: int, name: str = "stack", snr: float = 1.0, **microscope) -> pd.DataFrame:
    """Particles in their true poses, with a table that knows nothing of the aberrations; returns the truth."""
    settings = {"particles": count, "box_px": BOX, "pixel_size": PIXEL, "phantom_radius": 28, "resolution": 2.8, "snr": snr, "seed": seed}
    settings |= {"defocus_min": 6000, "defocus_max": 12000, "shift_sd": 1.0}
    run_job(simulate_particles, settings | microscope, {}, name)
    truth = read_table(f"results/{name}/truth/particles.star", "particles")
    table = read_table(f"results/{name}/particles.star", "particles")
    write_table(f"results/{name}/particles.star", table.assign(**{column: truth[column] for column in POSE}, optics_name="g"), "particles")
    return truth


def near_truth(name: str = "stack", folder: str = "map") -> None:
    """Half maps of the true structure with independent noise of their own."""
    volume, chance = read_mrc(f"results/{name}/truth/model.mrc")[0], np.random.default_rng(3)
    Path(f"results/{folder}").mkdir(parents=True)
    for half in (1, 2):
        noisy = volume + 0.05 * volume.std() * chance.normal(size=volume.shape)
        write_volume(f"results/{folder}/half{half}.mrc", noisy.astype(np.float32), PIXEL)


def refine(particles: str = "stack", volume: str = "map", **settings):
    inputs = {"particles": [f"results/{particles}"], "volume": [f"results/{volume}"]}
    return run_job(ctf_refine_global, {"particles": particles, "volume": volume, "max_resolution": 3.0, **settings}, inputs, "ctf")


def likeness(volume: np.ndarray, truth: np.ndarray, low: float, high: float) -> float:
    """Correlation of two maps in a band of resolutions in Å."""
    grid = np.meshgrid(*[np.fft.fftfreq(BOX, PIXEL)] * 2, np.fft.rfftfreq(BOX, PIXEL), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    band = (radius > 1 / low) & (radius < 1 / high)
    one, other = (np.fft.rfftn(part)[band] for part in (volume, truth))
    return float((one * other.conj()).real.sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_tilt_and_trefoil_are_found_and_the_map_gets_better():
    truth = simulate(300, seed=21, snr=3.0, beam_tilt=(0.9, -0.6), trefoil=(2e4, 40.0))
    before = run_job(reconstruct, {"particles": "stack"}, {"particles": ["results/stack"]}, "before")
    refine(volume="before", max_resolution=3.3)
    after = run_job(reconstruct, {"particles": "ctf"}, {"particles": ["results/ctf"]}, "after")
    found, true = (optics_groups(table)[0] for table in (read_table("results/ctf/particles.star", "particles"), truth))
    assert np.abs(np.subtract(found.tilt, true.tilt)).max() < 0.1
    assert np.abs(found.odd - true.odd).max() < 0.2 * np.abs(true.odd).max()
    model = read_mrc("results/stack/truth/model.mrc")[0]
    worse, better = (likeness(read_mrc(f"results/{name}/map.mrc")[0], model, 4.0, 3.1) for name in ("before", "after"))
    assert better > worse + 0.1
    assert after.metrics["resolution_corrected"]["value"] < before.metrics["resolution_corrected"]["value"]


def test_found_errors_lie_within_their_stated_size():
    truth = optics_groups(simulate(150, seed=4, beam_tilt=(0.5, 0.3), trefoil=(3e4, 10.0)))[0]
    near_truth()
    refine()
    row = read_star("results/ctf/aberrations.star")["aberrations"].iloc[0]
    for place, axis in enumerate("XY"):
        assert abs(row[f"rlnBeamTilt{axis}"] - truth.tilt[place]) < 4 * row[f"firnErrorTilt{axis}"]
        assert row[f"firnErrorTilt{axis}"] < 0.15
    assert abs(row["firnTrefoil"] - 3e4) < 4 * row["firnErrorTrefoilX"]
    assert abs((row["firnTrefoilAngle"] - 10 + 60) % 120 - 60) < 15


def test_spherical_aberration_and_tetrafoil_are_found():
    truth = simulate(300, seed=9, tetrafoil=(4e6, 15.0))
    near_truth()
    table = read_table("results/stack/particles.star", "particles")
    write_table("results/stack/particles.star", table.assign(cs_mm=2.4), "particles")
    refine(fit_cs=True, fit_tetrafoil=True, fit_tilt=False, fit_trefoil=False)
    after = read_table("results/ctf/particles.star", "particles")
    found, true = optics_groups(after)[0], optics_groups(truth)[0]
    assert found.cs_mm == pytest.approx(2.7, abs=0.1)
    assert np.abs(found.even[[4, 8]] - true.even[[4, 8]]).max() < 0.1 * np.abs(true.even).max()
    assert np.abs(after["defocus_u"] - truth["defocus_u"]).max() < 50


def test_uneven_magnification_is_found_and_the_defocus_follows_it():
    truth = simulate(200, seed=13, magnification=(1.008, 0.004, 0.004, 0.992))
    near_truth()
    before = read_table("results/stack/particles.star", "particles")
    refine(fit_magnification=True)
    after = read_table("results/ctf/particles.star", "particles")
    assert np.abs(optics_groups(after)[0].magnification - optics_groups(truth)[0].magnification).max() < 0.001
    for name in ("defocus_u", "defocus_v"):
        assert np.abs(after[name] - truth[name]).median() < 0.25 * np.abs(before[name] - truth[name]).median()


def test_images_of_pure_noise_change_nothing():
    simulate(200, seed=2)
    near_truth()
    noise = np.random.default_rng(7).normal(size=(200, BOX, BOX)).astype(np.float32)
    write_stack("results/stack/particles.mrcs", noise, PIXEL)
    job = refine(fit_cs=True, fit_tetrafoil=True, fit_magnification=True)
    before, after = (read_table(f"results/{name}/particles.star", "particles") for name in ("stack", "ctf"))
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert not any(name.startswith(("beam_tilt", "odd_", "even_", "magnification")) for name in after.columns)
    assert "nothing beyond the noise" in job.warnings[0]


def test_a_microscope_without_faults_is_left_alone():
    simulate(200, seed=31)
    near_truth()
    refine(fit_cs=True, fit_tetrafoil=True, fit_magnification=True)
    row = read_star("results/ctf/aberrations.star")["aberrations"].iloc[0]
    assert row[[label for label in row.index if label.startswith("firnChange")]].sum() == 0


def test_each_optics_group_has_its_own():
    first = simulate(150, seed=5, name="one", beam_tilt=(0.8, 0.0))
    simulate(150, seed=5, name="two", beam_tilt=(-0.4, 0.6))
    near_truth("one")
    parts = [read_table(f"results/{name}/particles.star", "particles").assign(optics_name=name) for name in ("one", "two")]
    Path("results/stack").mkdir()
    write_table("results/stack/particles.star", pd.concat(parts, ignore_index=True), "particles")
    refine(fit_trefoil=False)
    tilts = [group.tilt for group in optics_groups(read_table("results/ctf/particles.star", "particles"))]
    np.testing.assert_allclose(tilts, [(0.8, 0.0), (-0.4, 0.6)], atol=0.1)
    assert len(first) == 150


def test_nothing_to_fit_is_refused():
    simulate(20, seed=1)
    near_truth()
    with pytest.raises(InputError, match="nothing is to be fitted"):
        refine(fit_tilt=False, fit_trefoil=False)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="relion_reconstruct is not installed")
def test_relion_reads_what_is_found_and_makes_a_better_map_of_it():
    simulate(300, seed=17, beam_tilt=(1.2, -0.8), trefoil=(2e4, 20.0))
    near_truth()
    refine()
    model = read_mrc("results/stack/truth/model.mrc")[0]
    scores = []
    for name in ("stack", "ctf"):
        command = ["relion_reconstruct", "--i", f"results/{name}/particles.star", "--o", f"{name}.mrc", "--ctf"]
        subprocess.run(command, check=True, capture_output=True)
        scores.append(likeness(read_mrc(f"{name}.mrc")[0], model, 4.0, 3.1))
    assert scores[1] > scores[0] + 0.1
