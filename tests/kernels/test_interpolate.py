"""Warping by splines: constant shifts are those of Fourier space, smooth ones move features where they should."""

import pytest
import torch

from firn.kernels.fourier import frequencies2, plain_irfft2, plain_rfft2, shift_phases
from firn.kernels.interpolate import spline_prefilter, warp_coefficients


def coefficients_of(image: torch.Tensor) -> torch.Tensor:
    shape = (image.shape[0], image.shape[1])
    rows, columns = spline_prefilter(shape)
    return plain_irfft2(plain_rfft2(image) * rows * columns, shape)


def smooth_noise(shape: tuple[int, int], cutoff: float) -> torch.Tensor:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    radius = frequencies2(shape).square().sum(dim=-1).sqrt()
    return plain_irfft2(plain_rfft2(image) * (radius < cutoff), shape)


@pytest.mark.parametrize("shape", [(48, 64), (47, 51)])
def test_no_shift_gives_the_image_back(shape: tuple[int, int]) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    moved = warp_coefficients(coefficients_of(image), torch.zeros(2, *shape))
    torch.testing.assert_close(moved[2:-2, 2:-2], image[2:-2, 2:-2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shift", [(0.5, -0.25), (2.0, 3.0), (-1.7, 0.3)])
def test_a_constant_shift_agrees_with_a_phase_ramp_up_to_half_nyquist(shift: tuple[float, float]) -> None:
    image = smooth_noise((64, 80), 0.25)
    exact = plain_irfft2(plain_rfft2(image) * shift_phases(frequencies2((64, 80)), torch.tensor(shift)), (64, 80))
    field = torch.tensor(shift)[:, None, None].expand(2, 64, 80).contiguous()
    moved = warp_coefficients(coefficients_of(image), field)
    inside = (slice(8, -8), slice(8, -8))
    assert float((moved - exact)[inside].std() / exact[inside].std()) < 0.02


def test_a_stretching_shift_moves_a_blob_by_the_shift_at_its_place() -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = torch.exp(-((y - 30) ** 2 + (x - 60) ** 2) / 18)
    shifts = torch.stack((0.02 * (y - 30) + 1.5, 0.01 * (x - 60) - 2.25))
    moved = warp_coefficients(coefficients_of(blob), shifts)
    centre = torch.stack(((moved * y).sum(), (moved * x).sum())) / moved.sum()
    torch.testing.assert_close(centre, torch.tensor([31.5, 57.75]), rtol=0, atol=0.15)
