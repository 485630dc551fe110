"""Hands of classes: what inversion does to volumes and poses, and that mirror images among classes are found."""

import pytest
import torch

from firn.kernels.fourier import resize_volumes
from firn.kernels.mask import centre_distance, soft_sphere
from firn.kernels.project import prepare_volume, project_points
from firn.kernels.rotation import random_rotations
from firn.refine.ab_initio_course import of_one_hand
from firn.refine.class_hands import halves_of_two_hands, inverted, inverted_rotations, other_hands
from firn.refine.initial_data import working_geometry
from firn.refine.initial_search import Found
from refine.ab_initio_data import BOX, PIXEL_SIZE, volume


@pytest.mark.parametrize("n", [8, 9])
def test_inversion_maps_each_point_to_its_opposite(n):
    point = torch.zeros(n, n, n)
    point[n // 2 + 1, n // 2 - 2, n // 2 + 3] = 1
    assert inverted(point)[n // 2 - 1, n // 2 + 2, n // 2 - 3] == 1
    assert torch.equal(inverted(inverted(point)), point)


def test_projections_of_the_inverted_volume_are_those_of_the_volume():
    geometry, rotations = working_geometry(BOX, PIXEL_SIZE, 20.0), random_rotations(5, torch.Generator().manual_seed(1))
    molecule = resize_volumes(volume(), geometry.n)
    before = project_points(prepare_volume(molecule), rotations, geometry.disc.points)
    after = project_points(prepare_volume(inverted(molecule)), inverted_rotations(rotations), geometry.disc.points)
    assert (after - before).abs().max() < 1e-3 * before.abs().max()
    assert torch.allclose(torch.linalg.det(inverted_rotations(rotations)), torch.ones(5), atol=1e-5)


def test_a_class_that_is_the_mirror_image_of_the_largest_one_is_turned_round():
    """Axes in another order and inversion are mirror images: classes 1 and 2 are turned too, but only class 1 is of the other hand."""
    n = 24
    molecule = resize_volumes(volume(), n)
    mirrored = torch.roll(inverted(molecule), (1, 0, 2), (0, 1, 2))
    turned = inverted(molecule.transpose(0, 1))
    assert other_hands([molecule, mirrored, turned, 0 * molecule], 0, 5.0).tolist() == [False, True, False, False]


def test_poses_of_a_class_follow_its_hand():
    n = 24
    molecule, rotations = resize_volumes(volume(), n), random_rotations(3, torch.Generator().manual_seed(2))
    classes = torch.tensor([0, 1, 0])
    found = Found(torch.zeros(3), torch.ones(3, 2), classes, rotations, torch.zeros(3, 2), torch.ones(3), torch.zeros(3, 0))
    volumes, turned = of_one_hand([molecule, inverted(molecule)], found, 5.0)
    assert torch.equal(volumes[1], molecule)
    assert torch.equal(turned.rotations[classes == 0], rotations[classes == 0])
    assert torch.equal(turned.rotations[1], inverted_rotations(rotations[1]))


def test_half_maps_of_two_hands_are_told_from_noisy_ones_of_one_hand():
    """Noise of its own in each half: of one hand it never looks like two, nor does noise alone, nor a ball, which has no hand."""
    n = 32
    mask, chance = soft_sphere(n, 12.0, 2.0), torch.Generator().manual_seed(3)
    molecule = resize_volumes(volume(), n)
    ball = (centre_distance((n, n, n)) < 8) * molecule.std() * 3
    noise = [0.5 * molecule.std() * torch.randn(2, n, n, n, generator=chance) for _ in range(5)]
    for first, second in noise:
        assert halves_of_two_hands((molecule + first, inverted(molecule) + second), mask, 8.0, 1)
        assert not halves_of_two_hands((molecule + first, molecule + second), mask, 8.0, 1)
        assert not halves_of_two_hands((ball + first, ball + second), mask, 8.0, 1)
        assert not halves_of_two_hands((first, second), mask, 8.0, 1)
