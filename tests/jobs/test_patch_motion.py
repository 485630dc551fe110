"""patch_motion from movie files to micrographs: truth is found, faults stay single, RELION's convention is kept."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from firn.errors import MachineError
from firn.families import motion
from firn.formats.motion_star import polynomial_terms, read_motion
from firn.formats.mrc import read_mrc, write_image
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import patch_motion
from firn.preprocess.frame_sum import sum_frames
from firn.preprocess.frames import Frames
from firn.preprocess.motion import Field, Motion
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from moving_specimen import FRAMES, SIDE, counted_movie, displacement

PIXEL = 3.0
HOME = Path("results/motion/batches/0001")
SETTINGS: dict[str, Any] = {"exposures": "movies", "max_align_resolution": 8.0}


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path


def write_movie(name: str, frames: np.ndarray) -> str:
    path = Path("raw") / name
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(np.ascontiguousarray(frame[::-1]), compression="lzw", photometric="minisblack", contiguous=False, metadata=None)
    return str(path)


def correct(movies: list[str], gain: str | None = None, **settings: Any) -> Job:
    table = pd.DataFrame({"exposure_id": [f"e{number}" for number in range(len(movies))], "batch": "0001", "movie": movies})
    table = table.assign(frames=FRAMES, width_px=SIDE, height_px=SIDE, dose_per_frame=2.0, pre_exposure=0.0, voltage_kv=300.0, cs_mm=2.7)
    table = table.assign(amplitude_contrast=0.1, movie_pixel_size=PIXEL, micrograph_pixel_size=PIXEL)
    write_table("results/movies/batches/0001/exposures.star", table if gain is None else table.assign(gain=gain), "exposures")
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(patch_motion.Params, SETTINGS | settings, inputs, HOME, "motion", "0001", threads=1) as job:
        patch_motion.run(job)
    return job


@pytest.mark.parametrize("f_crop", [1.0, 0.5])
def test_the_dose_is_what_is_counted_per_frame_and_square_angstrom(f_crop: float) -> None:
    movie = np.random.default_rng(3).poisson(4.5, (FRAMES, SIDE, SIDE)).astype(np.uint8)
    correct([write_movie("m.tif", movie)], f_crop=f_crop)
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    assert row["dose_counted"] == pytest.approx(movie.mean() / PIXEL**2, rel=1e-3)


def test_a_movie_becomes_micrographs_motion_and_statistics() -> None:
    job = correct([write_movie("m.tif", counted_movie(4.0, 0.0))])
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    weighted, pixel_size = read_mrc(row["micrograph"])
    plain, _ = read_mrc(row["micrograph_plain"])
    assert weighted.shape == plain.shape == (SIDE, SIDE)
    assert pixel_size == pytest.approx(PIXEL)
    shifts, _, _ = read_motion(row["motion_star"])
    truth = displacement(np.array([SIDE / 2]), np.array([SIDE / 2]), 4.0, 0.0)[:, 0] * PIXEL
    np.testing.assert_allclose(-shifts, truth, atol=0.3 * PIXEL)
    path = np.linalg.norm(np.diff(truth, axis=0), axis=1)
    assert row["motion_total"] == pytest.approx(path.sum(), rel=0.15)
    assert row["motion_early"] + row["motion_late"] == pytest.approx(row["motion_total"], abs=1e-4)
    assert row["motion_early"] == pytest.approx(path[0], rel=0.2)
    assert len(job.figures) == 1
    assert (HOME / job.figures[0]["file"]).exists()


def test_bad_movies_go_to_failed_and_the_batch_goes_on() -> None:
    good = counted_movie(2.0, 0.0)
    dark = good.copy()
    dark[4] = 0
    cut = Path(write_movie("cut.tif", good))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    movies = [str(cut), write_movie("dark.tif", dark), "raw/gone.tif", write_movie("short.tif", good[:-2]), write_movie("good.tif", good)]
    job = correct(movies)
    assert list(read_table(HOME / "exposures.star", "exposures")["exposure_id"]) == ["e4"]
    failed = read_table(HOME / "failed.star", "failed")
    assert list(failed["reason_code"]) == ["TRUNCATED", "ZERO", "UNREADABLE", "FRAMES"]
    assert list(failed["batch"]) == ["0001"] * 4
    assert all(movie in reason for movie, reason in zip(movies, failed["reason"], strict=False))
    assert job.metrics["exposures_failed"]["value"] == 4


def test_a_batch_without_a_good_movie_still_has_its_tables() -> None:
    Path("raw/other.tif").touch()
    correct(["raw/gone.tif"])
    assert read_table(HOME / "exposures.star", "exposures").empty
    assert len(read_table(HOME / "failed.star", "failed")) == 1


def test_a_movie_that_is_away_with_its_folder_is_no_failed_one() -> None:
    with pytest.raises(MachineError, match=r"elsewhere/gone.tif: its folder elsewhere is missing or empty"):
        correct(["elsewhere/gone.tif"])
    assert not HOME.exists()


def test_a_gain_of_another_shape_fails_the_movies_that_have_it_with_both_shapes() -> None:
    write_image("raw/gain.mrc", np.ones((SIDE, SIDE - 2), dtype=np.float32), PIXEL)
    correct([write_movie("m.tif", counted_movie(0.0, 0.0))], gain="raw/gain.mrc")
    failed = read_table(HOME / "failed.star", "failed").iloc[0]
    assert failed["reason_code"] == "GAIN"
    assert f"{SIDE - 2} x {SIDE} pixels" in failed["reason"]
    assert f"the movies are {SIDE} x {SIDE}" in failed["reason"]


def test_saturated_and_infinite_movies_fail_in_one_sentence_each() -> None:
    bright, broken = counted_movie(0.0, 0.0), counted_movie(0.0, 0.0).astype(np.float32)
    bright[2, :40] = 255
    broken[3, 5, 5] = np.nan
    correct([write_movie("bright.tif", bright), write_movie("broken.tif", broken)])
    failed = read_table(HOME / "failed.star", "failed")
    assert list(failed["reason_code"]) == ["SATURATED", "NONFINITE"]
    assert all(str(reason).count("raw/") == 1 for reason in failed["reason"])


def test_what_the_motion_star_says_applied_again_gives_the_same_micrograph() -> None:
    counts = counted_movie(3.0, 1.5)
    correct([write_movie("m.tif", counts)])
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    shifts, field, _ = read_motion(row["motion_star"])
    assert field is not None
    spline = Field(torch.tensor(field.coefficients, dtype=torch.float32), torch.tensor(field.times, dtype=torch.float32))
    again = Motion(torch.tensor(shifts, dtype=torch.float32), spline, torch.zeros(1, 2))
    none = torch.zeros(FRAMES, 0, dtype=torch.long)
    sums = sum_frames(Frames([torch.from_numpy(frame) for frame in counts], None, none[0], none), again, PIXEL, None, 300.0)
    np.testing.assert_allclose(sums.plain.numpy(), read_mrc(row["micrograph_plain"])[0], atol=0.1)


def test_wide_integers_with_a_hot_pixel_give_the_same_micrograph_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted_movie(3.0, 0.5)
    counts[:, 30, 40] = 255
    correct([write_movie("m.tif", counts)])
    first = read_mrc(HOME / "micrographs/e0.mrc")[0]
    wide = counts.astype(np.uint16)
    wide[:, 30, 40] = 4000
    monkeypatch.setattr(motion, "PACKED_BYTES", 1000)
    correct([write_movie("m.tif", wide)])
    np.testing.assert_array_equal(read_mrc(HOME / "micrographs/e0.mrc")[0], first)


def test_odd_and_even_frames_are_written_on_request_and_add_up() -> None:
    correct([write_movie("m.tif", counted_movie(3.0, 0.5))], odd_even=True)
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    odd, even, plain = (read_mrc(row[name])[0] for name in ("micrograph_odd", "micrograph_even", "micrograph_plain"))
    np.testing.assert_allclose(odd + even, plain, rtol=1e-4, atol=0.01)
    assert odd.mean() / even.mean() == pytest.approx(5 / 4, rel=0.02)


def test_frames_left_out_at_the_start_still_count_as_dose() -> None:
    movie = write_movie("m.tif", counted_movie(2.0, 0.0))
    correct([movie], start_frame=3, end_frame=8, dose_weighting=False, float16=True)
    blocks = read_star(HOME / "motion/e0.star")
    assert blocks["global_shift"]["rlnMicrographFrameNumber"].tolist() == [4, 5, 6, 7, 8]
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    assert row["motion_early"] == 0
    assert "micrograph_plain" not in row
    assert read_mrc(row["micrograph"])[0].shape == (SIDE, SIDE)


def test_a_cropped_micrograph_has_larger_pixels() -> None:
    correct([write_movie("m.tif", counted_movie(2.0, 0.0))], f_crop=0.5)
    row = read_table(HOME / "exposures.star", "exposures").iloc[0]
    assert (row["width_px"], row["height_px"], row["micrograph_pixel_size"]) == (SIDE // 2, SIDE // 2, 2 * PIXEL)
    assert read_mrc(row["micrograph"])[1] == pytest.approx(2 * PIXEL)


def test_the_same_movie_and_seed_give_the_same_micrograph() -> None:
    movie = write_movie("m.tif", counted_movie(2.0, 0.5))
    correct([movie])
    first = Path(HOME / "micrographs/e0.mrc").read_bytes()[1024:]
    correct([movie])
    assert Path(HOME / "micrographs/e0.mrc").read_bytes()[1024:] == first


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_run_motioncorr") is None, reason="RELION is not installed")
def test_shifts_weights_and_grey_values_are_relions() -> None:
    movie = write_movie("m.tif", counted_movie(5.0, 1.0))
    correct([movie])
    table = read_table("results/movies/batches/0001/exposures.star", "exposures").drop(
        columns=["exposure_id", "batch", "micrograph_pixel_size"]
    )
    write_table("movies.star", table, "movies")
    command = ["relion_run_motioncorr", "--use_own", "--i", "movies.star", "--o", "rel/", "--j", "1", "--patch_x", "3", "--patch_y", "3"]
    subprocess.run([*command, "--dose_weighting", "--dose_per_frame", "2", "--save_noDW"], check=True, capture_output=True)
    ours, theirs = read_star(HOME / "motion/e0.star"), read_star("rel/raw/m.star")
    columns = ["rlnMicrographShiftX", "rlnMicrographShiftY"]
    points = np.array([[0.0, 0.0], [-0.35, 0.3], [0.35, -0.3], [0.3, 0.35]])
    both = [whole_shifts(blocks, columns, points) for blocks in (ours, theirs)]
    both = [shifts - shifts.mean(axis=0) for shifts in both]
    assert np.sqrt(((both[0] - both[1]) ** 2).sum(-1).mean()) < 0.4
    assert np.sqrt((both[1] ** 2).sum(-1).mean()) > 1
    for name, relion in (("e0.mrc", "rel/raw/m.mrc"), ("e0_plain.mrc", "rel/raw/m_noDW.mrc")):
        mine, other = read_mrc(HOME / "micrographs" / name)[0], read_mrc(relion)[0]
        assert mine.mean() == pytest.approx(other.mean(), rel=1e-3)
        assert np.corrcoef(coarse(mine), coarse(other))[0, 1] > 0.97


def coarse(image: np.ndarray) -> np.ndarray:
    """Means of 4 x 4 pixels inside the edge, flat: where the two programs' interpolations differ least."""
    inside = image[16:-16, 16:-16]
    return inside.reshape(inside.shape[0] // 4, 4, inside.shape[1] // 4, 4).mean(axis=(1, 3)).ravel()


def whole_shifts(blocks: dict[str, pd.DataFrame], columns: list[str], points: np.ndarray) -> np.ndarray:
    """Shifts `(f, n, 2)` xy in px that RELION would apply, from the blocks it reads, at points `(n, 2)` xy in [-1/2, 1/2]."""
    model = blocks["local_motion_model"]["rlnMotionModelCoeff"].to_numpy(dtype=float).reshape(2, 18)
    rigid = blocks["global_shift"][columns].to_numpy(dtype=float)
    return rigid[:, None] + polynomial_terms(np.arange(len(rigid), dtype=float)[:, None], points[None, :, 1], points[None, :, 0]) @ model.T
