"""Imports of movies: good files become exposures with stable ids and batches, bad ones are listed with a reason, hopeless input is one sentence."""

import glob
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import import_movies
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from firn.simulate.write_eer import write_eer_movie

OPTICS = {"voltage_kv": 300, "cs_mm": 0.001}
MOVIE = OPTICS | {"pixel_size": 0.8, "dose_per_frame": 1.2}
COUNTS = np.random.default_rng(1).poisson(3.0, (5, 16, 24)).astype(np.uint8)


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def write_movie(path: Path, frames: np.ndarray = COUNTS) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for frame in frames:
            tiff.write(frame, compression="lzw", photometric="minisblack", contiguous=False, metadata=None)
    return path


def import_all(settings: dict[str, Any], inputs: dict[str, list[str]] | None = None) -> Job:
    with open_job(import_movies.Params, settings, inputs or {}, Path("results/in"), "in", threads=1) as job:
        import_movies.run(job)
    return job


def test_movies_get_stable_ids_and_batches_in_the_order_of_their_names(raw: Path) -> None:
    for number in range(5):
        write_movie(raw / f"m{number}.tif")
    job = import_all(MOVIE | {"files": "raw/*.tif", "batch_size": 2})
    table = read_table("results/in/exposures.star", "exposures")
    assert list(table["movie"]) == [f"raw/m{number}.tif" for number in range(5)]
    assert list(table["batch"]) == ["0001", "0001", "0002", "0002", "0003"]
    assert job.batches == ["0001", "0002", "0003"]
    assert list(read_table("results/in/batches/0003/exposures.star", "exposures")["movie"]) == ["raw/m4.tif"]
    first = table.iloc[0]
    assert (first["frames"], first["width_px"], first["height_px"]) == (5, 24, 16)
    assert (first["dose_per_frame"], first["movie_pixel_size"], first["cs_mm"]) == (1.2, 0.8, 0.001)
    again = import_all(MOVIE | {"files": ["raw/m4.tif", "raw/m0.tif"]})
    assert again.batches == ["0001"]
    assert list(read_table("results/in/exposures.star", "exposures")["exposure_id"]) == list(table["exposure_id"].iloc[[0, 4]])


def test_bad_movies_are_listed_with_their_reason_and_the_rest_goes_on(raw: Path) -> None:
    for number in range(4):
        write_movie(raw / f"good{number}.tif")
    cut = write_movie(raw / "cut.tif")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write_movie(raw / "short.tif", COUNTS[:3])
    write_movie(raw / "small.tif", COUNTS[:, :-4])
    job = import_all(MOVIE | {"files": "raw/*.tif"})
    failed = read_table("results/in/failed.star", "failed").set_index("movie")
    assert failed["reason_code"].to_dict() == {"raw/cut.tif": "TRUNCATED", "raw/short.tif": "FRAMES", "raw/small.tif": "SHAPE"}
    assert "has 3 frames, but most others have 5" in failed.loc["raw/short.tif", "reason"]
    assert len(read_table("results/in/exposures.star", "exposures")) == 4
    assert job.metrics["movies_failed"]["value"] == 3
    assert len(job.warnings) == 1


@pytest.mark.parametrize("files", ["raw/*.tif", ["raw/one.tif"]])
def test_a_pattern_without_matches_is_named(files: str | list[str]) -> None:
    with pytest.raises(InputError, match=r"nothing matches 'raw/(\*|one).tif'"):
        import_all(MOVIE | {"files": files})


def test_a_movie_of_a_batch_that_was_deleted_meanwhile_is_listed_and_the_rest_goes_on(raw: Path) -> None:
    for name in ("a", "b [1]*?", "c"):
        write_movie(raw / f"{name}.tif")
    names = [glob.escape(str(path.relative_to(raw.parent))) for path in sorted(raw.glob("*.tif"))]
    (raw / "a.tif").unlink()
    home = Path("results/movies/batches/0001")
    with open_job(import_movies.Params, MOVIE | {"type": "import_movies", "files": names}, {}, home, "movies", "0001") as job:
        import_movies.run(job)
    assert list(read_table(home / "exposures.star", "exposures")["movie"]) == ["raw/b [1]*?.tif", "raw/c.tif"]
    (row,) = read_table(home / "failed.star", "failed").to_dict("records")
    assert (row["movie"], row["reason_code"]) == ("raw/a.tif", "UNREADABLE")
    assert "No such file" in row["reason"]


