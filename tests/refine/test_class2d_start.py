"""The beginning of 2D classification: components of angular orders, and classes that turned particles fall into."""

import math

import pytest
import torch

from firn.kernels.fourier import rfft2
from firn.refine.class2d_average import soft_circle
from firn.refine.class2d_start import initial_state, restored
from motif_particles import BOX, MOTIFS, MadeParticles, blobs, make_plan

COUNT, RINGS = 4000, 6


def complex_noise(count: int, rings: int, seed: int) -> torch.Tensor:
    return torch.complex(*torch.randn(2, count, rings, generator=torch.Generator().manual_seed(seed))) / math.sqrt(2)


def test_one_pattern_under_different_transfers_is_restored_as_its_conditional_mean() -> None:
    transfer = torch.rand(COUNT, RINGS, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.6
    pattern = torch.tensor([2.0, -1.0, 0.5, 1.5, 0.0, -0.7])
    strength = complex_noise(COUNT, 1, 2)
    values = transfer * pattern * strength + complex_noise(COUNT, RINGS, 3)
    found = restored(values, transfer, torch.eye(RINGS))
    assert found.shape == (COUNT, 1)
    snr = (transfer * pattern).square().sum(1)
    share = snr / (1 + snr)
    sign = torch.sign((found * strength.conj()).real.sum())
    wanted = sign * share * (transfer * pattern * values).sum(1) / snr
    assert float((found[:, 0] - wanted).abs().square().mean()) < 0.01
    assert float((found[:, 0] - sign * strength[:, 0]).abs().square().mean()) == pytest.approx(float((1 - share).mean()), rel=0.1)


def test_noise_alone_has_no_components() -> None:
    transfer = torch.rand(COUNT, RINGS, generator=torch.Generator().manual_seed(4)) + 0.2
    assert restored(complex_noise(COUNT, RINGS, 5), transfer, torch.eye(RINGS)).shape == (COUNT, 0)


def test_particles_of_two_molecules_begin_in_two_classes_that_look_like_them() -> None:
    plan = make_plan(first_radius=9.0)
    particles = MadeParticles(300, 0.4, plan.disc)
    state = initial_state(particles, plan, torch.Generator().manual_seed(0))
    sizes = torch.bincount(particles.motif).sort().values
    assert torch.allclose(state.sums.count.sort().values, sizes.float(), atol=6)
    ratio = plan.side / BOX
    for motif in MOTIFS:
        scaled = [(y * ratio, x * ratio, sigma * ratio, weight) for y, x, sigma, weight in motif]
        wanted = torch.stack([blobs(scaled, psi, (0, 0), plan.side).flatten() for psi in range(0, 360, 5)])
        alike = torch.corrcoef(torch.cat((wanted, state.averages.images.flatten(1))))[: len(wanted), len(wanted) :]
        assert float(alike.max()) > 0.8


def test_a_beginning_is_the_same_by_the_same_chance() -> None:
    plan = make_plan(first_radius=9.0)
    particles = MadeParticles(60, 0.5, plan.disc)
    first, again = (initial_state(particles, plan, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.averages.images, again.averages.images)


def test_images_of_noise_begin_in_classes_all_the_same() -> None:
    plan = make_plan(first_radius=6.0)
    particles = MadeParticles(80, 0.5, plan.disc)
    noise = torch.randn(80, BOX, BOX, generator=torch.Generator().manual_seed(9)) * soft_circle(BOX, 15.0, 3.0)
    particles.spectra = rfft2(noise).flatten(1)[:, plan.disc.layout] / BOX
    state = initial_state(particles, plan, torch.Generator().manual_seed(0))
    assert float(state.sums.count.sum()) == 80
    assert bool(torch.isfinite(state.averages.images).all())


def test_images_of_nothing_begin_in_classes_all_the_same_and_rings_that_are_not_compared_do_not_matter() -> None:
    plan = make_plan(first_radius=6.0, least_radius=3.0)
    particles = MadeParticles(80, 0.5, plan.disc)
    first = initial_state(particles, plan, torch.Generator().manual_seed(0))
    inner = plan.disc.points.norm(dim=-1) < 1.5
    particles.spectra[:, inner] = 0
    again = initial_state(particles, plan, torch.Generator().manual_seed(0))
    assert torch.allclose(first.sums.count, again.sums.count, atol=4)
    particles.spectra[:] = 0
    assert float(initial_state(particles, plan, torch.Generator().manual_seed(0)).sums.count.sum()) == 80
