"""Defocus of single particles in closed form: the likelihood's slope, the grid, the prior."""

import torch

from firn.refine.defocus import Evidence, best_offsets, offset_grid, prior_spread

POINTS = 800
RATE = torch.linspace(0, 0.004, POINTS).expand(40, -1)
PHASE = torch.linspace(0.1, 30, 40)[:, None] + 12 * RATE / 0.004
GRID = offset_grid(2000.0, 0.004)


def seen(true: torch.Tensor, power: float, seed: int = 0) -> Evidence:
    """Images of a model of even power with unit noise, at true offsets."""
    noise = torch.randn(40, POINTS, generator=torch.Generator().manual_seed(seed))
    cross = power * torch.sin(PHASE + RATE * true[:, None]) + power**0.5 * noise
    return Evidence(cross, torch.full((40, POINTS), power), PHASE, RATE)


def test_offsets_come_back_as_closely_as_fishers_information_allows():
    true = torch.linspace(-1200, 1500, 40)
    evidence = seen(true, 0.3)
    scores = evidence.log_likelihood(GRID.expand(40, -1))
    found, errors = best_offsets(evidence, scores, GRID, prior_spread(scores, GRID))
    assert float((found - true).square().mean().sqrt()) < 1.5 * float(errors.mean())
    assert float((found - true).abs().max()) < 5 * float(errors.max())


def test_the_slope_is_the_derivative_of_the_likelihood():
    evidence, offsets = seen(torch.zeros(40), 0.5), torch.full((40,), 130.0)
    either = evidence.log_likelihood(torch.stack((offsets - 2, offsets + 2), dim=1))
    assert torch.allclose(evidence.slope(offsets)[0], (either[:, 1] - either[:, 0]) / 4, rtol=0.02, atol=2e-3)


def test_images_that_say_nothing_keep_their_defocus():
    evidence = seen(torch.zeros(40), 1e-4)
    scores = evidence.log_likelihood(GRID.expand(40, -1))
    found, _ = best_offsets(evidence, scores, GRID, prior_spread(scores, GRID))
    assert float(found.abs().max()) < 200


def test_the_prior_is_as_wide_as_the_offsets_spread():
    true = 400 * torch.randn(40, generator=torch.Generator().manual_seed(2))
    scores = seen(true, 1.0).log_likelihood(GRID.expand(40, -1))
    assert abs(prior_spread(scores, GRID) / float(true.square().mean().sqrt()) - 1) < 0.05


def test_the_grid_is_fine_enough_for_the_finest_frequency():
    grid = offset_grid(2000.0, 0.01)
    assert float(grid[0]) == -2000
    assert float(grid[-1]) == 2000
    assert float((grid[1:] - grid[:-1]).max()) * 0.01 <= 0.7001
