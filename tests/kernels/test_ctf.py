"""The CTF against its closed form and its conventions."""

import math

import torch

from firn.kernels.ctf import ctf_2d, ctf_phase, wavelength


def test_wavelengths_are_those_of_the_textbooks() -> None:
    known = {100.0: 0.0370, 200.0: 0.02508, 300.0: 0.01969}
    for voltage, expected in known.items():
        assert abs(float(wavelength(voltage)) - expected) < 2e-5


def test_the_value_at_zero_frequency_is_the_amplitude_contrast() -> None:
    value = ctf_2d(torch.zeros(1, 2), 20000.0, 18000.0, 30.0, 300.0, 2.7, 0.0, 0.07)
    assert abs(float(value) - 0.07) < 1e-6


def test_phase_follows_the_formula_without_astigmatism() -> None:
    s, defocus, cs = 0.2, 15000.0, 2.7e7
    lam = 12.2643247 / math.sqrt(300e3 * (1 + 300e3 * 0.978466e-6))
    expected = math.pi * lam * s**2 * defocus - math.pi / 2 * cs * lam**3 * s**4 + math.atan(0.1 / math.sqrt(1 - 0.01)) + math.pi / 2
    phase = ctf_phase(torch.tensor([[0.12, 0.16]]), defocus, defocus, 0.0, 300.0, 2.7, 90.0, 0.1)
    assert abs(float(phase) - expected) < 1e-3


def test_defocus_u_lies_along_its_angle_from_x_towards_y() -> None:
    angle = math.radians(30)
    along = torch.tensor([[math.sin(angle), math.cos(angle)]]) * 0.1
    across = torch.tensor([[math.cos(angle), -math.sin(angle)]]) * 0.1
    for direction, defocus in ((along, 20000.0), (across, 10000.0)):
        astigmatic = ctf_phase(direction, 20000.0, 10000.0, 30.0, 300.0, 2.7)
        round_ = ctf_phase(direction, defocus, defocus, 0.0, 300.0, 2.7)
        torch.testing.assert_close(astigmatic, round_, atol=1e-3, rtol=0)


def test_a_batch_equals_its_images_one_by_one() -> None:
    grid = torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(0)) * 0.3
    u, v, angle = torch.tensor([1e4, 2e4]), torch.tensor([9e3, 1.5e4]), torch.tensor([10.0, -50.0])
    both = ctf_2d(grid, u, v, angle, 300.0, 2.7)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], ctf_2d(grid, u[i], v[i], angle[i], 300.0, 2.7), atol=2e-5, rtol=0)
