"""Particle images: centred, white, level outside the circle, and with outliers repaired."""

import numpy as np
import pytest
import torch

from firn.preprocess.extract import cut_particles, normalise_background, repair_outliers


def _gaussian(shape: tuple[int, int], y: float, x: float, width: float = 6.0) -> torch.Tensor:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return torch.from_numpy(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32))


def _cut(*arguments, **settings) -> torch.Tensor:
    """All images of cut_particles together."""
    return torch.cat([part.clone() for part in cut_particles(*arguments, **settings)])


@pytest.mark.parametrize(("box", "crop"), [(64, 64), (64, 32), (60, 36)])
def test_a_dark_particle_becomes_white_in_the_centre_of_its_box(box, crop):
    images = _cut(10 - _gaussian((200, 210), 80, 120), torch.tensor([[80, 120]]), box, crop, 0.75)
    assert images.shape == (1, crop, crop)
    assert int(images[0].argmax()) == (crop // 2) * crop + crop // 2


def test_contrast_stays_when_asked():
    images = _cut(10 + _gaussian((100, 100), 50, 50), torch.tensor([[50, 50]]), 40, 40, 0.75, invert=False)
    assert float(images[0, 20, 20]) == float(images.max())


def test_background_is_level_with_mean_zero_and_sd_one():
    n = 48
    y, x = torch.meshgrid(torch.arange(n).float(), torch.arange(n).float(), indexing="ij")
    images = torch.randn(3, n, n, generator=torch.Generator().manual_seed(1)) * 5 + 0.3 * x - 0.2 * y + 100
    level = normalise_background(images, 0.75)
    outside = ((y - n // 2) ** 2 + (x - n // 2) ** 2 > (0.375 * n) ** 2).double()
    for image in level.double():
        values = image[outside > 0]
        assert float(values.mean()) == pytest.approx(0, abs=1e-3)
        assert float(values.std()) == pytest.approx(1, abs=0.01)
        assert abs(float((outside * image * (x - n // 2)).sum() / (outside * (x - n // 2) ** 2).sum())) < 1e-4


def test_a_constant_background_keeps_a_ramp():
    n = 32
    ramp = torch.arange(n).float().expand(1, n, n)
    assert float(normalise_background(ramp, 0.75, plane=False)[0, n // 2].diff().min()) > 0


def test_the_particle_does_not_change_its_own_background():
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(2))
    with_particle = normalise_background(noise + 4 * _gaussian((64, 64), 32, 32, 3.0), 0.75)
    torch.testing.assert_close(with_particle[0, :6], normalise_background(noise, 0.75)[0, :6], atol=1e-4, rtol=0)


def test_outliers_take_their_neighbours_mean_and_the_rest_is_untouched():
    image = torch.randn(50, 60, generator=torch.Generator().manual_seed(3))
    spoiled = image.clone()
    spoiled[10, 10], spoiled[30, 5], spoiled[49, 59] = 500.0, torch.nan, -torch.inf
    repaired = repair_outliers(spoiled, 8.0)
    bad = ~torch.isfinite(spoiled) | (spoiled.abs() > 100)
    assert float(repaired[bad].abs().max()) < 0.6
    assert bool((repaired[~bad] == image[~bad]).all())


def test_no_particle_gives_no_image():
    assert not list(cut_particles(torch.randn(50, 50), torch.zeros(0, 2, dtype=torch.long), 20, 10, 0.75))


def test_an_image_does_not_depend_on_those_cut_with_it():
    micrograph = torch.randn(300, 300, generator=torch.Generator().manual_seed(4))
    centres = torch.randint(140, 160, (7, 2), generator=torch.Generator().manual_seed(5))
    alone = torch.cat([_cut(micrograph, centre[None], 256, 256, 0.75) for centre in centres])
    torch.testing.assert_close(_cut(micrograph, centres, 256, 256, 0.75), alone, atol=1e-5, rtol=0)


def test_a_micrograph_without_a_good_pixel_is_zero():
    assert float(repair_outliers(torch.full((20, 20), torch.nan), 8.0).abs().max()) == 0
