"""RELION's own motion correction: what it is told, and what is read back of the real program, or of a stand-in that writes what it writes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.errors import InputError
from firn.formats.motion_star import polynomial_terms, read_motion
from firn.formats.mrc import read_mrc, write_image
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import relion_motioncorr
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from moving_specimen import FRAMES, SIDE, counted_movie, displacement
from stand_in import write_program

PIXEL = 3.0
HOME = Path("results/motion/batches/0001")
REAL = shutil.which("relion_run_motioncorr")
STAND_IN = '''#!{python}
"""Finds no motion, and sums the frames that it is told to."""
import os, sys
import mrcfile, numpy, tifffile

given = dict(zip(sys.argv[1:], sys.argv[2:]))
if "--version" in given or "--version" in sys.argv:
    print("RELION version: 3.1.3")
    sys.exit(0)
movie = [line for line in open(given["--i"]).read().split() if line.startswith("raw/")][0]
frames = numpy.array([page.asarray()[::-1] for page in tifffile.TiffFile(movie).pages], dtype=float)
if frames.mean() > 100:
    print("ERROR:")
    print("too bright")
    sys.exit(1)
if frames.mean() == 0:
    print("Skipped " + movie + ": all is dark")
    sys.exit(0)
if "--gainref" in given:
    frames = frames * mrcfile.open(given["--gainref"]).data
first, last = int(given["--first_frame_sum"]), int(given["--last_frame_sum"])
os.makedirs("out/raw")
for name, factor in (("movie", 0.5), ("movie_noDW", 1.0)) if "--save_noDW" in sys.argv else (("movie", 1.0),):
    with mrcfile.new("out/raw/" + name + ".mrc") as mrc:
        mrc.set_data((factor * frames[first - 1 : last].sum(0)).astype(numpy.float32))
rows = [(n, *((0.5 * (n - first), -0.25 * (n - first)) if first <= n <= last else (-9999, -9999))) for n in range(1, len(frames) + 1)]
with open("out/raw/movie.star", "w") as star:
    star.write("data_general\\n\\n_rlnImageSizeZ %d\\n\\n" % len(frames))
    star.write("data_global_shift\\n\\nloop_\\n_rlnMicrographFrameNumber\\n_rlnMicrographShiftX\\n_rlnMicrographShiftY\\n")
    star.write("".join("%d %f %f\\n" % row for row in rows))
    star.write("\\ndata_hot_pixels\\n\\nloop_\\n_rlnCoordinateX\\n_rlnCoordinateY\\n3 4\\n")
'''


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_program(Path("bin/relion_run_motioncorr"), STAND_IN.format(python=sys.executable))
    Path("raw of mine").mkdir()


def tiff(name: str, movie: np.ndarray) -> str:
    path = Path("raw of mine") / name
    with tifffile.TiffWriter(path) as stream:
        for frame in movie:
            stream.write(np.ascontiguousarray(frame[::-1]), photometric="minisblack", contiguous=False, metadata=None)
    return str(path)


def corrected(movies: list[str], program: str | None = "bin/relion_run_motioncorr", **settings: Any) -> Job:
    columns = {name: settings.pop(name) for name in ("gain",) if name in settings}
    table = pd.DataFrame({"exposure_id": [f"e{number}" for number in range(len(movies))], "batch": "0001", "movie": movies}).assign(
        **columns
    )
    table = table.assign(frames=FRAMES, width_px=SIDE, height_px=SIDE, dose_per_frame=2.0, pre_exposure=1.0, voltage_kv=300.0, cs_mm=2.7)
    table = table.assign(amplitude_contrast=0.1, movie_pixel_size=PIXEL, micrograph_pixel_size=PIXEL)
    write_table("results/movies/batches/0001/exposures.star", table, "exposures")
    wanted = {"type": "relion_motioncorr", "exposures": "movies", "executable": program} | settings
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(relion_motioncorr.Params, wanted, inputs, HOME, "motion", "0001", threads=1) as job:
        relion_motioncorr.run(job)
    return job


def rows(kind: str = "exposures") -> pd.DataFrame:
    return read_table(HOME / f"{kind}.star", kind)


def told() -> dict[str, str]:
    words = json.loads((HOME / "relion.json").read_text())["arguments"][0]
    return {word: after for word, after in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")}


def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(5, (FRAMES, SIDE, SIDE)).astype(np.uint8)


def test_sums_shifts_and_hot_pixels_come_back_with_what_the_movie_is_called() -> None:
    gain = np.linspace(0.8, 1.2, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    write_image("gain.mrc", gain, PIXEL)
    movie = counts()
    job = corrected([tiff("a movie.tif", movie)], gain="gain.mrc", start_frame=1, end_frame=4, patches_x=3, f_crop=0.5, group_frames=2)
    row = rows().iloc[0]
    np.testing.assert_allclose(read_mrc(row["micrograph_plain"])[0], (movie[1:4] * gain).sum(0), rtol=1e-5)
    np.testing.assert_allclose(read_mrc(row["micrograph"])[0], (movie[1:4] * gain).sum(0) / 2, rtol=1e-5)
    shifts, field, pixel_size = read_motion(row["motion_star"])
    np.testing.assert_allclose(shifts, PIXEL * np.outer(np.arange(3), [-0.25, 0.5]))
    assert (field, pixel_size) == (None, PIXEL)
    assert row["motion_total"] == pytest.approx(2 * PIXEL * np.hypot(0.25, 0.5))
    star = read_star(row["motion_star"])
    assert star["general"]["rlnMicrographMovieName"].iloc[0] == "raw of mine/a movie.tif"
    assert star["hot_pixels"].to_numpy().tolist() == [[3, 4]]
    options = told()
    expected = {"--patch_x": "3", "--patch_y": "5", "--first_frame_sum": "2", "--last_frame_sum": "4", "--bin_factor": "2"}
    expected |= {"--dose_per_frame": "2", "--preexposure": "1", "--group_frames": "2", "--bfactor": "150", "--j": "1"}
    assert {name: options[name] for name in expected} == expected
    assert len(job.figures) == 1
    assert not (HOME / "relion").exists()


def test_a_plain_sum_is_the_micrograph_without_dose_weights() -> None:
    movie = counts()
    corrected([tiff("m.tif", movie)], dose_weighting=False, arguments=["--bfactor", "300"])
    np.testing.assert_allclose(read_mrc(rows().iloc[0]["micrograph"])[0], movie.sum(0), rtol=1e-5)
    assert "micrograph_plain" not in rows()
    assert (told()["--bfactor"], "--dose_weighting" in told()) == ("300", False)


def test_movies_that_cannot_be_corrected_are_listed_with_what_relion_says() -> None:
    movie = counts()
    names = [
        tiff(f"{name}.tif", frames)
        for name, frames in (("bright", movie + 200), ("dark", movie * 0), ("short", movie[:-2]), ("good", movie))
    ]
    corrected(names)
    assert rows()["exposure_id"].tolist() == ["e3"]
    failed = rows("failed")
    assert failed["reason_code"].tolist() == ["PROGRAM", "PROGRAM", "FRAMES"]
    for reason, sentence in zip(
        failed["reason"], ("too bright", "all is dark", f"read {FRAMES - 2} frames, expected {FRAMES}"), strict=True
    ):
        assert sentence in reason


def test_a_program_that_corrects_none_of_several_ends_the_job() -> None:
    with pytest.raises(InputError, match="none of 2 movies could be corrected"):
        corrected([tiff(f"{name}.tif", counts() + 200) for name in "ab"])
    with pytest.raises(InputError, match="'nowhere' is no program"):
        corrected([tiff("c.tif", counts())], program="nowhere")


@pytest.mark.relion
@pytest.mark.skipif(REAL is None, reason="RELION is not installed")
def test_relion_itself_finds_the_path_of_the_specimen_and_local_motion() -> None:
    """Shifts take the specimen back; the local model, read as RELION evaluates it, follows what moves differently on two sides."""
    corrected([tiff("a movie.tif", counted_movie(5.0, 1.0))], program=None, patches_x=3, patches_y=3)
    row = rows().iloc[0]
    shifts, _, _ = read_motion(row["motion_star"])
    model = read_star(row["motion_star"])["local_motion_model"]["rlnMotionModelCoeff"].to_numpy(dtype=float).reshape(2, 18)
    places = np.array([[0.2, 0.2], [0.5, 0.5], [0.8, 0.8], [0.2, 0.8]]) * SIDE
    truth = displacement(places[:, 0], places[:, 1], 5.0, 1.0)
    y, x = places[:, 0] / SIDE - 0.5, places[:, 1] / SIDE - 0.5
    local = polynomial_terms(np.arange(FRAMES, dtype=float)[:, None], y[None], x[None]) @ model.T
    found = shifts[:, None] / PIXEL + local[..., ::-1]
    difference = found + truth.reshape(found.shape)
    difference -= difference.mean(axis=0)
    assert np.sqrt((difference**2).sum(-1).mean()) < 0.6
    assert np.sqrt(((truth - truth.mean(axis=0)) ** 2).sum(-1).mean()) > 1.5
    assert read_mrc(row["micrograph"])[0].shape == read_mrc(row["micrograph_plain"])[0].shape == (SIDE, SIDE)


@pytest.mark.relion
@pytest.mark.skipif(REAL is None, reason="RELION is not installed")
def test_relion_itself_applies_the_gain_as_it_lies_and_mends_its_zeros() -> None:
    """An even specimen under an uneven gain of a dead corner comes out even."""
    gain = np.random.default_rng(5).uniform(0.8, 1.25, (SIDE, SIDE)).astype(np.float32)
    gain[3:9, 5:30] = 0
    write_image("gain.mrc", gain, PIXEL)
    even = 50 / np.where(gain > 0, gain, np.inf)
    movie = np.random.default_rng(6).poisson(even, (FRAMES, SIDE, SIDE)).astype(np.uint8)
    corrected([tiff("m.tif", movie)], program=None, gain="gain.mrc", patches_x=1, patches_y=1, dose_weighting=False, end_frame=5)
    image = read_mrc(rows().iloc[0]["micrograph"])[0]
    assert image.mean() == pytest.approx(250, rel=0.01)
    assert image.std() < 0.15 * 250
    assert image[4:8, 8:27].mean() == pytest.approx(250, rel=0.1)
    assert "local_motion_model" not in read_star(rows().iloc[0]["motion_star"])
