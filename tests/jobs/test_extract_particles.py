"""Extraction: the right pixels, identities, coordinates and local CTF; the same boxes as RELION's."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from firn.formats.ids import half_set
from firn.formats.mrc import read_mrc, write_image
from firn.formats.particles import load_images, read_particles
from firn.formats.star import write_star
from firn.formats.tables import read_table, write_table
from firn.jobs import extract_particles
from firn.runtime.entry import open_job
from firn.runtime.job import Job

PIXEL = 1.5
PLACES = np.array([[60.0, 50.0], [100.0, 120.0], [150.4, 99.7], [3.0, 100.0]])
"""x, y of the picks; the last box does not fit."""


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(1).normal(0, 1, (200, 230)) + np.linspace(0, 3, 230)
    write_image("mic.mrc", image, PIXEL)
    ctf = {"defocus_u": 15000.0, "defocus_v": 14000.0, "defocus_angle": 30.0, "phase_shift": 0.0}
    bend = {"defocus_slope_x": 200.0, "defocus_slope_y": -100.0, "defocus_bend_xx": 0.0, "defocus_bend_xy": 0.0, "defocus_bend_yy": 0.0}
    optics = {"optics_name": "o", "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": PIXEL}
    exposure = {"exposure_id": "e1", "batch": "0001", "micrograph": "mic.mrc"} | ctf | bend | optics
    write_table("results/ctf/batches/0001/exposures.star", pd.DataFrame([exposure]), "exposures")
    picks = pd.DataFrame(
        {
            "exposure_id": "e1",
            "batch": "0001",
            "micrograph": "mic.mrc",
            "x_px": PLACES[:, 0],
            "y_px": PLACES[:, 1],
            "pick_score": 0.5,
            **optics,
        }
    )
    write_table("results/blobs/batches/0001/picks.star", picks, "picks")


def _run(slot: str = "picks", source: str = "results/blobs/batches/0001", **settings: object) -> Job:
    wanted = {"type": "extract_particles", "exposures": "ctf", slot: "x", "box_px": 64} | settings
    inputs = {"exposures": ["results/ctf/batches/0001"], slot: [source]}
    with open_job(extract_particles.Params, wanted, inputs, Path("results/stack/batches/0001"), "stack", "0001", threads=1) as job:
        extract_particles.run(job)
    return job


def test_boxes_that_do_not_fit_are_counted_and_the_rest_have_identities(session):
    job = _run()
    particles = read_particles("results/stack/batches/0001/particles.star")
    assert len(particles) == 3
    assert job.metrics["boxes over the edge"]["value"] == 1
    assert particles["particle_id"].tolist() == ["e1-00001", "e1-00002", "e1-00003"]
    assert particles["half"].tolist() == [half_set(name) for name in particles["particle_id"]]
    assert load_images(particles).shape == (3, 64, 64)


def test_coordinate_less_origin_is_the_exact_pick(session):
    _run(crop_to_px=32)
    particles = read_particles("results/stack/batches/0001/particles.star")
    assert (particles[["x_px", "y_px"]] % 1 == 0).all(axis=None)
    for axis, column in (("x", 0), ("y", 1)):
        true = particles[f"{axis}_px"] - particles[f"origin_{axis}"] / PIXEL
        np.testing.assert_allclose(true, PLACES[:3, column], atol=1e-5)


def test_pixel_size_and_box_follow_the_fourier_crop(session):
    _run(crop_to_px=32, float16=True)
    particles = read_particles("results/stack/batches/0001/particles.star")
    assert set(particles["image_pixel_size"]) == {3.0}
    assert set(particles["box_px"]) == {32}
    images, pixel_size = read_mrc(particles["image"][0].split("@")[1])
    assert images.shape == (3, 32, 32)
    assert pixel_size == pytest.approx(3.0)


def test_defocus_follows_the_surface_at_each_particle(session):
    _run()
    particles = read_particles("results/stack/batches/0001/particles.star")
    expected = 200 * (2 * particles["x_px"] / 229 - 1) - 100 * (2 * particles["y_px"] / 199 - 1)
    np.testing.assert_allclose(particles["defocus_u"] - 15000, expected, atol=1e-3)
    np.testing.assert_allclose(particles["defocus_v"] - 14000, expected, atol=1e-3)


def test_particles_cut_again_are_recentred_and_keep_identity_half_and_pose(session):
    _run()
    first = read_particles("results/stack/batches/0001/particles.star")
    moved = first.assign(origin_x=first["origin_x"] + 7.5, origin_y=first["origin_y"] - 3.0, rot=12.0, half=[2, 1, 2])
    write_table("results/refined/particles.star", moved, "particles")
    _run("particles", "results/refined", box_px=48)
    again = read_particles("results/stack/batches/0001/particles.star")
    assert again["particle_id"].tolist() == first["particle_id"].tolist()
    assert again["half"].tolist() == [2, 1, 2]
    assert set(again["rot"]) == {12.0}
    np.testing.assert_allclose(again["x_px"] - again["origin_x"] / PIXEL, PLACES[:3, 0] - 5, atol=1e-4)
    np.testing.assert_allclose(again["y_px"] - again["origin_y"] / PIXEL, PLACES[:3, 1] + 2, atol=1e-4)
    assert again[["origin_x", "origin_y"]].abs().max(axis=None) <= PIXEL / 2 + 1e-6


def test_without_recentring_the_box_stays_and_the_origin_too(session):
    _run()
    first = read_particles("results/stack/batches/0001/particles.star")
    write_table("results/refined/particles.star", first.assign(origin_x=7.5), "particles")
    _run("particles", "results/refined", recentre=False)
    again = read_particles("results/stack/batches/0001/particles.star")
    assert again["x_px"].tolist() == first["x_px"].tolist()
    assert set(again["origin_x"]) == {7.5}


def test_a_batch_without_picks_has_an_empty_table(session):
    picks = read_table("results/blobs/batches/0001/picks.star", "picks")
    write_table("results/blobs/batches/0001/picks.star", picks[:0], "picks")
    job = _run()
    assert read_table("results/stack/batches/0001/particles.star", "particles", needs=("image", "half")).empty
    assert job.warnings


def test_picks_or_particles_but_not_both():
    for given in ({}, {"picks": "a", "particles": "b"}):
        with pytest.raises(ValidationError, match="either picks or particles"):
            extract_particles.Params(exposures="e", box_px=64, **given)
    with pytest.raises(ValidationError, match="larger than box_px"):
        extract_particles.Params(exposures="e", picks="p", box_px=64, crop_to_px=128)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="RELION is not installed")
@pytest.mark.parametrize(("crop", "alike"), [(64, 0.9999), (48, 0.97)])
def test_the_images_are_those_of_relion(session, crop, alike):
    """Cropped, they differ in the Nyquist row and column, which hold 2 / 48 of white noise and are dropped here."""
    whole = np.array([[60.0, 50.0], [100.0, 120.0]])
    picks = read_table("results/blobs/batches/0001/picks.star", "picks")[:2].assign(x_px=whole[:, 0], y_px=whole[:, 1])
    write_table("results/blobs/batches/0001/picks.star", picks, "picks")
    _run(crop_to_px=crop, clip_sd=100)
    optics = pd.DataFrame(
        {"rlnOpticsGroupName": ["o"], "rlnOpticsGroup": [1], "rlnMicrographPixelSize": [PIXEL], "rlnMicrographOriginalPixelSize": [PIXEL]}
    )
    optics = optics.assign(rlnVoltage=300.0, rlnSphericalAberration=2.7, rlnAmplitudeContrast=0.1)
    write_star("mics.star", {"optics": optics, "micrographs": pd.DataFrame({"rlnMicrographName": ["mic.mrc"], "rlnOpticsGroup": [1]})})
    write_star("mic_picked.star", {"": pd.DataFrame({"rlnCoordinateX": whole[:, 0], "rlnCoordinateY": whole[:, 1]})})
    flags = f"--extract --extract_size 64 --scale {crop} --norm --bg_radius {0.375 * crop:g} --invert_contrast --part_dir Out/ --part_star out.star"
    command = ["relion_preprocess", "--i", "mics.star", "--coord_suffix", "_picked.star", "--coord_dir", "./", *flags.split()]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = load_images(read_particles("results/stack/batches/0001/particles.star")), read_mrc("Out/mic.mrcs")[0]
    for mine, relions in zip(ours, theirs, strict=True):
        assert np.corrcoef(mine.ravel(), relions.ravel())[0, 1] > alike
        assert mine.std() == pytest.approx(relions.std(), rel=0.03)
