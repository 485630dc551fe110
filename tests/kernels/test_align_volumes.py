"""A phantom that was turned and shifted by known amounts is laid back on itself."""

import numpy as np
import pytest
import torch

from firn.kernels.align_volumes import align, place
from firn.kernels.box import mirror
from firn.kernels.fsc import fsc
from firn.kernels.rotation import random_rotations, rotation_distance
from firn.simulate.phantom import Phantom, phantom_volume, random_phantom

PIXEL = 4.0
PHANTOM = random_phantom(60, 45.0, seed=1, widths=(3.0, 5.0))


def displaced(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(volume, rotation, shift in pixels) such that place(volume, rotation, shift) is the phantom."""
    chance = torch.Generator().manual_seed(seed)
    rotation, shift = random_rotations(1, chance)[0], 2 * torch.randn(3, generator=chance)
    xyz, shift_xyz = torch.flip(rotation, (0, 1)).double().numpy(), torch.flip(shift, (0,)).double().numpy() * PIXEL
    moved = Phantom((PHANTOM.positions - shift_xyz) @ xyz.T, PHANTOM.widths, PHANTOM.weights)
    return torch.tensor(phantom_volume(moved, n, PIXEL)), rotation, shift


@pytest.mark.parametrize("n", [36, 37])
def test_placing_a_displaced_phantom_by_its_true_displacement_gives_the_phantom(n: int):
    volume, rotation, shift = displaced(n, 2)
    truth = torch.tensor(phantom_volume(PHANTOM, n, PIXEL))
    assert float(fsc(place(volume, rotation, shift), truth)[1 : n // 2 - 2].min()) > 0.995


@pytest.mark.parametrize(("n", "seed"), [(36, 3), (37, 4)])
def test_rotation_and_shift_are_found_from_nothing(n: int, seed: int):
    volume, rotation, shift = displaced(n, seed)
    found = align(volume, torch.tensor(phantom_volume(PHANTOM, n, PIXEL)), n * PIXEL / 12.0)
    assert float(rotation_distance(found.rotation, rotation)) < 0.1
    assert float((found.shift - shift).norm()) < 0.02
    assert found.correlation > 0.999


def test_noise_moves_the_placement_a_little_and_the_other_hand_fits_worse():
    volume, rotation, shift = displaced(36, 5)
    chance = np.random.default_rng(0)
    truth = phantom_volume(PHANTOM, 36, PIXEL)
    first, second = (
        torch.tensor((map_ + 0.3 * truth.std() * chance.normal(size=truth.shape)).astype(np.float32)) for map_ in (volume.numpy(), truth)
    )
    found = align(first, second, 36 * PIXEL / 12.0)
    assert float(rotation_distance(found.rotation, rotation)) < 1.5
    assert float((found.shift - shift).norm()) < 0.15
    assert align(mirror(first), second, 36 * PIXEL / 12.0).correlation < found.correlation - 0.1
