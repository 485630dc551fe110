"""Frames: motion, damage, counts, and the files they are written to."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from firn.formats.eer import iterate_eer
from firn.formats.movie import iterate_frames, read_header
from firn.simulate.detector import count_electrons, gain_reference, random_detector
from firn.simulate.micrograph import Canvas
from firn.simulate.motion import Motion, normalised, random_motion
from firn.simulate.movie import Exposure, damage, expected_frames
from firn.simulate.truth import read_motion, write_motion
from firn.simulate.write_eer import encode_events
from firn.simulate.write_movie import write_movie, write_mrc_movie

CANVAS = Canvas(64, 64, margin=16)


def bump(y: float, x: float) -> np.ndarray:
    rows, columns = np.mgrid[: CANVAS.shape[0], : CANVAS.shape[1]] - 16
    return (-0.4 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)).astype(np.float32)


def centroid(frame: np.ndarray, level: float) -> np.ndarray:
    weights = np.maximum(level - frame - 0.05 * level, 0)
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return np.array([np.average(axis, weights=weights) for axis in (x, y)])


def frames_of(motion: Motion, protein: np.ndarray, still: np.ndarray, dose: float = 1.0) -> list[np.ndarray]:
    exposure = Exposure(len(motion.trajectory), dose, 0.0, 300.0, 2.0)
    return list(expected_frames(protein, still, np.ones((64, 64), dtype=np.float32), CANVAS, motion, exposure))


def test_the_specimen_moves_along_its_trajectory() -> None:
    path = np.array([[0.0, 0.0], [2.4, -1.5], [5.0, 3.3]])
    frames = frames_of(Motion(path, np.zeros((3, 6, 2))), np.zeros(CANVAS.shape, dtype=np.float32), bump(30, 28))
    for frame, moved in zip(frames, path, strict=True):
        np.testing.assert_allclose(centroid(frame, 4.0), np.array([28, 30]) + moved, atol=0.05)


def test_the_field_moves_each_place_by_its_own_displacement() -> None:
    field = np.zeros((2, 6, 2))
    field[1, 1], field[1, 5] = (1.5, 0.0), (0.0, -2.0)
    motion = Motion(np.zeros((2, 2)), field)
    for y, x in ((12.0, 15.0), (50.0, 40.0)):
        first, second = frames_of(motion, np.zeros(CANVAS.shape, dtype=np.float32), bump(y, x))
        expected = motion.at(normalised(np.array([[x, y]]), (64, 64)))[1, 0]
        np.testing.assert_allclose(centroid(second, 4.0) - centroid(first, 4.0), expected, atol=0.2)


def test_protein_burns_and_ice_does_not() -> None:
    motion = Motion(np.zeros((10, 2)), np.zeros((10, 6, 2)))
    none = np.zeros(CANVAS.shape, dtype=np.float32)
    burnt, lasting = frames_of(motion, bump(32, 32), none, dose=5.0), frames_of(motion, none, bump(32, 32), dose=5.0)
    assert burnt[-1].min() > burnt[0].min() + 0.1
    np.testing.assert_allclose(lasting[-1], lasting[0], rtol=1e-5)


def test_after_twice_the_critical_dose_amplitude_has_fallen_to_one_part_in_e() -> None:
    left = damage((10, 10), 1.0, 2 * (0.24499 * 0.2**-1.6649 + 2.8141), 300.0)
    assert left[0, 2] == pytest.approx(np.exp(-1), rel=1e-4)
    assert damage((10, 10), 1.0, 10.0, 200.0)[0, 2] < damage((10, 10), 1.0, 10.0, 300.0)[0, 2]


def test_random_motion_starts_at_rest_moves_early_and_its_field_has_no_mean() -> None:
    motion = random_motion(30, 1.5, 8.0, 2.0, np.random.default_rng(5))
    steps = np.linalg.norm(np.diff(motion.trajectory, axis=0), axis=1)
    axis = np.linspace(-1, 1, 41)
    points = np.stack([line.ravel() for line in np.meshgrid(axis, axis)], axis=-1)
    assert np.abs(motion.at(points)[0]).max() == 0
    assert steps[:5].mean() > 2 * steps[-10:].mean()
    assert np.abs(motion.local(points).mean(axis=1)).max() < 0.1
    assert 1.0 < np.linalg.norm(motion.local(points), axis=-1).max() <= 2.1


def test_motion_comes_back_from_its_file(tmp_path: Path) -> None:
    motion = random_motion(6, 2.0, 5.0, 1.0, np.random.default_rng(6))
    write_motion(tmp_path / "motion.star", motion)
    read = read_motion(tmp_path / "motion.star")
    np.testing.assert_allclose(read.trajectory, motion.trajectory, atol=1e-5)
    np.testing.assert_allclose(read.field, motion.field, atol=1e-5)


def test_counts_times_gain_have_the_expected_mean_and_poisson_spread() -> None:
    detector = random_detector(256, 256, 0.1, 0, 0, np.random.default_rng(7))
    counts = count_electrons(np.full((256, 256), 4.0), detector, np.random.default_rng(8))
    corrected = counts * gain_reference(detector)
    assert counts.dtype == np.uint8
    assert corrected.mean() == pytest.approx(4.0, abs=0.04)
    assert corrected.var() == pytest.approx(4.0 * float(np.mean(detector.gain)), rel=0.05)


def test_dead_pixels_read_zero_and_hot_pixels_far_too_much() -> None:
    detector = random_detector(64, 64, 0.05, 7, 5, np.random.default_rng(9))
    counts = count_electrons(np.full((64, 64), 3.0), detector, np.random.default_rng(10))
    assert (detector.dead.sum(), detector.hot.sum()) == (7, 5)
    assert (counts[detector.dead] == 0).all()
    assert counts[detector.hot].min() > 15
    assert (gain_reference(detector)[detector.dead] == 0).all()


def counted(shape: tuple[int, int] = (20, 33), frames: int = 3) -> list[np.ndarray]:
    chance = np.random.default_rng(11)
    return [chance.poisson(1.0, shape).astype(np.uint8) for _ in range(frames)]


@pytest.mark.parametrize("ending", ["tif", "mrc"])
def test_a_movie_is_read_back_as_it_was_counted(tmp_path: Path, ending: str) -> None:
    frames = counted()
    write_movie(tmp_path / f"movie.{ending}", frames, 1.5, np.random.default_rng(1))
    np.testing.assert_array_equal(np.stack(list(iterate_frames(tmp_path / f"movie.{ending}"))), np.stack(frames))


def test_row_zero_is_the_last_row_of_a_lzw_tiff_page(tmp_path: Path) -> None:
    frames = counted()
    write_movie(tmp_path / "movie.tif", frames, 1.5, np.random.default_rng(1))
    with tifffile.TiffFile(tmp_path / "movie.tif") as tiff:
        assert tiff.pages[0].compression == tifffile.COMPRESSION.LZW
        np.testing.assert_array_equal(tiff.pages[1].asarray()[-1], frames[1][0])


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.float32])
def test_mrc_movies_are_written_in_modes_0_1_6_and_2(tmp_path: Path, kind: type) -> None:
    write_mrc_movie(tmp_path / "movie.mrc", counted(), 1.5, kind)
    np.testing.assert_array_equal(np.stack(list(iterate_frames(tmp_path / "movie.mrc"))), np.stack(counted()))


@pytest.mark.parametrize("density", [0.0, 0.001, 0.2])
def test_encoded_events_are_decoded_at_their_pixels(density: float) -> None:
    mask = np.random.default_rng(12).random((40, 50)) < density
    decoded = imagecodecs.eer_decode(encode_events(mask, np.random.default_rng(13)), (40, 50), 7, 2, 2, superres=0)
    np.testing.assert_array_equal(decoded > 0, mask)


def test_an_eer_movie_sums_to_the_counts_of_its_fractions(tmp_path: Path) -> None:
    frames = counted((64, 48), frames=4)
    write_movie(tmp_path / "movie.eer", frames, 1.0, np.random.default_rng(14))
    assert read_header(tmp_path / "movie.eer", 4, 1).frames == 4
    np.testing.assert_array_equal(np.stack(list(iterate_eer(tmp_path / "movie.eer", 4, 1))), np.stack(frames))
    fine = next(iterate_eer(tmp_path / "movie.eer", 4, 2))
    np.testing.assert_array_equal(fine.reshape(64, 2, 48, 2).sum(axis=(1, 3)), frames[0])


def test_one_frame_is_a_movie_too() -> None:
    still = frames_of(Motion(np.zeros((1, 2)), np.zeros((1, 6, 2))), np.zeros(CANVAS.shape, dtype=np.float32), bump(32, 32))
    np.testing.assert_allclose(centroid(still[0], 4.0), [32, 32], atol=0.02)