def test_movies_that_are_all_bad_end_the_job_with_the_first_reason(raw: Path) -> None:
    (raw / "m.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"none of 1 movies can be used; the first: raw/m.tif"):
        import_all(MOVIE | {"files": "raw/*.tif"})


def test_a_gain_of_another_shape_is_refused_with_both_shapes(raw: Path) -> None:
    write_movie(raw / "m.tif")
    write_image(raw / "gain.mrc", np.ones((16, 20), dtype=np.float32), 0.8)
    with pytest.raises(InputError, match=r"20 x 16 pixels .* but the movies are 24 x 16"):
        import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})


def test_the_gain_is_stored_as_it_will_multiply_with_zeros_at_defects(raw: Path) -> None:
    write_movie(raw / "m.tif")
    gain = np.random.default_rng(2).uniform(0.9, 1.1, (24, 16)).astype(np.float32)
    write_image(raw / "gain.mrc", gain, 0.8)
    (raw / "defects.txt").write_text("3 4 2 1\n")
    import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc", "gain_rotate": 1, "defects": "raw/defects.txt"})
    stored = read_mrc(read_table("results/in/exposures.star", "exposures")["gain"].iloc[0])[0]
    expected = np.rot90(gain, -1).copy()
    expected[4, 3:5] = 0
    np.testing.assert_array_equal(stored, expected)


def test_a_parameter_that_nobody_tells_is_named(raw: Path) -> None:
    write_movie(raw / "m.tif")
    with pytest.raises(InputError, match="pixel_size must be given"):
        import_all(OPTICS | {"files": "raw/*.tif", "total_dose": 6})
    with pytest.raises(InputError, match="voltage_kv must be given"):
        import_all({"files": "raw/*.tif", "total_dose": 6, "pixel_size": 1})


def test_the_total_dose_is_shared_by_the_frames(raw: Path) -> None:
    write_movie(raw / "m.tif")
    import_all(OPTICS | {"files": "raw/*.tif", "pixel_size": 1, "total_dose": 6})
    assert read_table("results/in/exposures.star", "exposures")["dose_per_frame"].iloc[0] == pytest.approx(1.2)


def test_a_source_tells_files_optics_dose_and_gain(raw: Path) -> None:
    table = read_source_table(raw)
    write_table("results/sim/movies.star", table, "movies")
    import_all({"source": "sim"}, {"source": ["results/sim"]})
    found = read_table("results/in/exposures.star", "exposures")
    assert list(found["movie"]) == list(table["movie"])
    assert (found["voltage_kv"][0], found["movie_pixel_size"][0], found["dose_per_frame"][0]) == (200, 1.1, 2.0)
    np.testing.assert_array_equal(read_mrc(found["gain"][0])[0], 2)


def read_source_table(raw: Path) -> pd.DataFrame:
    write_image(raw / "gain.mrc", np.full((16, 24), 2, dtype=np.float32), 1.1)
    movies = [str(write_movie(raw / f"m{number}.tif").relative_to(raw.parent)) for number in range(2)]
    optics = {"voltage_kv": 200.0, "cs_mm": 2.7, "amplitude_contrast": 0.07, "movie_pixel_size": 1.1}
    return pd.DataFrame({"movie": movies, "gain": "raw/gain.mrc", "frames": 5, "dose_per_frame": 2.0, "pre_exposure": 0.0} | optics)


def test_files_and_source_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either files or source"):
        import_movies.Params(files="a", source="b")


def counted_session(raw: Path, gain: np.ndarray, movies: int = 6, frames: int = 4, rate: float = 6.0) -> None:
    chance = np.random.default_rng(8)
    for number in range(movies):
        write_movie(raw / f"m{number}.tif", chance.poisson(rate / gain[::-1], (frames, *gain.shape)).astype(np.uint8))


def detector_gain(shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    return (1 + 0.08 * np.random.default_rng(7).standard_normal(shape)).clip(0.5, 2).astype(np.float32)


def stored_gain() -> np.ndarray:
    return read_mrc(read_table("results/in/exposures.star", "exposures")["gain"].iloc[0])[0]


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_orientation_of_the_gain_is_found_from_the_movies(raw: Path, turned: int, mirrored: bool) -> None:
    gain = detector_gain()
    counted_session(raw, gain)
    image = np.rot90(gain[:, ::-1] if mirrored else gain, turned)
    write_image(raw / "gain.mrc", image, 0.8)
    job = import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})
    np.testing.assert_array_equal(stored_gain(), gain)
    assert len(job.warnings) == (1 if turned or mirrored else 0)
    assert job.metrics["gain_evidence"]["value"] > 60
    assert job.metrics["detector_pattern_left"]["value"] < 0.3 * job.metrics["detector_pattern"]["value"]


