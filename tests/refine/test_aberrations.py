"""Fits of shared phases: what was put in comes out within the stated errors, however far it turns, and noise gives nothing."""

import numpy as np
import pytest
import torch

from firn.families.aberration_fit import THRESHOLD, Wanted, even_basis, odd_basis
from firn.formats.aberrations import Aberrations
from firn.kernels.grid import fourier_disc
from firn.refine.aberrations import EvenSums, GroupSums, OddSums, add_images_, fit_phase, fit_stretch, measured_even, significant_fit

SIDE, PIXEL = 48, 1.2
GROUP = Aberrations("g", np.arange(1), 300.0, 2.7, (0.0, 0.0), np.zeros(0), np.zeros(0), np.eye(2))
DISC = fourier_disc(SIDE, 18)
FREQUENCIES = DISC.points / (SIDE * PIXEL)
RADIUS = FREQUENCIES.norm(dim=-1)
ALL = Wanted(cs=True, tetrafoil=True)


def odd_sums(values: dict[str, float], power: float, seed: int = 1, noise: float = 1.0) -> OddSums:
    """Sums with phases of known terms and the noise that belongs to a power that falls with the frequency."""
    chance = torch.Generator().manual_seed(seed)
    basis = odd_basis(FREQUENCIES, GROUP, ALL)
    phase = sum((amount * basis[name] for name, amount in values.items()), torch.zeros(len(RADIUS), dtype=torch.float64)).float()
    share = DISC.weights * power * torch.exp(-(RADIUS**2) * 30)
    spread = (DISC.weights * share / 2).sqrt() * noise
    cross = torch.polar(share, phase) + torch.complex(*(spread * torch.randn(len(share), generator=chance) for _ in range(2)))
    return OddSums(cross, share)


@pytest.mark.parametrize("tilt", [0.3, 1.5, 4.0])
def test_tilts_that_turn_the_phase_many_times_are_found(tilt):
    fit = fit_phase(odd_sums({"tilt_x": tilt, "tilt_y": -0.5 * tilt, "shift_x": 0.2}, 120.0), odd_basis(FREQUENCIES, GROUP, ALL), RADIUS)
    assert fit.value("tilt_x") == pytest.approx(tilt, abs=5 * fit.error("tilt_x"))
    assert fit.value("tilt_y") == pytest.approx(-0.5 * tilt, abs=5 * fit.error("tilt_y"))
    assert fit.error("tilt_x") < 0.1


def test_stated_errors_are_those_of_many_draws():
    basis = odd_basis(FREQUENCIES, GROUP, Wanted())
    fits = [fit_phase(odd_sums({"tilt_x": 0.2}, 8.0, seed), basis, RADIUS) for seed in range(10)]
    pulls = np.array([(fit.value("tilt_x") - 0.2) / fit.error("tilt_x") for fit in fits])
    assert 0.4 < pulls.std() < 1.8
    assert abs(pulls.mean()) < 1.2


def test_noise_worse_than_stated_widens_the_errors():
    basis = odd_basis(FREQUENCIES, GROUP, Wanted())
    plain, worse = (fit_phase(odd_sums({}, 120.0, noise=factor), basis, RADIUS).error("tilt_x") for factor in (1.0, 3.0))
    assert worse == pytest.approx(3 * plain, rel=0.3)


@pytest.mark.parametrize("power", [1e-3, 3.0])
def test_noise_alone_asks_for_no_change(power):
    basis, parts = odd_basis(FREQUENCIES, GROUP, Wanted()), [("tilt_x", "tilt_y"), ("trefoil_x", "trefoil_y")]
    gains = []
    for seed in range(3):
        sums = odd_sums({}, power, seed)
        noise = OddSums(sums.cross - sums.power if seed % 2 else sums.cross, sums.power)
        gains += list(significant_fit(noise, basis, parts, RADIUS, THRESHOLD)[2].values())
    assert max(gains) < THRESHOLD


