"""The way a gain lies is read off the movies when it can be, and nothing is said when it cannot."""

import itertools

import numpy as np
import pytest

from firn.preprocess.gain_pattern import (
    ORIENTATIONS,
    Orientation,
    estimate_gain,
    find_orientation,
    fixed_pattern,
    residual_pattern,
)

SHAPE = (160, 208)


def detector(shape: tuple[int, int] = SHAPE, spread: float = 0.05, seed: int = 1) -> np.ndarray:
    return (1 + spread * np.random.default_rng(seed).standard_normal(shape)).clip(0.5, 2).astype(np.float32)


def counted(gain: np.ndarray, counts: float, seed: int = 2) -> np.ndarray:
    """Sum of raw frames under uneven light."""
    light = 1 + 0.2 * np.cos(np.linspace(0, 3, gain.shape[1]))
    return np.random.default_rng(seed).poisson(counts * light / gain).astype(np.float32)


def stored_for(gain: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The array that lies as the gain does once the orientation is applied."""
    turns = [np.rot90(image, turn) for image in (gain, gain[:, ::-1]) for turn in range(4)]
    return next(image for image in turns if orientation.apply(image).shape == gain.shape and np.array_equal(orientation.apply(image), gain))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_each_of_the_eight_orientations_is_found_and_whether_the_gain_divides(orientation: Orientation) -> None:
    gain = detector()
    stored = stored_for(gain, orientation)
    for divides, given in ((False, stored), (True, 1 / stored)):
        finding = find_orientation(counted(gain, 8.0), given)
        assert finding is not None
        assert finding.clear
        assert finding.best == Orientation(orientation.rotate, orientation.flip_x, divides)
        assert len(finding.correlations) == 4


def test_a_square_detector_is_compared_in_all_eight_orientations_and_dead_and_hot_pixels_do_not_matter() -> None:
    gain = detector((160, 160))
    mean = counted(gain, 8.0)
    mean[40, 50], mean[:, 90], gain[10, :] = 1e5, 0, 0
    finding = find_orientation(mean, stored_for(gain, ORIENTATIONS[5]))
    assert finding is not None
    assert len(finding.correlations) == 8
    assert finding.clear
    assert finding.best == ORIENTATIONS[5]


def test_a_pattern_too_weak_for_the_counts_is_not_guessed() -> None:
    for seed in range(6):
        finding = find_orientation(counted(detector((128, 128), 0.002), 3.0, seed), detector((128, 128), 0.002))
        assert finding is not None
        assert not finding.clear
        assert not finding.absent


def test_a_pattern_symmetric_under_a_mirror_is_not_decided_by_it() -> None:
    half = detector((128, 64))
    gain = np.concatenate([half, half[:, ::-1]], axis=1)
    finding = find_orientation(counted(gain, 30.0), gain)
    assert finding is not None
    assert finding.sigmas > 20
    assert not finding.clear


def test_the_gain_of_another_camera_and_corrected_movies_are_noticed() -> None:
    gain = detector((160, 160))
    for mean in (counted(detector((160, 160), seed=9), 30.0), counted(gain, 30.0) * gain):
        finding = find_orientation(mean, gain)
        assert finding is not None
        assert finding.absent
        assert not finding.clear


def test_a_gain_of_another_shape_has_no_orientation() -> None:
    assert find_orientation(counted(detector(), 5.0), detector((100, 208))) is None


@pytest.mark.parametrize("shape", [(4, 7), (5, 5)])
def test_an_orientation_given_by_a_turn_and_two_mirrors_does_the_same(shape: tuple[int, int]) -> None:
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    for rotate, flip_x, flip_y in itertools.product(range(4), (False, True), (False, True)):
        expected = np.rot90(image, -rotate)
        expected = expected[:, ::-1] if flip_x else expected
        expected = expected[::-1] if flip_y else expected
        np.testing.assert_array_equal(Orientation.given(rotate, flip_x, flip_y).apply(image), expected)


def test_a_quarter_turn_moves_the_lower_right_corner_to_the_upper_right() -> None:
    image = np.arange(12.0).reshape(3, 4)
    turned = Orientation.given(1, False, False).apply(image)
    assert turned.shape == (4, 3)
    assert turned[-1, -1] == image[0, -1]


def test_uneven_light_is_no_pattern_and_a_gain_is() -> None:
    light = np.broadcast_to(1 + 0.2 * np.cos(np.linspace(0, 3, 208)), SHAPE).astype(np.float32)
    assert np.abs(fixed_pattern(light)[0][20:-20, 20:-20]).max() < 0.002
    assert fixed_pattern(1 / detector())[0].std() == pytest.approx(0.05, rel=0.1)


def test_the_gain_estimated_from_many_counts_comes_close_to_the_true_one() -> None:
    gain = detector()
    estimated, pattern, error = estimate_gain((counted(gain, 4000.0, 3), counted(gain, 4000.0, 4)))
    deviation = (fixed_pattern(1 / estimated)[0] - fixed_pattern(1 / gain)[0]).std()
    assert pattern == pytest.approx(0.05, rel=0.1)
    assert deviation == pytest.approx(1 / np.sqrt(8000 * 1.1), rel=0.3)
    assert error == pytest.approx(deviation, rel=0.3)
    before, after = residual_pattern((counted(gain, 4000.0, 5), counted(gain, 4000.0, 6)), estimated)
    assert before == pytest.approx(0.05, rel=0.1)
    assert after < 0.3 * before


def test_too_few_counts_give_a_gain_without_pattern_rather_than_noise() -> None:
    gain = detector(spread=0.01)
    estimated, _, _ = estimate_gain((counted(gain, 20.0, 3), counted(gain, 20.0, 4)))
    assert estimated.std() < 0.02


def test_pixels_that_never_count_are_defects_of_the_estimated_gain() -> None:
    gain = detector()
    halves = (counted(gain, 500.0, 3), counted(gain, 500.0, 4))
    for half in halves:
        half[30, 40] = 0
        half[:, 100] = 0
    estimated, _, _ = estimate_gain(halves)
    assert estimated[30, 40] == 0
    assert (estimated[:, 100] == 0).all()
    assert (estimated == 0).sum() == 1 + SHAPE[0]
