"""The CTF fit on exact ring patterns: parameters, projections, equal phase, amplitudes."""

import math

import pytest
import torch

from firn.kernels import ctf_fit
from firn.kernels.ctf import ctf_2d
from firn.kernels.ctf_fit import Optics
from firn.kernels.fourier import frequencies2
from firn.kernels.power_spectrum import band, spline_basis
from firn.kernels.ring_profile import equivalent_s2, fit_resolution, ring_correlation, ring_windows
from firn.kernels.surface_fit import best_plane, fit_surface, offset_likelihoods, ring_envelope

OPTICS = Optics(300.0, 2.7, 0.1)


def make_samples(tile: int = 96, pixel_size: float = 2.5):
    grid = frequencies2((tile, tile)) / pixel_size
    chosen = grid[band(grid, 0.04, 0.19)]
    return ctf_fit.make_samples(chosen, torch.ones(len(chosen)), OPTICS)


def make_projector(samples):
    radius = samples.s2.sqrt()
    return ctf_fit.make_projector(samples.weights, spline_basis(radius, float(radius.min()), float(radius.max()), 3))


def parameters(u: float, v: float, angle: float, phase: float = 0.0) -> torch.Tensor:
    double, half = math.radians(2 * angle), (u - v) / 2
    return torch.tensor([(u + v) / 2, half * math.cos(double), half * math.sin(double), phase])


def test_the_ring_pattern_is_twice_the_squared_ctf_less_one():
    samples = make_samples()
    ctf = ctf_2d(samples.frequencies, 16000.0, 15000.0, 35.0, 300.0, 2.7, 0.0, 0.1)[0]
    pattern = ctf_fit.rings(samples, parameters(16000, 15000, 35), torch.ones(len(samples.s2)))
    assert torch.allclose(pattern, 2 * ctf**2 - 1, atol=1e-3)


@pytest.mark.parametrize(("u", "v", "angle"), [(16000, 15000, 35.0), (8000, 7900, 170.0), (30000, 28000, 91.0)])
def test_defocus_goes_to_parameters_and_back(u, v, angle):
    found = ctf_fit.defocus_from(parameters(u, v, angle))
    assert found[:2] == pytest.approx((u, v), abs=0.1)
    assert found[2] == pytest.approx(angle, abs=0.1)


def test_gauss_newton_finds_an_exact_pattern_under_a_background_from_nearby():
    samples = make_samples()
    true = parameters(16000, 15400, 50)
    envelope = ctf_fit.exponential(samples, 50.0)
    values = 1 + 3 * samples.s2 + 0.3 * ctf_fit.rings(samples, true, envelope)
    found = ctf_fit.refine(samples, make_projector(samples), envelope[:, None], values, parameters(15850, 15850, 0), noise=1e-6, steps=25)
    assert (found - true).abs().max() < 5.0


def test_a_weak_pattern_in_noise_is_drawn_towards_no_astigmatism():
    samples = make_samples()
    envelope = ctf_fit.exponential(samples, 50.0)[:, None]
    values = 1 + 0.3 * ctf_fit.rings(samples, parameters(16000, 15400, 50), envelope[:, 0])
    start = parameters(15700, 15700, 0)
    strong, weak = (ctf_fit.refine(samples, make_projector(samples), envelope, values, start, noise, steps=25) for noise in (1e-6, 1e4))
    assert weak[1:3].norm() < 0.1 * strong[1:3].norm()


def test_a_background_alone_correlates_with_no_rings():
    samples = make_samples()
    values = spline_basis(samples.s2.sqrt(), float(samples.s2.sqrt().min()), float(samples.s2.sqrt().max()), 3) @ torch.rand(6)
    values = values + 1e-3 * torch.randn(len(values), generator=torch.Generator().manual_seed(1))
    trials = torch.stack([parameters(z, z, 0) for z in range(5000, 30000, 500)])
    scores = ctf_fit.correlations(samples, make_projector(samples), values, trials, torch.ones(1, len(values)))
    assert scores.abs().max() < 0.15


@pytest.mark.parametrize("cs", [0.001, 2.7])
def test_equal_phase_radii_have_equal_phase(cs):
    optics = Optics(300.0, cs, 0.1)
    s2 = torch.linspace(0.04, 0.25, 40) ** 2
    other = equivalent_s2(s2, torch.full((40,), 14000.0), 15000.0, optics)
    phases = []
    for squared, defocus in ((s2, 14000.0), (other, 15000.0)):
        rings = ctf_fit.make_samples(torch.stack((torch.zeros(40), squared.sqrt()), dim=-1), torch.ones(40), optics)
        phases.append(ctf_fit.phases(rings, parameters(defocus, defocus, 0)))
    assert torch.allclose(phases[0], phases[1], atol=2e-3)


