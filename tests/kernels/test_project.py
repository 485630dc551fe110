"""Projection and back-projection: closed forms of Gaussians, adjoints, points that never move."""

import pytest
import torch

from firn.kernels.backproject import completed, empty_sums, insert_points_, reconstruct, symmetrise_sums
from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.grid import fourier_disc, layout_points
from firn.kernels.project import prepare_volume, project, project_points
from firn.kernels.rotation import euler_matrices, random_rotations
from firn.kernels.spectrum import (
    add_to_spectrum_,
    read_spectrum,
    read_table,
    resize_spectrum3,
    slice_products,
    spectrum_table,
    symmetrise_spectra,
)
from firn.kernels.symmetry import symmetry_matrices

CENTRES = torch.tensor([[5.0, -3.0, 2.0], [-6.0, 4.0, 1.0], [0.0, 7.0, -5.0], [2.0, 1.0, 8.0], [-3.0, -6.0, -4.0]])
HEIGHTS = torch.tensor([1.0, 2.0, 1.5, 0.7, 1.2])


def gaussians(centres: torch.Tensor, n: int, width: float = 2.0) -> torch.Tensor:
    """Sum of Gaussians at points `(g, d)` relative to index n // 2, on a grid of d axes."""
    axis = torch.arange(n) - n // 2
    grids = torch.stack(torch.meshgrid(*[axis] * centres.shape[1], indexing="ij"), dim=-1).float()
    squares = ((grids[None] - centres.reshape(-1, *[1] * centres.shape[1], centres.shape[1])) ** 2).sum(-1)
    return torch.einsum("g,g...->...", HEIGHTS[: len(centres)], torch.exp(-squares / (2 * width**2)))


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Normalised inner product."""
    return float((first * second).sum() / (first.norm() * second.norm()))


def analytic_projections(rotations: torch.Tensor, n: int, width: float = 2.0) -> torch.Tensor:
    """Line integrals along the image z axis: a blob at r in the volume lies at R^T r in the image frame."""
    line = (2 * torch.pi) ** 0.5 * width
    return torch.stack([line * gaussians((CENTRES @ rotation)[:, 1:], n, width) for rotation in rotations])


@pytest.mark.parametrize("n", [32, 33])
def test_projections_of_gaussians_are_their_line_integrals(n):
    rotations = random_rotations(6, torch.Generator().manual_seed(0))
    images = irfft2(project(prepare_volume(gaussians(CENTRES, n)), rotations, n), (n, n))
    expected = analytic_projections(rotations, n)
    assert correlation(images, expected) > 0.995
    assert torch.isclose(images.sum(), expected.sum(), rtol=0.08)


@pytest.mark.parametrize("n", [24, 25])
def test_the_centre_of_a_projection_does_not_move(n):
    volume = gaussians(torch.zeros(1, 3), n)
    rotations = random_rotations(5, torch.Generator().manual_seed(1))
    images = irfft2(project(prepare_volume(volume), rotations, n), (n, n))
    peaks = images.flatten(1).argmax(dim=1)
    assert (peaks == (n // 2) * n + n // 2).all()


@pytest.mark.parametrize("n", [24, 25])
def test_a_projection_without_rotation_is_the_sum_along_z(n):
    volume = gaussians(CENTRES, n)
    image = irfft2(project(prepare_volume(volume), torch.eye(3)[None], n), (n, n))[0]
    assert correlation(image, volume.sum(0)) > 0.995


@pytest.mark.parametrize("d", [16, 22])
def test_adding_to_a_spectrum_is_the_adjoint_of_reading_it(d):
    generator = torch.Generator().manual_seed(2)
    spectrum = torch.randn(d, d, d // 2 + 1, dtype=torch.complex64, generator=generator)
    points = (torch.rand(200, 3, generator=generator) - 0.5) * (d - 3)
    values = torch.randn(200, dtype=torch.complex64, generator=generator)
    sums, weights = empty_sums(d)
    add_to_spectrum_(sums, weights, values, torch.ones(200), points)
    forward = (read_spectrum(spectrum, points) * values.conj()).sum().real
    backward = (spectrum * sums.conj()).sum().real
    assert abs(float(forward - backward)) < 1e-5 * float(spectrum.norm() * sums.norm())
    assert torch.isclose(weights.sum(), torch.tensor(200.0), rtol=1e-4)


@pytest.mark.parametrize("d", [24, 25])
def test_compiled_reading_is_reading_by_torch(d):
    generator = torch.Generator().manual_seed(d)
    spectrum = torch.complex(*torch.randn(2, d, d, d // 2 + 1, generator=generator))
    points = (d - 4) * (torch.rand(5, 200, 3, generator=generator) - 0.5)
    points[0, :8] = torch.cartesian_prod(*[torch.tensor([-3.0, 4.0])] * 3)
    compiled, plain = (read_table(spectrum_table(spectrum, choice), points) for choice in (True, False))
    assert compiled.shape == (5, 200)
    assert float((compiled - plain).abs().max()) < 2e-4
    low = points[0, :8].long()
    stored = torch.stack([spectrum[z, y, x] if x >= 0 else spectrum[-z, -y, -x].conj() for z, y, x in low.tolist()])
    assert float((compiled[0, :8] - stored).abs().max()) < 2e-4
    beyond = torch.tensor([[0.0, 0.0, d], [d, 1.0, 1.0], [1.0, -d, 1.0]])
    assert not read_spectrum(spectrum, beyond).abs().any()


@pytest.mark.parametrize("d", [24, 25])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_adding_is_adding_by_torch_on_any_number_of_threads(d, threads):
    generator = torch.Generator().manual_seed(d)
    points = (d - 2) * (torch.rand(4, 300, 3, generator=generator) - 0.5)
    values, weights = torch.complex(*torch.randn(2, 4, 300, generator=generator)), torch.rand(4, 300, generator=generator)
    compiled, plain = empty_sums(d), empty_sums(d)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        add_to_spectrum_(*compiled, values, weights, points, compiled=True)
    finally:
        torch.set_num_threads(before)
    add_to_spectrum_(*plain, values, weights, points, compiled=False)
    for ours, theirs in zip(compiled, plain, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("group", ["C3", "D2", "D3", "O", "I2"])
def test_compiled_symmetrising_is_symmetrising_by_torch(group):
    generator = torch.Generator().manual_seed(5)
    sums, weights = torch.complex(*torch.randn(2, 20, 20, 11, generator=generator)), torch.rand(20, 20, 11, generator=generator)
    both = [symmetrise_spectra(*completed(sums, weights), symmetry_matrices(group).float(), compiled=choice) for choice in (True, False)]
    inside = layout_points(20).norm(dim=-1) < 7
    for ours, theirs in zip(*both, strict=True):
        assert float((ours - theirs).abs()[inside].max()) < 1e-4


def test_products_with_slices_are_those_of_the_slices_themselves():
    generator = torch.Generator().manual_seed(6)
    spectrum, points = prepare_volume(gaussians(CENTRES, 16)), fourier_disc(16, 6.0).points
    frames = 2 * random_rotations(6, generator).reshape(2, 3, 3, 3)
    rows, powers = torch.complex(*torch.randn(2, 2, 4, len(points), generator=generator)), torch.rand(2, len(points), generator=generator)
    wanted = torch.tensor([[True, True, False], [True] * 3]), torch.tensor([[True] * 4, [True, False, True, True]])
    for compiled in (True, False):
        cross, norms, slices = slice_products(spectrum_table(spectrum, compiled), frames, points, rows, powers, wanted)
        expected = project_points(spectrum, frames.flatten(0, 1) / 2, points).unflatten(0, (2, 3))
        assert torch.allclose(slices[wanted[0]], expected[wanted[0]], atol=1e-3 * float(expected.abs().max()))
        products = torch.einsum("btm,bcm->btc", rows, expected.conj()).real
        both = wanted[1][:, :, None] & wanted[0][:, None]
        assert torch.allclose(cross[both], products[both], atol=1e-3 * float(products.abs().max()))
        assert torch.allclose(norms[wanted[0]], torch.einsum("bm,bcm->bc", powers, expected.abs() ** 2)[wanted[0]], rtol=1e-3)


def test_a_cropped_spectrum_gives_the_same_slices():
    spectrum = prepare_volume(gaussians(CENTRES, 24))
    rotations = random_rotations(4, torch.Generator().manual_seed(3))
    points = fourier_disc(24, 5.0).points
    whole, cropped = (project_points(part, rotations, points) for part in (spectrum, resize_spectrum3(spectrum, 26)))
    assert torch.allclose(whole, cropped, atol=1e-3 * float(whole.abs().max()))


@pytest.mark.parametrize("n", [24, 25])
def test_backprojected_projections_give_the_volume_back(n):
    rotations = random_rotations(3000, torch.Generator().manual_seed(4))
    disc = fourier_disc(n, n / 2)
    images = analytic_projections(rotations, n)
    values = rfft2(images).flatten(1)[:, disc.index] * (disc.weights / 2)
    sums, weights = empty_sums(2 * n)
    insert_points_(sums, weights, values, (disc.weights / 2).expand(len(values), -1), rotations, disc.points)
    volume = gaussians(CENTRES, n)
    found = reconstruct(*completed(sums, weights), n)
    inside = gaussians(torch.zeros(1, 3), n, width=n / 6) > 0.05
    assert correlation(found[inside], volume[inside]) > 0.995
    assert torch.isclose((found * volume)[inside].sum(), (volume**2)[inside].sum(), rtol=0.05)


def test_a_wiener_prior_shrinks_the_map():
    sums, weights = empty_sums(32)
    sums[:], weights[:] = 1.0, 1.0
    plain, shrunk = (reconstruct(sums, weights, 16, prior=prior) for prior in (None, torch.full((9,), 3.0)))
    assert torch.allclose(plain, 4 * shrunk, atol=1e-4)


def test_symmetrised_sums_do_not_change_under_the_operators():
    n = 24
    fourfold = euler_matrices(torch.tensor([[90.0 * k, 0.0, 0.0] for k in range(4)]))
    rotations = random_rotations(40, torch.Generator().manual_seed(5))
    disc = fourier_disc(n, 8.0)
    values = project_points(prepare_volume(gaussians(CENTRES, n)), rotations, disc.points) * (disc.weights / 2)
    sums, weights = empty_sums(2 * n)
    insert_points_(sums, weights, values, (disc.weights / 2).expand(len(values), -1), rotations, disc.points)
    total, weight = symmetrise_sums(*completed(sums, weights), fourfold)
    points = (torch.rand(100, 3, generator=torch.Generator().manual_seed(6)) - 0.5) * 16
    turned = [read_spectrum(total, points @ operator.T) for operator in fourfold]
    assert all(torch.allclose(turned[0], other, atol=1e-3 * float(turned[0].abs().max())) for other in turned[1:])
    assert torch.isclose(weight.sum(), completed(sums, weights)[1].sum(), rtol=0.02)
