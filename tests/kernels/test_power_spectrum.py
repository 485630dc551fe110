"""Tile spectra: coverage, Parseval's theorem, and the smooth functions backgrounds are made of."""

import math

import pytest
import torch

from firn.kernels.fourier import frequencies2, hermitian_weights
from firn.kernels.power_spectrum import (
    band,
    radial_means,
    ring_means,
    spectral_redundancy,
    spline_basis,
    tile_corners,
    tile_side,
    tile_spectra,
    tile_window,
    usable_tiles,
    without_local_mean,
)


@pytest.mark.parametrize(("shape", "tile"), [((100, 130), 40), ((99, 131), 41), ((64, 64), 64)])
def test_tiles_cover_the_image_to_its_edges_and_stay_inside(shape, tile):
    corners = tile_corners(shape, tile)
    assert corners.min() == 0
    assert corners.max(dim=0).values.tolist() == [shape[0] - tile, shape[1] - tile]
    assert max(corners[:, 0].unique().diff().tolist(), default=0) <= tile


@pytest.mark.parametrize("tile", [32, 33])
def test_the_spectrum_of_white_noise_is_flat_and_has_the_power_of_the_windowed_image(tile):
    image = torch.randn(400, 400, generator=torch.Generator().manual_seed(1))
    spectra = tile_spectra(image, tile_corners((400, 400), tile), tile)
    window = tile_window(tile)
    expected = float((window[:, None] * window).square().sum())
    weights = hermitian_weights(tile)
    assert float((spectra * weights).mean(dim=0).sum()) / tile**2 == pytest.approx(expected, rel=0.03)
    radial = radial_means(spectra.mean(dim=0), frequencies2((tile, tile)), tile)[3:]
    assert torch.allclose(radial, torch.full_like(radial, expected), rtol=0.15)


@pytest.mark.parametrize("tile", [32, 48, 64])
def test_the_redundancy_of_overlapping_tiles_is_what_the_scatter_of_means_shows(tile):
    generator = torch.Generator().manual_seed(2)
    inside = band(frequencies2((tile, tile)), 0.1, 0.45)
    means = []
    for _ in range(150):
        spectra = tile_spectra(torch.randn(96, 96, generator=generator), tile_corners((96, 96), tile), tile)
        means.append(spectra[:, inside].mean())
    relative = torch.stack(means).var() / torch.stack(means).mean() ** 2
    pixels = len(tile_corners((96, 96), tile)) * int(inside.sum())
    assert float(relative) * pixels == pytest.approx(spectral_redundancy((96, 96), tile), rel=0.3)


def test_the_band_holds_one_of_each_pair_of_friedel_mates_between_the_radii():
    grid = frequencies2((16, 16))
    inside = band(grid, 0.15, 0.4)
    radius = grid[inside].norm(dim=-1)
    assert float(radius.min()) >= 0.15
    assert float(radius.max()) <= 0.4
    assert float(grid[inside][:, 1].min()) > 0


def test_ring_means_are_the_means_of_each_ring_and_zero_where_empty():
    values, rings = torch.tensor([[1.0, 3.0, 10.0], [0.0, 2.0, 5.0]]), torch.tensor([0, 0, 2])
    assert torch.equal(ring_means(values, rings, 4), torch.tensor([[2.0, 0, 10, 0], [1, 0, 5, 0]]))


def test_one_bright_tile_is_left_out_and_a_homogeneous_set_loses_none():
    generator = torch.Generator().manual_seed(3)
    spectra = torch.rand(30, 50, generator=generator) + 0.5
    assert usable_tiles(spectra).all()
    spectra[7] *= 100
    assert usable_tiles(spectra).nonzero().flatten().tolist() == [i for i in range(30) if i != 7]


def test_splines_sum_to_one_and_reproduce_a_parabola():
    x = torch.linspace(0.1, 0.3, 50, dtype=torch.float64)
    basis = spline_basis(x, 0.1, 0.3, 3)
    assert basis.shape == (50, 6)
    assert torch.allclose(basis.sum(dim=-1), torch.ones(50, dtype=torch.float64))
    parabola = (x - 0.17) ** 2
    fitted = basis @ torch.linalg.lstsq(basis, parabola[:, None]).solution
    assert math.sqrt(float((fitted[:, 0] - parabola).square().mean())) < 1e-12


@pytest.mark.parametrize(("side", "wanted"), [(1024, 400.0), (1240, 400.0), (4092, 723.0), (99, 98.0)])
def test_tiles_of_the_chosen_side_count_every_pixel_once(side, wanted):
    tile = tile_side(side, wanted)
    assert tile == pytest.approx(wanted, rel=0.35)
    starts = tile_corners((side, side), tile)[:, 0].unique().tolist()
    coverage = torch.zeros(side)
    for start in starts:
        coverage[start : start + tile] += tile_window(tile) ** 2
    inner = coverage[tile // 8 : -tile // 8]
    assert inner.mean() == pytest.approx(1.0, abs=0.1)
    assert len(starts) == round((side / wanted - 0.1) / 0.9)


def test_removing_local_means_takes_away_slow_gradients_and_leaves_fine_noise():
    y = torch.linspace(-1, 1, 600)[:, None]
    fine = torch.randn(600, 500, generator=torch.Generator().manual_seed(4))
    left = without_local_mean(100 * y + 0 * fine, 60)
    assert left[60:-60].abs().max() < 0.01
    assert without_local_mean(fine, 60).var() == pytest.approx(float(fine.var()), rel=0.01)
