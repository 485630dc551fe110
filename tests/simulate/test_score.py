"""Scores: matches, poses free of what no one can know, and maps laid on each other."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

from firn.errors import InputError
from firn.formats.motion_star import MovieInfo, SplineField, write_motion
from firn.simulate.align_map import align_map, apply_alignment, rotation_grid
from firn.simulate.compare import compare_map, compare_motion, compare_picks
from firn.simulate.euler import euler_to_matrix, random_matrices, rotation_angle
from firn.simulate.motion import random_motion
from firn.simulate.phantom import Phantom, phantom_volume, random_phantom
from firn.simulate.resample import correlation_by_shell, mirror_z, resample, resolution_at, turn
from firn.simulate.score import (
    MIRROR,
    astigmatism_vector,
    match_points,
    motion_residual,
    origin_errors,
    precision_recall,
    score_poses,
    spline_displacement,
)
from firn.simulate.symmetry import symmetry_operators
from firn.simulate.truth import write_motion as write_truth

GRID = 2 * np.stack([line.ravel() for line in np.meshgrid(np.linspace(0.1, 0.9, 5), np.linspace(0.1, 0.9, 5))], axis=-1) - 1
RELION = json.loads((Path(__file__).parents[1] / "data" / "relion_symmetry_operators.json").read_text())


@pytest.mark.parametrize("group", RELION)
def test_symmetry_operators_are_those_that_relion_printed(group: str) -> None:
    theirs, ours = np.array(RELION[group]).reshape(-1, 3, 3), symmetry_operators(group)
    assert len(ours) == len(theirs)
    assert np.abs(ours[:, None] - theirs[None]).max(axis=(2, 3)).min(axis=1).max() < 2e-3


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="X3"):
        symmetry_operators("X3")


def test_points_are_matched_one_to_one_and_as_many_as_possible() -> None:
    true, found = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[5.0, 0.0], [14.0, 0.0], [90.0, 0.0]])
    rows, columns = match_points(true, found, 6.0)
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (1, 1)]
    assert precision_recall(2, 3, 2) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert len(match_points(np.zeros((0, 2)), found, 6.0)[0]) == 0


def test_picks_are_compared_in_angstroms_whatever_the_pixels() -> None:
    truth = pd.DataFrame({"exposure_id": ["a", "a"], "x_px": [10.0, 50.0], "y_px": [10.0, 20.0], "micrograph_pixel_size": 1.0})
    picks = pd.DataFrame({"exposure_id": ["a", "a", "b"], "x_px": [5.5, 40.0, 5.0], "y_px": [5.0, 40.0, 5.0], "micrograph_pixel_size": 2.0})
    score = compare_picks(picks, truth, 5.0)
    assert (score.matched, score.precision, score.recall, score.offset) == (1, pytest.approx(1 / 3), 0.5, pytest.approx(1.0))


def test_nearly_round_astigmatism_differs_little_whatever_its_angle() -> None:
    vectors = astigmatism_vector(np.array([10010.0, 10010.0]), np.array([10000.0, 10000.0]), np.array([0.0, 90.0]))
    assert np.linalg.norm(vectors[0] - vectors[1]) == pytest.approx(20)


def test_a_constant_offset_is_no_residual_motion() -> None:
    true = np.cumsum(np.random.default_rng(1).normal(size=(8, 5, 2)), axis=0)
    residual, offset = motion_residual(true + 0.7, true)
    assert residual < 1e-12
    np.testing.assert_allclose(offset, 0.7)
    assert motion_residual(np.zeros_like(true), true)[0] > 0.5


@pytest.mark.parametrize("start", [0, 2])
def test_the_motion_that_undoes_the_true_one_leaves_no_residual(tmp_path: Path, start: int) -> None:
    true = random_motion(9, 2.0, 6.0, 1.5, np.random.default_rng(12))
    true.field[:, 3:] = 0
    write_truth(tmp_path / "true.star", true)
    shifts = -1.5 * (true.trajectory - true.trajectory[start])[start:, ::-1]
    coefficients = np.zeros((4, 4, 4, 2))
    info = MovieInfo("m.tif", None, 512, 512, 9, start + 1, 1.0, 1.5, 2.0, 0.0, 300.0)
    raster = np.zeros((9 - start, 9, 9, 2))
    write_motion(tmp_path / "found.star", info, shifts, SplineField(coefficients, np.linspace(0, 1, 9 - start)), raster)
    exposures, truth = (pd.DataFrame({"exposure_id": ["a"], "motion_star": [str(tmp_path / name)]}) for name in ("found.star", "true.star"))
    row = compare_motion(exposures, truth).iloc[0]
    left = motion_residual(np.zeros((9 - start, 25, 2)), true.local(GRID)[start:])[0]
    assert row["residual_global"] < 1e-5
    assert row["residual"] == pytest.approx(left, rel=1e-3)
    assert row["uncorrected"] > 3 * row["residual_global"]


def test_the_spline_field_is_scipys() -> None:
    coefficients = np.random.default_rng(2).normal(size=(5, 4, 6, 2))
    values = spline_displacement(coefficients, np.array([0.0, 0.5, 1.0]), np.array([[0.3, 0.8]]))
    along_x = BSpline((np.arange(10) - 3) / 3, coefficients[..., 0].transpose(2, 0, 1), 3)(0.8)
    along_y = BSpline((np.arange(8) - 3) / 1, along_x.T, 3)(0.3)
    expected = BSpline((np.arange(9) - 3) / 2, along_y, 3)(0.5)
    assert values[1, 0, 0] == pytest.approx(float(expected))


@pytest.mark.parametrize(("group", "mirrored"), [("C1", False), ("D2", True), ("O", False), ("I1", True)])
def test_pose_errors_are_free_of_common_rotation_symmetry_and_hand(group: str, mirrored: bool) -> None:
    chance = np.random.default_rng(3)
    operators, true = symmetry_operators(group), random_matrices(200, chance)
    estimated = operators[chance.integers(0, len(operators), 200)] @ true
    estimated = MIRROR @ estimated @ MIRROR if mirrored else estimated
    nudges = Rotation.from_rotvec(chance.normal(0, 1, (200, 3)), degrees=True).as_matrix()
    estimated = random_matrices(1, chance)[0] @ estimated @ nudges
    estimated[:50] = random_matrices(50, chance)
    score = score_poses(estimated, true, operators)
    assert score.mirrored == mirrored
    expected = np.median(rotation_angle(nudges, np.eye(3)[None]))
    assert np.median(score.errors[50:]) == pytest.approx(expected, rel=0.15)


def test_origin_errors_are_free_of_the_volumes_shift() -> None:
    chance = np.random.default_rng(4)
    poses, true = random_matrices(50, chance), chance.normal(0, 3, (50, 2))
    moved = true + (poses.transpose(0, 2, 1) @ np.array([3.0, -2.0, 5.0]))[:, :2]
    assert origin_errors(moved, true, poses).max() < 1e-9


@pytest.mark.parametrize(("box", "new"), [(32, 48), (33, 24)])
def test_resampling_gives_the_density_at_the_new_pixels(box: int, new: int) -> None:
    phantom = random_phantom(20, 30.0, seed=5, widths=(8.0, 10.0))
    density = phantom_volume(phantom, box, 4.0) / 4.0**3
    spacing = 4.0 * box / new
    expected = phantom_volume(phantom, new, spacing) / spacing**3
    np.testing.assert_allclose(resample(density, 4.0, new, spacing), expected, atol=0.02 * expected.max())


@pytest.mark.parametrize("box", [32, 33])
def test_turning_a_volume_is_turning_its_atoms(box: int) -> None:
    phantom, rotation, shift = (
        random_phantom(20, 25.0, seed=6, widths=(8.0, 10.0)),
        euler_to_matrix(30.0, 50.0, 70.0),
        np.array([1.0, -2.0, 1.5]),
    )
    moved = Phantom((phantom.positions - 4.0 * shift) @ rotation, phantom.widths, phantom.weights)
    turned, expected = turn(phantom_volume(phantom, box, 4.0), rotation, shift), phantom_volume(moved, box, 4.0)
    np.testing.assert_allclose(turned, expected, atol=0.02 * expected.max())


def test_the_mirror_image_keeps_the_origin_in_place() -> None:
    phantom = random_phantom(20, 25.0, seed=7)
    other = Phantom(phantom.positions * [1, 1, -1], phantom.widths, phantom.weights)
    for box in (32, 33):
        expected = phantom_volume(other, box, 4.0)
        np.testing.assert_allclose(mirror_z(phantom_volume(phantom, box, 4.0)), expected, atol=1e-3 * expected.max())


def test_shells_of_a_map_with_noise_as_strong_as_itself_correlate_by_one_over_root_two() -> None:
    chance = np.random.default_rng(8)
    first, noise = chance.normal(size=(2, 32, 32, 32))
    assert np.mean(correlation_by_shell(first, first + noise)[3:]) == pytest.approx(2**-0.5, abs=0.03)
    assert resolution_at(np.array([1.0, 1.0, 0.8, 0.2, 0.1]), 0.5, 8, 2.0) == pytest.approx(8 * 2.0 / 2.5)


def test_the_grid_of_rotations_leaves_no_gap() -> None:
    grid, chance = rotation_grid(20.0), random_matrices(50, np.random.default_rng(9))
    nearest = [rotation_angle(np.broadcast_to(rotation, grid.shape), grid).min() for rotation in chance]
    assert max(nearest) < 20


@pytest.mark.parametrize(("box", "pixel_size", "mirrored"), [(40, 4.0, False), (45, 3.6, True)])
def test_a_map_is_found_again_turned_shifted_mirrored_and_noisy(box: int, pixel_size: float, mirrored: bool) -> None:
    chance = np.random.default_rng(10)
    phantom, rotation, shift = random_phantom(60, 45.0, seed=11), random_matrices(1, chance)[0], np.array([7.0, -11.0, 4.0])
    positions = (phantom.positions @ rotation.T + shift) * ([1, 1, -1] if mirrored else [1, 1, 1])
    reference = phantom_volume(phantom, box, pixel_size)
    volume = phantom_volume(Phantom(positions, phantom.widths, phantom.weights), box, pixel_size)
    volume += chance.normal(0, 0.05 * volume.max(), volume.shape).astype(np.float32)
    found = align_map(volume, reference, pixel_size)
    assert found.mirrored == mirrored
    assert rotation_angle(found.rotation, rotation) < 1
    assert np.linalg.norm(found.shift - shift) < 0.5
    assert found.correlation > found.other_hand + 0.02
    assert correlation_by_shell(apply_alignment(volume, found, pixel_size), reference)[1:5].min() > 0.98


def test_a_map_is_compared_with_a_model_of_other_pixels() -> None:
    phantom = random_phantom(60, 45.0, seed=12)
    score = compare_map(phantom_volume(phantom, 40, 4.0), 4.0, phantom_volume(phantom, 60, 2.5), 2.5, both_hands=False)
    assert score.resolution_half < 9
    assert rotation_angle(score.alignment.rotation, np.eye(3)) < 0.5
