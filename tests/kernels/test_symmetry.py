"""Point groups: RELION's operators, closure, and what symmetrising does."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from firn.errors import InputError
from firn.kernels.fourier import irfft3, rfft3
from firn.kernels.rotation import random_rotations
from firn.kernels.symmetry import group_factors, group_order, in_asymmetric_unit, symmetrize_spectrum, symmetrize_volume, symmetry_matrices

GROUPS = ("C1", "C4", "D2", "D7", "T", "O", "I1", "I2", "I3", "I4")
RELION = json.loads((Path(__file__).parents[1] / "data" / "relion_symmetry_operators.json").read_text())


@pytest.mark.parametrize("group", GROUPS)
def test_products_of_a_groups_factors_are_the_group_each_once(group):
    operators = symmetry_matrices(group)
    products = torch.eye(3, dtype=torch.float64)[None]
    for factor in group_factors(operators):
        products = torch.einsum("hij,kjl->khil", products, factor).flatten(0, 1)
    assert len(products) == len(operators)
    assert float((products[:, None] - operators[None]).abs().amax(dim=(2, 3)).amin(0).max()) < 1e-9


def test_the_octahedral_group_has_factors_that_permute_axes_only():
    factors = group_factors(symmetry_matrices("O"))
    assert sum(len(factor) for factor in factors) <= 9
    assert all(float((factor - factor.round()).abs().max()) < 1e-9 for factor in factors)


def unmatched(ours: torch.Tensor, theirs_xyz: torch.Tensor) -> float:
    """Largest distance of one of our operators (zyx) from its nearest in another set (xyz)."""
    xyz = torch.flip(ours, dims=(-2, -1))
    return float((xyz[:, None] - theirs_xyz[None]).abs().amax(dim=(-2, -1)).amin(dim=1).max())


def blob_volume(n: int, centre: tuple[float, float, float], width: float = 1.6) -> torch.Tensor:
    axis = torch.arange(n) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.exp(-((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / (2 * width**2))


@pytest.mark.parametrize("group", RELION)
def test_operators_are_those_that_relion_printed(group):
    theirs = torch.tensor(RELION[group], dtype=torch.float64).reshape(-1, 3, 3)
    ours = symmetry_matrices(group)
    assert len(ours) == len(theirs)
    assert unmatched(ours, theirs) < 2e-3


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
@pytest.mark.parametrize("group", ["C7", "D3", "T", "O", "I", "I1", "I3", "I4"])
def test_operators_are_those_that_relion_prints(group):
    text = subprocess.run(["relion_refine", "--print_symmetry_ops", "--sym", group], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines() if "Euler" not in line and "R(" not in line and "+" not in line]
    numbers = [[float(word) for word in row] for row in rows if len(row) == 3]
    theirs = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 3, 3)
    assert len(theirs) == group_order(group)
    assert unmatched(symmetry_matrices(group), theirs) < 2e-3


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_closed_and_made_of_rotations(group):
    matrices = symmetry_matrices(group)
    assert torch.equal(matrices[0], torch.eye(3, dtype=torch.float64))
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(len(matrices), dtype=torch.float64))
    products = torch.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 1, 3, 3)
    assert (products - matrices).abs().amax(dim=(-2, -1)).amin(dim=1).max() < 1e-9


@pytest.mark.parametrize("name", ["C0", "K5", "", "I7", "D", "C61"])
def test_an_unknown_group_is_refused_in_one_sentence(name):
    with pytest.raises(InputError, match=r"none of Cn, Dn"):
        symmetry_matrices(name)


@pytest.mark.parametrize("n", [24, 25])
def test_symmetrising_puts_one_copy_at_every_image_of_a_blob(n):
    centre = torch.tensor([3.0, 5.0, 1.0])
    expected = sum(blob_volume(n, tuple((matrix.float() @ centre).tolist())) for matrix in symmetry_matrices("D3")) / 6
    made = symmetrize_volume(blob_volume(n, (3, 5, 1)), "D3")
    assert (made - expected).abs().max() < 0.03 * expected.max()


@pytest.mark.parametrize("n", [24, 25])
def test_axis_permutations_lose_nothing(n):
    volume = blob_volume(n, (2, -3, 1))
    made = symmetrize_volume(volume, "C4")
    quarter = sum(blob_volume(n, (2, *yx)) for yx in ((-3, 1), (1, 3), (3, -1), (-1, -3))) / 4
    assert torch.allclose(made, quarter, atol=1e-5)


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("group", ["C4", "O"])
def test_symmetrising_the_spectrum_is_symmetrising_the_volume(n, group):
    volume = blob_volume(n, (2, -3, 1), width=2.0)
    by_spectrum = irfft3(symmetrize_spectrum(rfft3(volume), group), (n, n, n))
    assert (by_spectrum - symmetrize_volume(volume, group)).abs().max() < 1e-4


def test_symmetrised_weights_keep_their_sum_and_stay_real():
    weights = torch.rand(16, 16, 9, generator=torch.Generator().manual_seed(1))
    made = symmetrize_spectrum(weights, "C4")
    assert not made.is_complex()
    assert torch.allclose(symmetrize_spectrum(made, "C4")[:, 1:8, 1:7], made[:, 1:8, 1:7], atol=1e-5)


@pytest.mark.parametrize("group", GROUPS)
def test_each_orbit_has_exactly_one_direction_in_the_asymmetric_unit(group):
    directions = random_rotations(500, torch.Generator().manual_seed(3))[:, :, 0].double()
    orbits = torch.einsum("gij,dj->gdi", symmetry_matrices(group), directions)
    assert torch.equal(in_asymmetric_unit(orbits, group).sum(0), torch.ones(500, dtype=torch.int64))
