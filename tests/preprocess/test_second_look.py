"""A second look: what filtered particles but not the noise is measured, and templates are weighted by it."""

import dataclasses

import numpy as np
import pytest
import torch

from firn.families import picking
from firn.families.template_matches import TemplateParams
from firn.kernels.fourier import frequencies2, irfft2, rfft2
from firn.kernels.templates import draw_blobs
from firn.preprocess.pick import Picks, Scene, Shape, pick
from firn.preprocess.reduced import Reduced
from firn.preprocess.second_look import clearest, particle_gains, pick_twice

PIXEL, DIAMETER, BOX, SIDE = 8.0, 160.0, 54, 640
STEP = 34
ANGLES = torch.arange(0, 180, 30.0)


def _shape() -> Shape:
    """Small ellipses in all turns: power up to high frequencies."""
    return Shape(draw_blobs("ellipse", 110.0, 36.0, ANGLES, BOX, PIXEL), ANGLES, DIAMETER)


def _response(radius: torch.Tensor) -> torch.Tensor:
    """What is done to particles alone, at radii in cycles per pixel: nothing left at 0, most at half of Nyquist."""
    return torch.sin(torch.pi * radius.clamp(max=0.5) / 0.5)


def _scene(strength: float, seed: int = 4) -> tuple[Reduced, torch.Tensor, torch.Tensor]:
    """(white noise with particles on every other place of a grid, places of particles, places without) in pixels yx."""
    places = torch.cartesian_prod(torch.arange(STEP, SIDE - STEP, STEP), torch.arange(STEP, SIDE - STEP, STEP))
    full, empty = places[::2], places[1::2]
    shape, image = _shape(), torch.zeros(SIDE, SIDE)
    for number, (y, x) in enumerate(full.tolist()):
        image[y - BOX // 2 : y + BOX // 2, x - BOX // 2 : x + BOX // 2] += strength * shape.templates[number % len(ANGLES)]
    radius = frequencies2((SIDE, SIDE)).norm(dim=-1)
    image = irfft2(rfft2(image) * _response(radius), (SIDE, SIDE))
    image = image + torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    known = torch.ones(SIDE, SIDE, dtype=torch.bool)
    return Reduced(image, torch.zeros_like(image), known, PIXEL, (1.0, 1.0)), full, empty


def _gains(strength: float) -> torch.Tensor:
    reduced, full, empty = _scene(strength)
    points = torch.cat((full, empty)).float()
    turns = torch.cat((torch.arange(len(full)), torch.arange(len(empty)))) % len(ANGLES)
    picks = Picks(points, torch.ones(len(points)), torch.ones(len(points)), torch.zeros(len(points), dtype=torch.long), ANGLES[turns])
    particles = torch.arange(len(points)) < len(full)
    factors = torch.ones(BOX, BOX // 2 + 1)
    return particle_gains(Scene(reduced, [_shape()], reduced.valid, factors), picks, particles, ~particles)


def test_gains_are_what_was_done_to_particles_alone():
    gains = _gains(3.0)
    truth = _response(torch.linspace(0, 0.5, len(gains)))
    inner = slice(1, len(gains) - 3)
    scale = float((gains[inner] @ truth[inner]) / (truth[inner] @ truth[inner]))
    assert (gains[inner] / scale).numpy() == pytest.approx(truth[inner].numpy(), abs=0.16)


def test_gains_are_even_where_particles_say_nothing():
    faint, clear = _gains(0.02), _gains(3.0)
    assert float(faint.std()) < 0.3 * float(clear.std())


def test_particles_stand_out_more_after_a_second_look():
    reduced, full, _ = _scene(2.0)
    arguments = Scene(reduced, [_shape()], reduced.valid, torch.ones(BOX, BOX // 2 + 1)), 160.0, 100.0, 1000
    apart = []
    for find in (pick, pick_twice):
        found = find(*arguments)
        near = torch.cdist(found.points, full.float()).amin(1) < 6
        assert int(near.sum()) > 0.8 * len(full)
        spread = (0.5 * (found.score[near].var() + found.score[~near].var())).sqrt()
        apart.append(float((found.score[near].mean() - found.score[~near].mean()) / spread))
    assert apart[1] > 1.1 * apart[0]


def test_a_second_look_at_noise_alone_is_the_first():
    reduced, _, _ = _scene(0.0)
    arguments = Scene(reduced, [_shape()], reduced.valid, torch.ones(BOX, BOX // 2 + 1)), 160.0, 100.0, 1000
    first, second = pick(*arguments), pick_twice(*arguments)
    assert not bool(clearest(first)[0].any())
    for one, other in zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True):
        torch.testing.assert_close(one, other)


def test_a_second_look_is_taken_only_where_no_ctf_is_known(monkeypatch):
    looks: list[str] = []
    monkeypatch.setattr(picking, "pick", lambda *_: looks.append("one"))
    monkeypatch.setattr(picking, "pick_twice", lambda *_: looks.append("two"))
    reduced, _, _ = _scene(0.0)
    params = TemplateParams(exposures="ctf", templates="cls", diameter=DIAMETER)
    fitted = {"defocus_u": 15000.0, "defocus_v": 14500.0, "defocus_angle": 20.0, "voltage_kv": 300.0, "cs_mm": 2.7}
    for row, settings in ((fitted, {}), ({}, {}), (fitted | {"defocus_u": np.nan}, {}), (fitted, {"use_ctf": False})):
        picking.pick_shapes(reduced, [], row, params.model_copy(update=settings), 20.0, DIAMETER, (80.0, 16.0), white=True)
    picking.pick_shapes(reduced, [], {}, params, 20.0, DIAMETER, (80.0, 16.0), white=False)
    assert looks == ["one", "two", "two", "two", "one"]
