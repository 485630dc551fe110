"""Picking in one micrograph: dark discs are found where they are, dirt and edges are refused."""

import numpy as np
import pytest
import torch

from firn.kernels.templates import draw_blobs
from firn.preprocess.junk import clean_pixels
from firn.preprocess.pick import Picks, Scene, Shape, pick, template_box, template_factors
from firn.preprocess.reduced import _padding, reduce_micrograph

PIXEL, DIAMETER, LOW_PASS = 3.0, 150.0, 20.0


def _micrograph(places: list[tuple[float, float]], shape: tuple[int, int] = (400, 437), noise: float = 1.0) -> torch.Tensor:
    """White noise with dark discs, drawn with numpy alone."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.random.default_rng(1).normal(0, noise, shape) + 10
    for cy, cx in places:
        image -= 0.8 / (1 + np.exp((np.hypot(y - cy, x - cx) * PIXEL - DIAMETER / 2) / PIXEL))
    return torch.from_numpy(image.astype(np.float32))


def _pick(micrograph: torch.Tensor, edge: float = 0.0, separation: float = DIAMETER) -> tuple[Picks, torch.Tensor]:
    reduced = reduce_micrograph(micrograph, PIXEL, LOW_PASS, DIAMETER)
    box = template_box(DIAMETER, reduced.pixel_size)
    disc = Shape(draw_blobs("circle", DIAMETER, DIAMETER, torch.zeros(1), box, reduced.pixel_size), torch.zeros(1), DIAMETER)
    clean = clean_pixels(reduced, DIAMETER)
    factors = template_factors(box, reduced.pixel_size, LOW_PASS, DIAMETER, None)
    return pick(Scene(reduced, [disc], clean, factors), separation, edge, 100), clean


def test_dark_discs_are_found_to_a_fraction_of_a_picking_pixel():
    places = [(100.3, 120.8), (250.0, 300.5), (320.6, 90.2)]
    picks, _ = _pick(_micrograph(places))
    found = picks.points[:3].numpy()
    for place in places:
        assert np.hypot(*(found - place).T).min() < 0.5 * LOW_PASS / 2.4 / PIXEL
    assert float(picks.score[2]) > float(picks.score[3]) + 0.2


def test_white_discs_are_not_particles():
    picks, _ = _pick(20 - _micrograph([(200.0, 200.0)]))
    assert np.hypot(*(picks.points[:1].numpy() - (200, 200)).T).min() > DIAMETER / 2 / PIXEL


def test_no_pick_is_nearer_the_edge_than_allowed():
    picks, _ = _pick(_micrograph([]), edge=60.0)
    y, x = picks.points.T
    nearest = torch.stack((y, x, 399 - y, 436 - x)).min()
    assert float(nearest) * PIXEL >= 60 - LOW_PASS / 2.4


def test_picks_are_apart():
    picks, _ = _pick(_micrograph([(200.0, 200.0)]))
    distances = torch.cdist(picks.points, picks.points) + 1e9 * torch.eye(len(picks.points))
    assert float(distances.min()) * PIXEL > DIAMETER - LOW_PASS / 2.4


def test_a_particle_cut_by_the_edge_is_found():
    picks, _ = _pick(_micrograph([(10.0, 200.0)]))
    assert np.hypot(*(picks.points[0].numpy() - (10, 200))) < 6


def test_power_is_that_of_the_noise_where_there_is_no_particle():
    picks, _ = _pick(_micrograph([], noise=3.0))
    assert float(picks.power.median()) == pytest.approx(0.45, abs=0.2)  # share of the white spectrum that the band passes


def test_an_ice_crystal_is_refused_and_particles_elsewhere_are_not():
    image = _micrograph([(300.0, 330.0)])
    image[40:180, 60:220] -= 8
    picks, clean = _pick(image)
    scale = image.shape[0] / clean.shape[0]
    assert not bool(clean[int(60 / scale) : int(160 / scale), int(80 / scale) : int(200 / scale)].any())
    assert float(clean.float().mean()) > 0.5
    assert np.hypot(*(picks.points[0].numpy() - (300, 330))) < 3
    y, x = picks.points.T
    assert not bool(((y > 40) & (y < 180) & (x > 60) & (x < 220)).any())


def test_a_wedge_of_ice_is_no_dirt():
    image = _micrograph([(300.0, 330.0)]) + torch.linspace(0, 12, 437)
    picks, clean = _pick(image)
    assert float(clean.float().mean()) > 0.97
    assert np.hypot(*(picks.points[0].numpy() - (300, 330))) < 3


def test_one_strong_particle_in_empty_ice_is_no_dirt():
    y, x = np.mgrid[:400, :437]
    image = np.random.default_rng(2).normal(0, 1, (400, 437)) - 2.0 * (np.hypot(y - 200, x - 220) * PIXEL < DIAMETER / 2)
    picks, clean = _pick(torch.from_numpy(image.astype(np.float32)))
    assert bool(clean.all())
    assert float(picks.score[0]) > 0.7


def test_unknown_pixels_are_passed_over():
    image = _micrograph([(200.0, 300.0)])
    image[:, :40] = torch.nan
    picks, _ = _pick(image)
    assert np.hypot(*(picks.points[0].numpy() - (200, 300))) < 3
    assert float(picks.points[:, 1].min()) >= 38
    assert bool(torch.isfinite(picks.score).all())


def test_a_micrograph_coarser_than_the_picking_resolution_is_left_as_it_is():
    reduced = reduce_micrograph(torch.randn(100, 110, generator=torch.Generator().manual_seed(1)), 12.0, LOW_PASS, 300.0)
    assert reduced.image.shape == (100, 110)
    assert reduced.pixel_size == 12.0


def test_a_smeared_or_blank_border_holds_no_particle():
    image = _micrograph([(200.0, 200.0), (330.0, 40.0)])
    image[:30] = image[30] - 5
    image[:, 400:] = 10
    picks, clean = _pick(image)
    scale = image.shape[0] / clean.shape[0]
    assert not bool(clean[: int(30 / scale)].any())
    assert not bool(clean[:, int(402 / scale) :].any())
    assert float(picks.points[:, 0].min()) > 30 + DIAMETER / 2 / PIXEL - 3 * scale
    assert sorted(picks.points[:2, 1].round().int().tolist()) == pytest.approx([40, 200], abs=3)


def test_a_micrograph_without_padding_loses_no_row():
    assert _padding(_micrograph([]), 0) == (0, 0)
    assert _padding(_micrograph([]).cumsum(1) / 20, 1) == (0, 0)
