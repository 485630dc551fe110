"""Cubic B-splines: partition of unity, polynomials reproduced, smoothness penalised."""

import pytest
import torch

from firn.kernels.spline import cubic_basis, difference_penalty, separable_field

POINTS = torch.linspace(0, 1, 41, dtype=torch.float64)


@pytest.mark.parametrize("intervals", [1, 2, 7])
def test_splines_sum_to_one_everywhere_and_are_never_negative(intervals: int) -> None:
    basis = cubic_basis(POINTS, intervals)
    assert basis.shape == (41, intervals + 3)
    torch.testing.assert_close(basis.sum(dim=1), torch.ones(41, dtype=torch.float64))
    assert float(basis.min()) >= 0


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_cubic_polynomial_is_a_spline(degree: int) -> None:
    basis, values = cubic_basis(POINTS, 4), POINTS**degree
    coefficients = torch.linalg.lstsq(basis, values[:, None]).solution
    torch.testing.assert_close((basis @ coefficients)[:, 0], values)


def test_the_second_difference_penalty_spares_straight_lines_only() -> None:
    penalty = difference_penalty(8, 2)
    line, parabola = torch.arange(8, dtype=torch.float64), torch.arange(8, dtype=torch.float64) ** 2
    assert float(line @ penalty @ line) == pytest.approx(0)
    assert float(parabola @ penalty @ parabola) == pytest.approx(6 * 4)


def test_too_few_coefficients_have_no_penalty() -> None:
    assert not difference_penalty(2, 2).any()


def test_a_field_on_a_raster_is_the_triple_sum_of_its_splines() -> None:
    generator = torch.Generator().manual_seed(0)
    t, y, x = (cubic_basis(torch.rand(n, generator=generator, dtype=torch.float64), k) for n, k in ((3, 2), (5, 1), (4, 3)))
    coefficients = torch.randn(5, 4, 6, 2, generator=generator, dtype=torch.float64)
    field = separable_field(t, y, x, coefficients)
    assert field.shape == (3, 5, 4, 2)
    expected = sum(t[1, a] * y[4, b] * x[2, c] * coefficients[a, b, c] for a in range(5) for b in range(4) for c in range(6))
    torch.testing.assert_close(field[1, 4, 2], expected)
