"""The three jobs of simulation, from movies and particles to their scores."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from firn.errors import InputError
from firn.formats.movie import iterate_frames, read_header
from firn.formats.mrc import read_mrc, write_volume
from firn.formats.particles import load_images, read_particles
from firn.formats.tables import read_table, write_table
from firn.jobs import score, simulate_movies, simulate_particles
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from firn.simulate.resample import correlation_by_shell

SMALL = {
    "type": "simulate_movies", "seed": 3, "movies": 2, "dirty": 1, "size_px": 160, "frames": 4, "pixel_size": 4.0, "phantom_radius": 45.0,
    "resolution": 9.0, "particles_per_movie": 6, "drift_px": 2.0, "local_motion_px": 0.5,
}  # fmt: skip
STACK = {"type": "simulate_particles", "seed": 4, "particles": 60, "box_px": 40, "pixel_size": 4.0, "phantom_radius": 50.0, "snr": 0.5}


def simulate(module: object, settings: dict, name: str, inputs: dict | None = None) -> Job:
    with open_job(module.Params, settings, inputs or {}, Path("results") / name, name, threads=1) as job:
        module.run(job)
    return job


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("ending", ["tif", "eer", "mrc"])
def test_movies_come_with_their_gain_and_their_truth(ending: str) -> None:
    job = simulate(simulate_movies, SMALL | {"format": ending}, "sim")
    movies = read_table("results/sim/movies.star", "movies", needs=("movie", "gain", "dose_per_frame", "movie_pixel_size"))
    truth = read_table("results/sim/truth/particles.star", "particles", needs=("movie", "x_px", "y_px", "rot", "tilt", "psi", "defocus_u"))
    shots = read_table("results/sim/truth/exposures.star", "exposures", needs=("exposure_kind", "defocus_u", "motion_star"))
    assert sorted(shots["exposure_kind"]) == ["dirty", "good"]
    assert read_header(movies["movie"][0], 4, 1).size == "160 x 160 pixels x 4 frames"
    assert set(truth["movie"]) <= set(movies["movie"])
    assert all(Path(path).exists() for path in [*shots["motion_star"], movies["gain"][0], "results/sim/truth/model.mrc"])
    assert all((Path("results/sim") / figure["file"]).exists() for figure in job.figures)


def test_corrected_frames_carry_the_dose_and_particles_are_dark() -> None:
    simulate(simulate_movies, SMALL | {"dirty": 0, "movies": 1, "ice_noise": 0.3}, "sim")
    gain, _ = read_mrc("results/sim/gain.mrc")
    corrected = np.stack([frame * gain for frame in iterate_frames("results/sim/movies/sim_0001.tif")])
    assert np.median(corrected[0]) == pytest.approx(2.0 * 16, rel=0.15)
    truth = read_table("results/sim/truth/particles.star", "particles")
    total = corrected.sum(axis=0)
    at = [total[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].mean() for x, y in zip(truth["x_px"], truth["y_px"], strict=True)]
    assert np.mean(at) < np.median(total) - 3 * np.sqrt(np.median(total) / (81 * len(at)))


def test_the_same_seed_gives_the_same_movies_and_another_seed_others() -> None:
    settings = SMALL | {"movies": 1, "dirty": 0, "size_px": 64, "particles_per_movie": 1}
    frames = [
        next(iterate_frames(simulate(simulate_movies, settings | {"seed": seed}, "sim").home / "movies/sim_0001.tif")) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_a_truncated_movie_is_shorter_than_it_says() -> None:
    simulate(simulate_movies, SMALL | {"dirty": 0, "truncated": 1}, "sim")
    shots = read_table("results/sim/truth/exposures.star", "exposures")
    broken = shots["movie"][shots["exposure_kind"] == "truncated"].iloc[0]
    with pytest.raises(InputError, match=r"TIFF|truncated|frame"):
        list(iterate_frames(broken))


def test_more_bad_movies_than_movies_are_refused() -> None:
    with pytest.raises(ValidationError, match="exceed"):
        simulate_movies.Params(movies=1, dirty=2)


def test_particles_have_the_asked_signal_and_noise_and_no_poses() -> None:
    simulate(simulate_particles, STACK | {"particles": 300}, "stack")
    table = read_particles("results/stack/particles.star")
    images = load_images(table)
    y, x = np.mgrid[:40, :40] - 20
    inside, outside = np.hypot(y, x) <= 10, np.hypot(y, x) > 18
    assert "rot" not in table.columns
    assert set(table["half"]) == {1, 2}
    assert images[:, outside].var() == pytest.approx(1.0, abs=0.1)
    assert images[:, inside].mean() > 0.1
    assert images[:, inside].var() > 1.2


def test_mixtures_and_junk_are_told_apart_in_the_truth() -> None:
    simulate(simulate_particles, STACK | {"models": ["phantom", "phantom"], "fractions": [0.75, 0.25], "junk": 0.2}, "stack")
    truth = read_table("results/stack/truth/particles.star", "particles")
    assert set(truth["class_number"]) == {1, 2, 3}
    assert Path("results/stack/truth/model_2.mrc").exists()


def test_a_box_smaller_than_the_particle_is_refused() -> None:
    with pytest.raises(InputError, match="box_px"):
        simulate(simulate_particles, STACK | {"box_px": 16}, "stack")


def test_the_truth_scores_perfectly_against_itself() -> None:
    simulate(simulate_particles, STACK, "stack")
    truth = read_table("results/stack/truth/particles.star", "particles")
    write_table("results/refined/particles.star", truth, "particles")
    volume, pixel_size = read_mrc("results/stack/truth/model.mrc")
    write_volume("results/refined/map.mrc", volume, pixel_size)
    inputs = {"truth": ["results/stack"], "particles": ["results/refined"], "volume": ["results/refined"]}
    metrics = simulate(score, {"type": "score", "truth": "stack"}, "score", inputs).metrics
    assert metrics["pose_error_median"]["value"] < 0.1
    assert metrics["shift_error_median"]["value"] < 0.01
    assert metrics["map_mirrored"]["value"] == 0
    assert metrics["map_resolution_half"]["value"] < 8.5
    assert Path("results/score/scores.star").exists()


def test_picks_and_defocus_are_scored_by_exposure() -> None:
    simulate(simulate_movies, SMALL, "sim")
    truth = score.with_exposure_ids(read_table("results/sim/truth/particles.star", "particles"))
    picks = pd.concat((truth, truth.iloc[:1].assign(x_px=0.0, y_px=0.0)), ignore_index=True).assign(x_px=lambda rows: rows["x_px"] + 1)
    write_table("results/picks/picks.star", picks, "picks")
    shots = score.with_exposure_ids(read_table("results/sim/truth/exposures.star", "exposures")).drop(columns="motion_star")
    write_table("results/ctf/exposures.star", shots.assign(defocus_u=lambda rows: rows["defocus_u"] + 100), "exposures")
    inputs = {"truth": ["results/sim"], "picks": ["results/picks"], "exposures": ["results/ctf"]}
    metrics = simulate(score, {"type": "score", "truth": "stack"}, "score", inputs).metrics
    assert metrics["pick_recall"]["value"] == 1
    assert metrics["pick_precision"]["value"] == pytest.approx(len(truth) / len(picks))
    assert metrics["pick_offset"]["value"] == pytest.approx(4.0, rel=1e-3)
    assert metrics["defocus_error"]["value"] == pytest.approx(50, abs=0.1)


def test_exposures_of_something_else_are_refused_in_one_sentence() -> None:
    simulate(simulate_movies, SMALL | {"movies": 1, "dirty": 0}, "sim")
    shots = score.with_exposure_ids(read_table("results/sim/truth/exposures.star", "exposures"))
    Path("results/ctf").mkdir()
    write_table("results/ctf/exposures.star", shots.assign(exposure_id="elsewhere"), "exposures")
    with pytest.raises(InputError, match="none of the 1 exposures is a movie of this simulation"):
        simulate(score, {"type": "score", "truth": "sim"}, "score", {"truth": ["results/sim"], "exposures": ["results/ctf"]})


def test_nothing_to_score_is_an_error() -> None:
    simulate(simulate_particles, STACK | {"particles": 4}, "stack")
    with pytest.raises(InputError, match="nothing to score"):
        simulate(score, {"type": "score", "truth": "stack"}, "score", {"truth": ["results/stack"]})


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="relion_reconstruct is not installed")
def test_relion_reconstructs_the_model_from_the_true_poses() -> None:
    simulate(simulate_particles, STACK | {"particles": 800, "snr": 2.0}, "stack")
    command = ["relion_reconstruct", "--i", "results/stack/truth/particles.star", "--o", "map.mrc", "--ctf", "--angpix", "4"]
    subprocess.run(command, check=True, capture_output=True)
    model, (found, _) = read_mrc("results/stack/truth/model.mrc")[0], read_mrc("map.mrc")
    assert correlation_by_shell(found, model)[1:11].min() > 0.9