def test_a_gain_that_divides_is_found_out_and_inverted(raw: Path) -> None:
    gain = detector_gain()
    counted_session(raw, gain)
    write_image(raw / "gain.mrc", 1 / gain, 0.8)
    job = import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})
    np.testing.assert_allclose(stored_gain() / stored_gain().mean(), gain / gain.mean(), rtol=0.02)
    assert "dividing" in job.warnings[0]


def test_an_orientation_that_was_given_is_kept_but_contradicted_when_the_movies_show_another(raw: Path) -> None:
    gain = detector_gain()
    counted_session(raw, gain)
    write_image(raw / "gain.mrc", gain, 0.8)
    settings = MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc", "gain_flip_x": True}
    job = import_all(settings)
    np.testing.assert_array_equal(stored_gain(), gain[:, ::-1])
    assert "the movies show this gain with 0 quarter turns, but it was given with 0 quarter turns, mirrored" in job.warnings[0]
    assert not import_all(settings | {"gain_check_movies": 0}).warnings


def test_a_gain_whose_orientation_cannot_be_seen_is_taken_as_it_is_with_a_warning_or_refused_when_it_must_be_turned(raw: Path) -> None:
    counted_session(raw, np.ones((96, 128), dtype=np.float32))
    weak = 1 + (detector_gain() - 1) / 100
    write_image(raw / "gain.mrc", weak, 0.8)
    job = import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})
    assert "do not show beyond doubt" in job.warnings[0]
    np.testing.assert_array_equal(stored_gain(), weak)
    write_image(raw / "gain.mrc", weak.T, 0.8)
    with pytest.raises(InputError, match="must be turned to fit the movies, but they do not show which way"):
        import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})


def test_a_gain_that_the_movies_do_not_show_at_all_is_questioned(raw: Path) -> None:
    counted_session(raw, np.ones((96, 128), dtype=np.float32))
    write_image(raw / "gain.mrc", detector_gain(), 0.8)
    job = import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})
    assert "are they corrected already" in job.warnings[0]


def test_a_missing_gain_is_estimated_when_asked_and_its_precision_is_told(raw: Path) -> None:
    gain = detector_gain()
    counted_session(raw, gain, movies=8, frames=10, rate=20.0)
    job = import_all(MOVIE | {"files": "raw/*.tif", "gain_estimate_movies": 8})
    good = stored_gain() > 0
    residual = (stored_gain() / gain)[good]
    assert residual.std() / residual.mean() < 0.4 * gain.std()
    assert job.metrics["gain_error"]["value"] == pytest.approx(100 * 1600**-0.5, rel=0.3)
    assert not job.warnings
    few = import_all(MOVIE | {"files": "raw/m0.tif", "gain_estimate_movies": 1})
    assert "more movies would give a better one" in few.warnings[0]


def test_an_eer_movie_is_compared_with_the_gain_at_physical_pixels(raw: Path) -> None:
    gain = detector_gain((64, 80))
    chance = np.random.default_rng(3)
    for number in range(3):
        write_eer_movie(raw / f"m{number}.eer", chance.poisson(8 / gain, (5, 64, 80)).clip(0, 20), chance)
    tifffile.imwrite(raw / "falcon.gain", gain[:, ::-1])
    settings = MOVIE | {"files": "raw/*.eer", "gain": "raw/falcon.gain", "eer_fractions": 5, "eer_upsampling": 2}
    import_all(settings)
    np.testing.assert_array_equal(stored_gain(), gain.repeat(2, axis=0).repeat(2, axis=1))
    table = read_table("results/in/exposures.star", "exposures")
    assert (table["width_px"][0], table["movie_pixel_size"][0]) == (160, 0.4)


