"""White noise for template matching: whatever filtered a micrograph changes neither its picture nor what is found in it."""

import numpy as np
import pytest
import torch

from firn.kernels.fourier import frequencies2, irfft2, rfft2
from firn.kernels.templates import draw_blobs
from firn.preprocess.pick import Picks, Scene, Shape, pick, template_box, template_factors
from firn.preprocess.reduced import reduce_micrograph
from firn.preprocess.whiten import noise_power, radial_values, whiten

PIXEL, DIAMETER, LOW_PASS = 4.0, 160.0, 20.0
PLACES = np.array([(60.0, 80.0), (150.0, 210.0), (220.0, 60.0), (300.0, 300.0), (330.0, 140.0)])


def _micrograph(seed: int = 3, shape: tuple[int, int] = (384, 401)) -> torch.Tensor:
    """White noise with dark ellipses, drawn with numpy alone."""
    y, x = np.mgrid[: shape[0], : shape[1]] * PIXEL
    image = np.random.default_rng(seed).normal(0, 1, shape)
    for cy, cx in PLACES * PIXEL:
        image -= 1.5 * np.sqrt(np.clip(1 - ((y - cy) / 75) ** 2 - ((x - cx) / 30) ** 2, 0, None))
    return torch.from_numpy(image.astype(np.float32))


def _smoothed(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolved with a Gaussian of sd sigma (Å)."""
    radius = frequencies2((image.shape[0], image.shape[1])).norm(dim=-1) / PIXEL
    return irfft2(rfft2(image) * torch.exp(-2 * (np.pi * sigma * radius) ** 2), (image.shape[0], image.shape[1]))


def _find(micrograph: torch.Tensor, white: bool) -> Picks:
    reduced = reduce_micrograph(micrograph, PIXEL, LOW_PASS, DIAMETER)
    box = template_box(DIAMETER, reduced.pixel_size)
    angles = torch.arange(0, 180, 15.0)
    shape = Shape(draw_blobs("ellipse", 150.0, 60.0, angles, box, reduced.pixel_size), angles, DIAMETER)
    factors = template_factors(box, reduced.pixel_size, LOW_PASS, DIAMETER, None)
    matched, factors = whiten(reduced, factors, LOW_PASS, DIAMETER) if white else (reduced, factors)
    return pick(Scene(matched, [shape], torch.ones_like(reduced.valid), factors), 80.0, 30.0, 200)


@pytest.mark.parametrize("shape", [(384, 400), (385, 403)])
def test_the_power_of_noise_is_even_after_whitening_whatever_it_was_before(shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    reduced = reduce_micrograph(_smoothed(noise, 9.0), PIXEL, LOW_PASS, DIAMETER)
    before = noise_power(reduced, LOW_PASS, DIAMETER)
    box = template_box(DIAMETER, reduced.pixel_size)
    matched, factors = whiten(reduced, torch.ones(box, box // 2 + 1), LOW_PASS, DIAMETER)
    after = noise_power(matched, LOW_PASS, DIAMETER)
    inner = slice(len(before) // 6, len(before) // 2)
    assert float(before[inner].max() / before[inner].min()) > 5
    assert after[inner].numpy() == pytest.approx(1.0, abs=0.15)
    assert float(factors.min()) == pytest.approx(1.0)


def test_a_smoothed_micrograph_is_picked_as_the_same_one_unsmoothed():
    count = len(PLACES)
    shifts = [
        _find(_smoothed(_micrograph(), 9.0), white).score[:count] - _find(_micrograph(), white).score[:count] for white in (False, True)
    ]
    assert shifts[1].abs().mean() < 0.3 * shifts[0].abs().mean()
    plain, smooth = _find(_micrograph(), white=True), _find(_smoothed(_micrograph(), 9.0), white=True)
    assert smooth.score[:count].numpy() == pytest.approx(plain.score[:count].numpy(), abs=0.05)
    assert torch.cdist(plain.points[:count], smooth.points[:count]).amin(1).max() < 1.0
    assert torch.cdist(torch.tensor(PLACES, dtype=torch.float32), smooth.points[:count]).amin(1).max() < 2.0


def test_a_frequency_that_a_filter_left_next_to_nothing_of_stays_faint():
    reduced = reduce_micrograph(_smoothed(_micrograph(), 20.0) + 1e-5 * _micrograph(5), PIXEL, LOW_PASS, DIAMETER)
    matched, factors = whiten(reduced, torch.ones(40, 21), LOW_PASS, DIAMETER)
    power = noise_power(matched, LOW_PASS, DIAMETER)
    frequencies = torch.linspace(0, 0.5, len(power)) / reduced.pixel_size
    assert float(power[(frequencies > 1 / 25) & (frequencies < 1 / 22)].max()) < 0.01
    assert float(factors[0, -1]) < 0.9 < float(factors[0, 3])


def test_a_line_is_interpolated_exactly_and_ends_at_nyquist():
    values = torch.arange(11.0)
    assert radial_values(values, torch.tensor([0.0, 0.123, 0.5, 0.7])).numpy() == pytest.approx([0.0, 2.46, 10.0, 10.0], abs=1e-5)
