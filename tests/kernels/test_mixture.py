"""Normal distributions are found again, and divided where least of them comes to lie on the wrong side."""

import pytest
import torch

from firn.kernels.mixture import Division, discriminant, divide, fit_normals


def _cloud(counts: tuple[int, ...], means: list[list[float]], sds: list[list[float]], seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.tensor(mean) + torch.randn(count, len(mean), generator=generator) * torch.tensor(sd)
        for count, mean, sd in zip(counts, means, sds, strict=True)
    ]
    return torch.cat(parts)


def _divide(points: torch.Tensor) -> Division:
    fit = fit_normals(points, points)
    return divide(fit, torch.tensor([False, True]), discriminant(fit))


def test_weights_means_and_widths_are_found_again():
    fit = fit_normals(points := _cloud((3000, 1000), [[0.2, 1.0], [0.6, 2.0]], [[0.1, 0.3], [0.05, 0.2]]), points)
    torch.testing.assert_close(fit.weights, torch.tensor([0.75, 0.25]).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(fit.means, torch.tensor([[0.2, 1.0], [0.6, 2.0]]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(fit.covariances[1].diag().sqrt(), torch.tensor([0.05, 0.2]).double(), atol=0.02, rtol=0)


def test_a_part_of_two_percent_is_found():
    points = _cloud((4900, 100), [[0.2], [0.7]], [[0.05], [0.05]])
    fit = fit_normals(points, points)
    assert float(fit.weights[1]) == pytest.approx(0.02, abs=0.003)
    assert float(fit.means[1, 0]) == pytest.approx(0.7, abs=0.03)


def test_equal_parts_are_divided_half_way():
    points = _cloud((4000, 4000), [[0.2], [0.6]], [[0.08], [0.08]])
    division = _divide(points)
    assert division.level == pytest.approx(0.4, abs=0.02)
    assert division.separation == pytest.approx(5, abs=0.3)


def test_the_rarer_part_has_the_smaller_side():
    points = _cloud((9000, 500), [[0.2], [0.6]], [[0.1], [0.1]])
    assert _divide(points).level > 0.41


def test_the_direction_follows_the_coordinate_that_tells_parts_apart():
    points = _cloud((2000, 2000), [[0.4, 1.0], [0.41, 4.0]], [[0.1, 0.4], [0.1, 0.4]])
    division = _divide(points)
    found = points.double() @ division.direction >= division.level
    truth = torch.arange(4000) >= 2000
    assert float((found == truth).double().mean()) > 0.99


def test_one_round_cloud_is_not_two():
    points = torch.randn(5000, 2, generator=torch.Generator().manual_seed(3))
    assert fit_normals(points, points).evidence < 0
    assert fit_normals(torch.cat((points, points + 5)), torch.cat((points, points + 5))).evidence > 100


def test_as_many_parts_as_there_are_are_found_in_order():
    points = _cloud((3000, 600, 300), [[0.2, 1.0], [0.25, 2.0], [0.6, 1.5]], [[0.03, 0.1], [0.03, 0.1], [0.05, 0.2]])
    fit = fit_normals(points, points.flip(-1), most=5)
    torch.testing.assert_close(fit.weights, torch.tensor([3000, 600, 300]).double() / 3900, atol=0.02, rtol=0)
    torch.testing.assert_close(fit.means[:, 0], torch.tensor([0.2, 0.25, 0.6]).double(), atol=0.02, rtol=0)
    assert len(fit_normals(points, points).weights) == 2


def test_parts_put_together_have_the_moments_of_their_points():
    points = _cloud((1000, 1000), [[0.2], [0.8]], [[0.1], [0.1]])
    both = fit_normals(points, points).merged([torch.tensor([True, True])])
    assert float(both.means[0, 0]) == pytest.approx(float(points.mean()), abs=1e-3)
    assert float(both.covariances[0, 0, 0]) == pytest.approx(float(points.var()), rel=0.01)


def test_the_plane_between_groups_leaves_least_on_the_wrong_side():
    points = _cloud((4000, 1000, 1000), [[0.1], [0.4], [0.9]], [[0.03], [0.08], [0.08]])
    fit = fit_normals(points, points, most=3)
    wrong = [
        int(((points[:, 0] >= level) != (torch.arange(6000) >= 5000)).sum())
        for level in (divide(fit, torch.arange(3) == 2, torch.ones(1).double()).level, 0.6, 0.7)
    ]
    assert wrong[0] <= min(wrong[1:]) + 3
