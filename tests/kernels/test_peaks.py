"""Peaks: maxima are found, kept apart, and placed between pixels."""

import pytest
import torch

from firn.kernels.peaks import local_maxima, refine_maxima, separate


def _parabola(centre: tuple[float, float], shape: tuple[int, int] = (15, 18)) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(shape[0]).float(), torch.arange(shape[1]).float(), indexing="ij")
    return 5 - 0.1 * (y - centre[0]) ** 2 - 0.2 * (x - centre[1]) ** 2


@pytest.mark.parametrize("centre", [(7.0, 9.0), (6.7, 9.4), (7.25, 8.6)])
def test_the_vertex_of_a_parabola_is_found_exactly(centre):
    scores = _parabola(centre)
    peaks = local_maxima(scores, torch.ones_like(scores, dtype=torch.bool), 0.0)
    assert len(peaks) == 1
    torch.testing.assert_close(refine_maxima(scores, peaks)[0], torch.tensor(centre), atol=1e-3, rtol=0)


def test_a_maximum_on_the_border_stays_on_its_pixel():
    scores = _parabola((0.0, 9.3))
    peaks = local_maxima(scores, torch.ones_like(scores, dtype=torch.bool), 0.0)
    assert refine_maxima(scores, peaks)[0, 0] == 0


def test_maxima_come_best_first_and_only_where_allowed():
    scores = torch.zeros(20, 20)
    scores[5, 5], scores[10, 12], scores[15, 3] = 0.5, 0.9, 0.7
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed[15, 3] = False
    assert local_maxima(scores, allowed, 0.1).tolist() == [[10, 12], [5, 5]]


def test_of_close_points_the_first_is_kept_and_the_rest_are_apart():
    points = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)) * 100
    kept = separate(points, 8.0, 1000)
    apart = torch.cdist(points[kept], points[kept]) + 1e9 * torch.eye(len(kept))
    assert float(apart.min()) >= 8
    assert float(torch.cdist(points, points[kept]).min(1).values.max()) < 8
    assert int(kept[0]) == 0
    distances = torch.cdist(points, points[kept])
    assert all(float(distances[one, kept < one].min()) < 8 for one in range(300) if one not in kept.tolist())


def test_no_more_points_are_kept_than_asked_for():
    assert len(separate(torch.rand(50, 2), 0.0, 7)) == 7
    assert len(separate(torch.zeros(0, 2), 1.0, 7)) == 0
