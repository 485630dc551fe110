"""Phantoms: closed forms of volumes and projections, and RELION as the judge of the convention."""

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from firn.formats.mrc import write_volume
from firn.simulate.euler import euler_to_matrix, matrix_to_euler, random_matrices, rotation_angle
from firn.simulate.phantom import Phantom, phantom_projection, phantom_volume, random_phantom


def test_euler_matrices_are_scipys_intrinsic_zyz() -> None:
    angles = np.random.default_rng(1).uniform([-180, 0, -180], [180, 180, 180], (20, 3))
    np.testing.assert_allclose(euler_to_matrix(*angles.T), Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix(), atol=1e-12)


def test_angles_and_matrices_are_inverse_even_at_the_poles() -> None:
    angles = np.array([[10.0, 0.0, 40.0], [25.0, 180.0, 40.0], [-170.0, 90.0, 120.0], [3.0, 55.0, -7.0]])
    matrices = euler_to_matrix(*angles.T)
    assert rotation_angle(euler_to_matrix(*matrix_to_euler(matrices).T), matrices).max() < 1e-4


def test_random_rotations_point_everywhere_equally() -> None:
    matrices = random_matrices(4000, np.random.default_rng(2))
    assert np.abs(matrices.mean(axis=0)).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("box", [48, 49])
def test_a_volume_sums_to_the_total_weight_and_is_centred_on_its_mass(box: int) -> None:
    phantom = random_phantom(40, 40.0, seed=3)
    volume = phantom_volume(phantom, box, 3.0)
    assert volume.sum() == pytest.approx(phantom.weights.sum(), rel=1e-3)
    axis = np.arange(box) - box // 2
    centre = [np.tensordot(volume, axis, axes=(dim, 0)).sum() for dim in range(3)]
    np.testing.assert_allclose(centre, 0, atol=1e-2 * phantom.weights.sum())


def test_one_gaussian_has_the_closed_form_at_its_peak() -> None:
    phantom = Phantom(np.array([[6.0, -4.0, 2.0]]), np.array([5.0]), np.array([3.0]))
    volume = phantom_volume(phantom, 32, 2.0)
    assert np.unravel_index(volume.argmax(), volume.shape) == (17, 14, 19)
    assert volume.max() == pytest.approx(3.0 * 8 / (2 * np.pi * 25) ** 1.5, rel=1e-5)


@pytest.mark.parametrize("box", [48, 49])
def test_a_projection_is_the_sum_of_the_turned_volume_along_z(box: int) -> None:
    phantom = random_phantom(30, 40.0, seed=4)
    rotation = euler_to_matrix(35.0, 70.0, -20.0)
    turned = Phantom(phantom.positions @ rotation, phantom.widths, phantom.weights)
    expected = phantom_volume(turned, box, 3.0).sum(axis=0)
    np.testing.assert_allclose(phantom_projection(phantom, rotation, box, 3.0), expected, atol=1e-3 * expected.max())


def test_a_shift_of_whole_pixels_moves_the_image_along_x_then_y() -> None:
    phantom = random_phantom(30, 25.0, seed=5)
    still = phantom_projection(phantom, np.eye(3), 40, 3.0)
    moved = phantom_projection(phantom, np.eye(3), 40, 3.0, shift_xy=(6.0, -3.0))
    np.testing.assert_allclose(moved, np.roll(still, (-1, 2), axis=(0, 1)), atol=1e-4 * still.max())


def test_a_phantom_is_unlike_its_mirror_image() -> None:
    volume = phantom_volume(random_phantom(60, 45.0, seed=6), 32, 4.0).astype(np.float64)
    assert np.corrcoef(volume.ravel(), volume[:, :, ::-1].ravel())[0, 1] < 0.9


def test_symmetry_operators_map_a_phantom_onto_itself() -> None:
    operators = euler_to_matrix(np.arange(4) * 90.0, 0.0, 0.0)
    volume = phantom_volume(random_phantom(20, 40.0, seed=7, symmetry_operators=operators), 33, 3.0)
    np.testing.assert_allclose(np.rot90(volume, axes=(1, 2)), volume, atol=1e-4 * volume.max())


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="relion_project is not installed")
def test_relion_projects_a_phantom_to_the_same_image_and_shifts_by_minus_the_origin(tmp_path: Path) -> None:
    phantom = random_phantom(50, 45.0, seed=8)
    write_volume(tmp_path / "map.mrc", phantom_volume(phantom, 64, 3.0), 3.0)
    options = ["--rot", "35", "--tilt", "70", "--psi", "-20", "--angpix", "3", "--xoff", "6", "--yoff", "-3"]
    subprocess.run(["relion_project", "--i", "map.mrc", "--o", "image.mrc", *options], cwd=tmp_path, check=True, capture_output=True)
    with mrcfile.open(tmp_path / "image.mrc", permissive=True) as mrc:
        image = np.squeeze(np.array(mrc.data, dtype=np.float64))
    expected = phantom_projection(phantom, euler_to_matrix(35, 70, -20), 64, 3.0, shift_xy=(-18.0, 9.0))
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.9999
