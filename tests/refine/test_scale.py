"""Grey scales of particles: recovered as well as the noise allows, and left alone when only noise spreads them."""

import torch

from firn.refine.scale import particle_scales


def observe(true: torch.Tensor, power: float, former: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """cross and power as least squares sees them: unit noise, a model of the given power, the former scale in the model."""
    noise = torch.randn(len(true), generator=torch.Generator().manual_seed(seed))
    return former * (power * true + power**0.5 * noise), former**2 * power


def test_scales_that_differ_come_back():
    true = 1 + 0.3 * torch.randn(2000, generator=torch.Generator().manual_seed(1))
    former = torch.full((2000,), 1.3)
    scales, spread = particle_scales(*observe(true, 120.0, former), former)
    assert abs(spread - 0.3) < 0.02
    assert float(torch.corrcoef(torch.stack((scales, true)))[0, 1]) > 0.95
    assert float((scales - true).square().mean().sqrt()) < 1 / (1 / 0.3**2 + 120.0) ** 0.5 * 1.1


def test_equal_particles_keep_equal_scales():
    former = torch.ones(2000)
    scales, spread = particle_scales(*observe(torch.ones(2000), 40.0, former), former)
    assert float(scales.std()) < 0.02
    assert spread < 0.06


def test_the_mean_scale_is_one_whatever_the_grey_scale_of_the_reference():
    former = torch.ones(500)
    scales, _ = particle_scales(*observe(0.4 * (1 + 0.3 * torch.rand(500)), 300.0, former), former)
    assert abs(float(scales.mean()) - 1) < 1e-5
