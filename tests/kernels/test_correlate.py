"""Local correlation is Pearson's coefficient under the mask, wherever pixels are known."""

import pytest
import torch

from firn.kernels.correlate import best_templates, local_correlation, local_mean, local_variance


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
    score, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), template, mask)
    for y, x in ((20, 25), (12, 33), (n // 2, n // 2)):
        window = image[y - n // 2 : y - n // 2 + n, x - n // 2 : x - n // 2 + n]
        assert float(score[y, x]) == pytest.approx(_pearson(window[mask], template[0][mask]), abs=1e-4)


def test_score_at_an_edge_is_the_coefficient_of_the_pixels_inside_times_the_root_of_their_share_of_energy(image):
    n, y, x = 9, 1, 20
    mask, template = _disc(n), torch.randn(1, n, n, generator=torch.Generator().manual_seed(3))
    score, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), template, mask)
    rows = slice(n // 2 - y, n)
    inside = mask[rows]
    window = image[: n - (n // 2 - y), x - n // 2 : x - n // 2 + n]
    part, whole = template[0][rows][inside], template[0][mask]
    share = float(((part - part.mean()) ** 2).sum() / ((whole - whole.mean()) ** 2).sum())
    assert share < 0.8
    assert float(score[y, x]) == pytest.approx(_pearson(window[inside], part) * share**0.5, abs=1e-4)


def test_noise_scores_alike_at_the_edge_and_far_from_it():
    n, generator = 15, torch.Generator().manual_seed(8)
    noise, template = torch.randn(300, 1500, generator=generator), torch.randn(1, n, n, generator=generator)
    score, _ = local_correlation(noise, torch.ones_like(noise, dtype=torch.bool), template, _disc(n))
    edge, middle = (score[rows, 20:-20].square().mean().sqrt() for rows in (slice(0, 3), slice(20, 280)))
    assert float(edge / middle) == pytest.approx(1, abs=0.05)


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
    valid = torch.ones_like(image, dtype=torch.bool)
    score, _ = local_correlation(image, valid, templates, _disc(11))
    assert float(score[20, 25]) == pytest.approx(1, abs=0.05)
    assert best_templates(image, valid, templates, _disc(11), torch.tensor([[20, 25], [0, 50]]))[0] == 1
    assert int(score.argmax()) == 20 * image.shape[1] + 25


def test_little_known_gives_no_score(image):
    valid = torch.zeros_like(image, dtype=torch.bool)
    valid[:, :5] = True
    score, _ = local_correlation(image, valid, torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(6)), _disc(9))
    assert bool((score[:, 10:] == -1).all())


def test_local_moments_are_those_of_the_window(image):
    mask, valid = _disc(7), torch.ones_like(image, dtype=torch.bool)
    window = image[17:24, 27:34][mask]
    assert float(local_mean(image, valid, mask)[20, 30]) == pytest.approx(float(window.mean()), abs=1e-5)
    assert float(local_variance(image, valid, mask)[20, 30]) == pytest.approx(float(window.var(correction=0)), abs=1e-4)


def test_many_turns_of_a_template_score_as_each_would_alone(image):
    y, x = torch.meshgrid(torch.arange(17) - 8.0, torch.arange(17) - 8.0, indexing="ij")
    angles = torch.deg2rad(torch.arange(0, 360, 5.0))[:, None, None]
    turns = torch.exp(
        -((x * torch.cos(angles) + y * torch.sin(angles) - 2) ** 2) / 20 - (y * torch.cos(angles) - x * torch.sin(angles)) ** 2 / 4
    )
    mask, valid = _disc(17), torch.ones_like(image, dtype=torch.bool)
    valid[:, 48:] = False
    together, _ = local_correlation(image, valid, turns, mask)
    y0, x0 = 20, 25
    window = image[y0 - 8 : y0 + 9, x0 - 8 : x0 + 9][mask]
    alone = torch.tensor([_pearson(window, turn[mask]) for turn in turns])
    assert float(together[y0, x0]) == pytest.approx(float(alone.max()), abs=0.03)
    assert int(best_templates(image, valid, turns, mask, torch.tensor([[y0, x0]]))) == int(alone.argmax())


def test_tiles_leave_no_seams():
    image = torch.randn(300, 290, generator=torch.Generator().manual_seed(7))
    mask, template = _disc(9), torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(8))
    score, _ = local_correlation(image, torch.ones_like(image, dtype=torch.bool), template, mask)
    for y, x in ((247, 100), (248, 248), (249, 281), (295, 120)):
        rows, columns = slice(max(0, y - 4), y + 5), slice(x - 4, x + 5)
        inside = mask[: rows.stop - y + 4][: image[rows].shape[0]]
        window = image[rows, columns][inside]
        assert float(score[y, x]) == pytest.approx(_pearson(window, template[0][: len(inside)][inside]), abs=1e-3)
