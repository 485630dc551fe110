"""Junk: rims, thick ice and contamination are refused, particles in rows and lone particles are not."""

import numpy as np
import torch

from firn.kernels.correlate import responses
from firn.preprocess.junk import CUT_OFF, GOOD, RIM, UNKNOWN, classify_pixels, clean_pixels, find_rims, grow
from firn.preprocess.reduced import Reduced, reduce_micrograph

PIXEL, DIAMETER = 4.0, 150.0


def _reduced(extra: np.ndarray | float = 0.0, places: list[tuple[float, float]] | None = None, side: int = 500) -> Reduced:
    """White noise, dark balls, and something else."""
    y, x = np.mgrid[:side, :side]
    image = np.random.default_rng(1).normal(0, 1, (side, side)) + extra
    for cy, cx in places or []:
        image -= 1.2 * np.sqrt(np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) * (2 * PIXEL / DIAMETER) ** 2, 0, None))
    return reduce_micrograph(torch.from_numpy(image.astype(np.float32)), PIXEL, 20.0, DIAMETER)


def _corner(side: int = 500, width: float = 150) -> np.ndarray:
    """Distance in pixels beyond an oblique line that cuts off a corner."""
    y, x = np.mgrid[:side, :side]
    return (0.8 * (x - side) + 0.6 * (y - side) + width) / 1.0


def test_the_rim_of_carbon_is_found_along_its_length_and_what_it_cuts_off_is_refused():
    beyond = _corner()
    reduced = _reduced(-3.0 * np.exp(-((beyond / 6) ** 2)))
    kinds = classify_pixels(reduced, DIAMETER)
    scale = beyond.shape[0] / kinds.shape[0]
    small = torch.from_numpy(beyond[:: round(scale), :: round(scale)])[: kinds.shape[0], : kinds.shape[1]]
    rim = kinds[: small.shape[0], : small.shape[1]]
    assert float((rim[small.abs() < 3] == RIM).float().mean()) > 0.8
    assert float((rim[small < -60] == GOOD).float().mean()) > 0.99
    assert float((rim[small > 60] == CUT_OFF).float().mean()) > 0.9
    assert float(clean_pixels(reduced, DIAMETER, rims=False).float().mean()) > 0.95


def test_particles_in_rows_make_no_rim():
    places = [(60 + 40.0 * i, 80.0 + 45.0 * j) for i in range(10) for j in range(9)]
    assert not bool(find_rims(_reduced(places=places), DIAMETER).any())


def test_noise_alone_is_clean():
    assert bool(clean_pixels(_reduced(), DIAMETER).all())


def test_a_lone_strong_spot_makes_no_rim():
    y, x = np.mgrid[:500, :500]
    spot = -20.0 * (np.hypot(y - 250, x - 250) * PIXEL < DIAMETER / 2)
    assert not bool(find_rims(_reduced(spot), DIAMETER).any())


def test_unknown_pixels_are_refused_and_half_a_diameter_around_them():
    image = np.zeros((500, 500))
    image[:, :60] = np.nan
    reduced = _reduced(image)
    kinds, clean = classify_pixels(reduced, DIAMETER), clean_pixels(reduced, DIAMETER)
    scale = 500 / kinds.shape[1]
    assert bool((kinds[:, : int(59 / scale)] == UNKNOWN).all())
    first = int(clean[kinds.shape[0] // 2].int().argmax())
    assert abs(first * scale - 60 - DIAMETER / 2 / PIXEL) < 2.5 * scale


def test_growing_adds_half_a_diameter():
    reduced = _reduced()
    spot = torch.zeros_like(reduced.valid)
    spot[100, 100] = True
    grown = grow(spot, reduced, DIAMETER)
    area = float(grown.sum()) * reduced.pixel_size**2
    assert 0.8 < area / (np.pi * (DIAMETER / 2) ** 2) < 1.2


def test_responses_are_scalar_products_with_unit_templates():
    generator = torch.Generator().manual_seed(1)
    image, templates = torch.randn(30, 41, generator=generator), torch.randn(3, 7, 7, generator=generator)
    found = responses(image, templates)
    unit = templates - templates.mean((1, 2), keepdim=True)
    unit = unit / unit.square().sum((1, 2), keepdim=True).sqrt()
    window = image[12:19, 20:27]
    torch.testing.assert_close(found[:, 15, 23], (unit * window).sum((1, 2)), atol=1e-4, rtol=1e-4)
