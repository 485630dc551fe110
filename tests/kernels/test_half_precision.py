"""What half-precision operands do to scores."""

import math

import pytest
import torch
from torch import Tensor

from firn.kernels.fourier import shift_phases
from firn.kernels.grid import FourierDisc, fourier_disc
from firn.kernels.half_precision import ERROR, MULTIPLE, half_columns, half_rows, split_points
from firn.kernels.rotation import random_rotations
from firn.kernels.sampling import rotations_from_vectors
from firn.kernels.score import cross_terms, log_likelihoods, score_halves, shifted_rows, weigh_projections

ALLOWED = 0.05
NONE = torch.zeros(0, dtype=torch.long)


def particle(n: int, radius: float, snr: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, FourierDisc]:
    """(rows, ctf power, columns, powers, noise, disc) of one noisy image of soft balls in a third of the box, in the true pose, poses about
    it and any others; snr: variance of the signal over that of the noise in the whole image."""
    chance = torch.Generator().manual_seed(seed)
    balls = (torch.rand(60, 3, generator=chance) - 0.5) * n * torch.tensor([0.5, 0.35, 0.3])
    true = random_rotations(1, chance)
    near = rotations_from_vectors(torch.randn(100, 3, generator=chance) * 6)
    turns = torch.cat((true, true @ near, random_rotations(100, chance)))
    disc = fourier_disc(n, radius)

    def seen(rotations: Tensor, points: Tensor) -> Tensor:
        angles = -2 * math.pi / n * (balls @ rotations)[:, :, 1:] @ points.T
        soft = torch.exp(-(points.norm(dim=1) ** 2) * (0.03 * math.pi) ** 2 * 64 / n)
        return torch.polar(torch.ones_like(angles), angles).sum(1) * soft

    def ctf(points: Tensor) -> Tensor:
        squares = (points.norm(dim=1) / n) ** 2
        return torch.sin(0.1 + 120 * squares - 60 * squares**2)

    everything = fourier_disc(n, min(n / 2, 40))
    signal = (seen(true, everything.points)[0].abs() * ctf(everything.points)) ** 2 * everything.weights
    noise = torch.full((len(disc.index),), float(signal[1:].sum()) / n**2 / snr)
    projections, values = seen(turns, disc.points), ctf(disc.points)
    image = values * projections[0] + torch.randn(len(noise), dtype=torch.complex64, generator=chance) * noise.sqrt()
    shifts = torch.cartesian_prod(*[torch.arange(-1, 2.0)] * 2)
    rows = shifted_rows((image * values / noise)[None], shift_phases(disc.points / n, shifts))
    return rows, (values**2 / noise)[None], *weigh_projections(projections, disc.weights), noise, disc


def errors(rows: Tensor, ctf_power: Tensor, columns: Tensor, powers: Tensor, split: Tensor) -> tuple[float, float]:
    """Largest error of scores in nats among poses within 10 nats of the best, and among all."""
    norms = ctf_power @ powers.T
    exact = log_likelihoods(cross_terms(rows.double(), columns.double()), ctf_power.double() @ powers.double().T, scaled=True)
    off = (score_halves(half_rows(rows, split), half_columns(columns, split), norms, scaled=True) - exact).abs()
    return float(off[exact > exact.max() - 10].max()), float(off.max())


@pytest.mark.parametrize("snr", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("n", [64, 128, 256])
def test_scores_in_half_precision_are_within_a_twentieth_of_a_nat(n: int, snr: float):
    for radius, seed in ((8, 1), (16, 2), (min(n / 4, 40), 3)):
        rows, ctf_power, columns, powers, noise, disc = particle(n, radius, snr, seed + n)
        split = split_points(powers, noise, disc.weights, scaled=True)
        assert max(errors(rows, ctf_power, columns, powers, split)) < ALLOWED


def test_strong_particles_need_the_split_and_get_it():
    rows, ctf_power, columns, powers, noise, disc = particle(128, 16, 1.0, 7)
    split = split_points(powers, noise, disc.weights, scaled=True)
    assert errors(rows, ctf_power, columns, powers, NONE)[1] > 2 * ALLOWED
    assert errors(rows, ctf_power, columns, powers, split)[1] < ALLOWED


def test_weak_particles_need_no_split():
    _, _, _, powers, noise, disc = particle(64, 8, 0.002, 7)
    assert len(split_points(powers, noise, disc.weights, scaled=True)) == 0


def test_a_reference_of_unknown_grey_scale_is_split_alike_at_every_scale():
    _, _, _, powers, noise, disc = particle(64, 16, 0.1, 8)
    first, second = (split_points(factor * powers, noise, disc.weights, scaled=False) for factor in (1.0, 1e6))
    assert torch.equal(first, second)


def test_the_error_of_a_product_is_the_derived_one():
    chance = torch.Generator().manual_seed(4)
    first, second = (torch.exp2(3 * torch.rand(20_000, 1, 32, generator=chance)) for _ in range(2))
    exact = (first.double() * second.double()).sum(-1)[:, 0]
    found = (half_rows(first, NONE).values[:, 0].double() * half_columns(second[:, 0], NONE).values.double()).sum(-1)
    scales = half_rows(first, NONE).scales * half_columns(second[:, 0], NONE).scales
    spread = (first.double() * second.double()).square().sum(-1)[:, 0].sqrt()
    assert float(((found * scales - exact) / spread).square().mean().sqrt()) == pytest.approx(ERROR, rel=0.02)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_no_value_overflows_and_large_ones_keep_eleven_bits(size: float):
    chance = torch.Generator().manual_seed(5)
    lines = (torch.rand(5, 48, generator=chance) - 0.5) * size * torch.logspace(-6, 0, 48)
    halves = half_columns(lines, NONE)
    back = halves.values[:, :48].float() * halves.scales[:, None]
    assert torch.isfinite(halves.values).all()
    assert halves.values.shape[1] % MULTIPLE == 0
    assert float(((back - lines) / lines).abs().max()) <= 2**-11


def test_a_line_of_zeros_stays_zero():
    halves = half_rows(torch.zeros(2, 3, 10), torch.tensor([1, 4]))
    assert torch.isfinite(halves.scales).all()
    assert not halves.values.any()


def test_a_value_and_its_remainder_make_single_precision():
    chance = torch.Generator().manual_seed(6)
    rows, columns = torch.randn(2, 3, 20, generator=chance), torch.randn(7, 20, generator=chance)
    split = torch.arange(10)
    scores = score_halves(half_rows(rows, split), half_columns(columns, split), torch.zeros(2, 7), scaled=True)
    assert torch.allclose(scores, cross_terms(rows, columns), atol=3e-6)