def test_raw_frames_left_over_take_their_share_of_the_total_dose_with_them(raw: Path) -> None:
    counts = np.random.default_rng(3).poisson(0.1, (7, 16, 16)).clip(0, 1)
    raw_frames = 7 * write_eer_movie(raw / "m.eer", counts, np.random.default_rng(4), pixel_size=0.9)
    import_all(OPTICS | {"files": "raw/*.eer", "total_dose": raw_frames, "eer_fractions": 4})
    table = read_table("results/in/exposures.star", "exposures")
    assert table["dose_per_frame"][0] == pytest.approx(raw_frames // 4)
    assert table["movie_pixel_size"][0] == pytest.approx(0.45)


def test_a_pixel_size_that_the_header_contradicts_or_hardly_knows_is_remarked_upon(raw: Path) -> None:
    with mrcfile.new(raw / "m.mrc") as mrc:
        mrc.set_data(COUNTS.astype(np.int16))
        mrc.voxel_size = 1.2
    job = import_all(MOVIE | {"files": "raw/m.mrc"})
    assert "header tells a pixel size of 1.2 Å, but pixel_size is 0.8 Å" in job.warnings[0]
    with mrcfile.open(raw / "m.mrc", "r+") as mrc:
        mrc.voxel_size = 1.0
    job = import_all(OPTICS | {"files": "raw/m.mrc", "dose_per_frame": 1})
    assert "exactly 1 Å" in job.warnings[0]


BAD = {
    "TRUNCATED": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "FRAMES": lambda path: write_movie(path, COUNTS[:3]),
    "CODEC": lambda path: corrupt_strip(path),
    "ZERO": lambda path: write_movie(path, 0 * COUNTS),
    "NONFINITE": lambda path: write_movie(path, np.where(COUNTS > 8, np.nan, COUNTS).astype(np.float32)),
    "SATURATED": lambda path: write_movie(path, np.where(COUNTS > 4, 255, COUNTS).astype(np.uint8)),
    "SHAPE": lambda path: write_movie(path, COUNTS[:, :-2]),
    "EMPTY": lambda path: path.write_bytes(b""),
    "HEADER": lambda path: path.write_bytes(b"no TIFF at all"),
}


def corrupt_strip(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[2].dataoffsets[0], tiff.pages[2].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start + 10 : start + count] = bytes(count - 10)
    path.write_bytes(data)


@pytest.mark.parametrize("code", list(BAD))
def test_each_kind_of_bad_movie_is_set_aside_with_one_sentence_while_the_others_go_on(raw: Path, code: str) -> None:
    for number in range(4):
        write_movie(raw / f"m{number}.tif")
    BAD[code](raw / "m2.tif")
    write_image(raw / "gain.mrc", np.ones((16, 24), dtype=np.float32), 0.8)
    import_all(MOVIE | {"files": "raw/*.tif", "gain": "raw/gain.mrc"})
    failed = read_table("results/in/failed.star", "failed").iloc[0]
    assert (failed["movie"], failed["reason_code"]) == ("raw/m2.tif", code)
    assert failed["reason"].startswith("raw/m2.tif: ")
    assert "\n" not in failed["reason"]
    assert list(read_table("results/in/exposures.star", "exposures")["movie"]) == ["raw/m0.tif", "raw/m1.tif", "raw/m3.tif"]


def write_mdoc(movie: str, frames: int = 5, spacing: float = 0.9, volts: int = 200) -> None:
    text = f"Voltage = {volts}\n[FrameSet = 0]\nPixelSpacing = {spacing}\nExposureDose = 30\nNumSubFrames = {frames}\nImageShift = 1 -2\nStagePosition = 30 -40.5\n"
    Path(f"{movie}.mdoc").write_text(text)


def test_what_stands_beside_the_movies_need_not_be_given(raw: Path) -> None:
    for number in range(3):
        write_movie(raw / f"m{number}.tif")
        write_mdoc(f"raw/m{number}.tif")
    import_all({"files": "raw/*.tif", "cs_mm": 2.7})
    first = read_table("results/in/exposures.star", "exposures").iloc[0]
    assert (first["voltage_kv"], first["movie_pixel_size"], first["dose_per_frame"]) == (200, 0.9, 6)
    assert [first[name] for name in ("beam_shift_x", "beam_shift_y", "stage_x", "stage_y")] == [1, -2, 30, -40.5]
    import_all(MOVIE | {"files": "raw/*.tif"})
    assert read_table("results/in/exposures.star", "exposures")["voltage_kv"][0] == 300
    with pytest.raises(InputError, match="pixel_size must be given"):
        import_all({"files": "raw/*.tif", "cs_mm": 2.7, "read_metadata": False})


def test_movies_that_contradict_their_records_are_set_aside(raw: Path) -> None:
    told = {1: {"frames": 7}, 2: {"spacing": 1.8}, 3: {"volts": 300}}
    for number in range(5):
        write_movie(raw / f"m{number}.tif")
        write_mdoc(f"raw/m{number}.tif", **told.get(number, {}))
    import_all({"files": "raw/*.tif", "cs_mm": 2.7})
    failed = read_table("results/in/failed.star", "failed").set_index("movie")
    assert failed["reason_code"].to_dict() == {"raw/m1.tif": "FRAMES", "raw/m2.tif": "PIXELSIZE", "raw/m3.tif": "VOLTAGE"}
    assert "has 5 frames, but raw/m1.tif.mdoc tells of 7" in failed.loc["raw/m1.tif", "reason"]
    assert "raw/m3.tif.mdoc tells of 300 kV, but most others of 200 kV" in failed.loc["raw/m3.tif", "reason"]
    import_all({"files": "raw/*.tif", "cs_mm": 2.7, "voltage_kv": 300, "pixel_size": 0.9})
    assert list(read_table("results/in/failed.star", "failed")["reason_code"]) == ["FRAMES"]
