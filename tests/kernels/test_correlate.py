"""Local correlation is Pearson's coefficient under the mask, wherever pixels are known."""

import pytest
import torch

from firn.kernels.correlate import local_correlation, local_mean, local_variance


def _disc(n: int) -> torch.Tensor:
    line = torch.arange(n) - n // 2
    return line[:, None] ** 2 + line[None, :] ** 2 <= (n // 2) ** 2


def _pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1])


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(40, 51, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n", [9, 10])
def test_score_is_the_correlation_coefficient_of_window_and_template(image, n):
    mask = _disc(n)
    template = torch.randn(1, n, n, generator=torch.Generator().manual_seed(2))
    score, _, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), template, mask)
    for y, x in ((20, 25), (12, 33), (n // 2, n // 2)):
        window = image[y - n // 2 : y - n // 2 + n, x - n // 2 : x - n // 2 + n]
        assert float(score[y, x]) == pytest.approx(_pearson(window[mask], template[0][mask]), abs=1e-4)


def test_score_at_an_edge_uses_the_pixels_inside_only(image):
    n, y, x = 9, 1, 20
    mask, template = _disc(n), torch.randn(1, n, n, generator=torch.Generator().manual_seed(3))
    score, _, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), template, mask)
    rows = slice(n // 2 - y, n)
    inside = mask[rows]
    window = image[: n - (n // 2 - y), x - n // 2 : x - n // 2 + n]
    assert float(score[y, x]) == pytest.approx(_pearson(window[inside], template[0][rows][inside]), abs=1e-4)


def test_unknown_pixels_do_not_matter(image):
    n, mask = 9, _disc(9)
    template = torch.randn(1, n, n, generator=torch.Generator().manual_seed(4))
    valid = torch.ones_like(image, dtype=torch.bool)
    valid[18:21, 20:23] = False
    spoiled = torch.where(valid, image, 1000.0)
    first, second = (local_correlation(each, valid, template, mask)[0] for each in (image, spoiled))
    torch.testing.assert_close(first, second)


def test_score_is_blind_to_brightness_and_contrast(image):
    mask, template = _disc(7), torch.randn(1, 7, 7, generator=torch.Generator().manual_seed(5))
    valid = torch.ones_like(image, dtype=torch.bool)
    first, second = (local_correlation(each, valid, template, mask)[0] for each in (image, 3 * image + 7))
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)


def test_a_template_finds_itself_and_its_rotation_is_named(image):
    patch = image[15:26, 20:31]
    templates = torch.stack((torch.rot90(patch), patch, torch.rot90(patch, 2)))
    score, index, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), templates, _disc(11))
    assert float(score[20, 25]) == pytest.approx(1, abs=0.05)
    assert int(index[20, 25]) == 1
    assert int(score.argmax()) == 20 * image.shape[1] + 25


def test_little_known_gives_no_score(image):
    valid = torch.zeros_like(image, dtype=torch.bool)
    valid[:, :5] = True
    score, _, _ = local_correlation(image, valid, torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(6)), _disc(9))
    assert bool((score[:, 10:] == -1).all())


def test_local_moments_are_those_of_the_window(image):
    mask, valid = _disc(7), torch.ones_like(image, dtype=torch.bool)
    window = image[17:24, 27:34][mask]
    assert float(local_mean(image, valid, mask)[20, 30]) == pytest.approx(float(window.mean()), abs=1e-5)
    assert float(local_variance(image, valid, mask)[20, 30]) == pytest.approx(float(window.var(correction=0)), abs=1e-4)