def test_gauss_newton_with_free_heights_is_not_misled_by_their_decay():
    samples = make_samples()
    radius = samples.s2.sqrt()
    basis = spline_basis(radius.log(), float(radius.min().log()), float(radius.max().log()), 2)
    true = parameters(4000, 3800, 50)
    signal = 0.8 * torch.exp(-80 * samples.s2)
    values = 1 + signal * (1 + ctf_fit.rings(samples, true, torch.ones(len(radius)))) / 2
    project = ctf_fit.make_projector(samples.weights, basis)
    found = ctf_fit.refine(samples, project, basis, values, parameters(4100, 4100, 0), noise=1e-6, steps=25)
    assert float(found[0]) == pytest.approx(3900, abs=10)
    assert (found - true)[1:3].abs().max() < 10.0


def test_the_envelope_is_the_height_of_the_rings_of_all_tiles_whatever_their_defocus():
    samples = make_samples()
    radius = samples.s2.sqrt()
    basis = spline_basis(radius.log(), float(radius.min().log()), float(radius.max().log()), 2)
    envelope = basis @ torch.tensor([0.5, 0.4, 0.2, 0.1, 0.05])
    offsets = torch.tensor([-300.0, 0.0, 400.0])
    tiles = torch.stack([ctf_fit.rings(samples, parameters(16000 + z, 15400 + z, 50), envelope) for z in offsets.tolist()])
    project = ctf_fit.make_projector(samples.weights, basis)
    assert torch.allclose(ring_envelope(samples, project, basis, tiles, parameters(16000, 15400, 50), offsets), envelope, atol=2e-3)


def test_the_correlation_of_a_profile_with_rings_is_one_whatever_its_height_and_level():
    phase = torch.linspace(2, 60, 200)
    model, windows = -torch.cos(2 * phase), ring_windows(phase)
    assert torch.allclose(ring_correlation(0.2 + 0.3 * model, model, windows), torch.ones(200), atol=1e-4)
    assert torch.allclose(ring_correlation(0.2 - 0.3 * model, model, windows), -torch.ones(200), atol=1e-4)


def test_the_fit_resolution_is_where_the_correlation_first_falls_under_the_threshold():
    frequency = torch.linspace(0.05, 0.25, 201)
    correlation = torch.where(frequency < 0.1251, 0.9, 0.1)
    correlation[-5:] = 0.9
    assert fit_resolution(frequency, correlation, 25.0) == pytest.approx(8.0, rel=0.01)
    assert fit_resolution(frequency, torch.zeros(201), 25.0) == 25.0


def test_the_surface_fit_recovers_the_plane_of_exact_tiles():
    samples = make_samples()
    basis = torch.rand(9, 5, generator=torch.Generator().manual_seed(6)) * 2 - 1
    true = torch.tensor([1.0, 15000.0, 200.0, -100.0, 250.0, -150.0, 0.0, 0.0, 0.0])
    envelope = torch.full((len(samples.s2),), 0.5)
    tiles = [
        0.5 * ctf_fit.rings(samples, torch.stack((15000 + row @ true[4:], true[2], true[3], torch.tensor(0.0))), torch.ones(len(envelope)))
        for row in basis
    ]
    start = torch.tensor([1.0, 15020.0, 150.0, -50.0, 0, 0, 0, 0, 0])
    found, _ = fit_surface(samples, make_projector(samples), torch.stack(tiles), basis, start, envelope, 1e-3, terms=2, steps=20)
    assert (found[1:] - true[1:]).abs().max() < 10.0


def test_likelihoods_looked_up_over_tiles_find_a_strong_plane():
    radius = torch.arange(30, 160) / 800.0
    rings = ctf_fit.make_samples(torch.stack((torch.zeros(130), radius), dim=-1), 3.0 * torch.arange(30, 160), OPTICS)
    basis = torch.zeros(9, 5)
    basis[:, :2] = torch.cartesian_prod(torch.tensor([-0.6, 0, 0.6]), torch.tensor([-0.6, 0, 0.6]))
    envelope = torch.full((130,), 0.3)
    profiles = torch.stack(
        [ctf_fit.rings(rings, parameters(z, z, 0), envelope) for z in (15000 + 1200 * basis[:, 0] - 700 * basis[:, 1]).tolist()]
    )
    offsets = torch.arange(-3000.0, 3001.0, 60.0)
    likelihoods = offset_likelihoods(rings, make_projector(rings), profiles, parameters(15000, 15000, 0), envelope, offsets, 3.78)
    plane = best_plane(likelihoods, offsets, basis, reach=2000.0, step=100.0)
    assert plane[:2].tolist() == [1200.0, -700.0]