def test_a_part_that_is_there_is_kept_and_one_that_is_not_is_left_out():
    basis, parts = odd_basis(FREQUENCIES, GROUP, Wanted()), [("tilt_x", "tilt_y"), ("trefoil_x", "trefoil_y")]
    _, kept, gains = significant_fit(odd_sums({"trefoil_x": 10.0}, 60.0), basis, parts, RADIUS, THRESHOLD)
    assert gains[parts[1]] > THRESHOLD > gains[parts[0]]
    assert kept.names == ("shift_x", "shift_y", "trefoil_x", "trefoil_y")


def even_sums(values: dict[str, float], count: int = 200) -> tuple[GroupSums, torch.Tensor]:
    """(sums over noise-free images of many defocus values, the change of chi that was put in)."""
    chance = torch.Generator().manual_seed(4)
    phase = sum((amount * term for name, amount in values.items() for term in (even_basis(FREQUENCIES, GROUP, ALL)[name],))).float()
    projections = torch.complex(*(torch.randn(count, len(RADIUS), generator=chance) for _ in range(2)))
    chi = 0.0618 * (5000 + 10000 * torch.rand(count, 1, generator=chance)) * RADIUS**2
    sums = GroupSums.empty(len(RADIUS), torch.device("cpu"))
    for rows in torch.arange(count).split(60):
        add_images_(sums, torch.sin(chi[rows] + phase) * projections[rows], projections[rows], chi[rows], DISC.weights)
    return sums, phase


def test_even_terms_are_told_apart():
    values = {"defocus": 40.0, "astigmatism_y": -30.0, "cs": 0.2, "tetrafoil_x": 40.0, "tetrafoil_y": -20.0}
    sums, phase = even_sums(values)
    fit = fit_phase(sums.even, even_basis(FREQUENCIES, GROUP, ALL), RADIUS)
    for name, amount in values.items():
        assert fit.value(name) == pytest.approx(amount, rel=0.01)
    sure = RADIUS > 0.08
    assert torch.allclose(torch.remainder(measured_even(sums.even) - phase + 3.1416, 6.2832)[sure], torch.tensor(3.1416), atol=1e-2)
    assert sums.particles == 200


def test_the_derivatives_of_the_even_likelihood_are_its_derivatives():
    chance = torch.Generator().manual_seed(2)
    sums = EvenSums(*(torch.rand(30, generator=chance) + (1 if place in (2, 4) else 0) for place in range(5)))
    phase, step = torch.rand(30, generator=chance), 1e-2
    ahead, behind = (sums.terms(phase + sign * step)[0] for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / (2 * step), sums.terms(phase)[1], atol=1e-3, rtol=1e-3)


def test_a_stretch_of_gaussian_blobs_is_found():
    matrix = torch.tensor([[1.004, 0.002], [0.002, 0.996]])
    chance = torch.Generator().manual_seed(3)
    centres = 6 * torch.randn(40, 2, generator=chance) / SIDE

    def spectra(points: torch.Tensor) -> torch.Tensor:
        return torch.exp(-2j * torch.pi * (centres @ points.T)) * torch.exp(-(points.norm(dim=-1) ** 2) / 225)

    here = spectra(DISC.points)
    gradient = torch.stack([(-2j * torch.pi * centres[:, axis, None] - DISC.points[:, axis] / 112.5) * here for axis in (0, 1)])
    sums = GroupSums.empty(len(DISC.points), torch.device("cpu"))
    chi = torch.full(here.shape, torch.pi / 2)
    add_images_(sums, spectra(DISC.points @ matrix.T), here, chi, DISC.weights, gradient)
    terms = torch.tensor([[[1.0, 0.0], [0.0, -1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    amounts, _ = fit_stretch(sums.stretch, DISC.points, terms)
    torch.testing.assert_close(amounts.float(), torch.tensor([0.004, 0.002]), atol=2e-4, rtol=0)
