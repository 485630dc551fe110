"""Resampling by splines: constant shifts are those of Fourier space, smooth ones move features where they should."""

import pytest
import torch

from firn.kernels.fourier import frequencies2, plain_irfft2, plain_rfft2, shift_phases
from firn.kernels.interpolate import periodic_rows, resample_rows_, spline_prefilter, spline_taps


def sharpened(image: torch.Tensor) -> torch.Tensor:
    shape = (image.shape[0], image.shape[1])
    rows, columns = spline_prefilter(shape)
    return plain_irfft2(plain_rfft2(image) * rows * columns, shape)


def resampled(image: torch.Tensor, along_y: torch.Tensor, along_x: torch.Tensor) -> torch.Tensor:
    """The image moved by shifts that depend on the column alone, in one strip."""
    height, width = image.shape
    repeat = 1 if len(along_y) > 1 else width
    first_y, _, rows = spline_taps(along_y[None], repeat, width)
    first_x, _, columns = spline_taps(along_x[None], repeat, width)
    strip = torch.empty_like(image)
    resample_rows_(strip, periodic_rows(image, int(first_y), height + rows.shape[1] - 1), rows[0], columns[0], int(first_x))
    return strip


def smooth_noise(shape: tuple[int, int], cutoff: float) -> torch.Tensor:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    radius = frequencies2(shape).square().sum(dim=-1).sqrt()
    return plain_irfft2(plain_rfft2(image) * (radius < cutoff), shape)


@pytest.mark.parametrize("shape", [(48, 64), (47, 51)])
def test_no_shift_gives_the_image_back(shape: tuple[int, int]) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    moved = sharpened(resampled(image, torch.zeros(1), torch.zeros(1)))
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 80), (45, 63)])
@pytest.mark.parametrize("shift", [(0.5, -0.25), (2.0, 3.0), (-1.7, 0.3), (90.4, -300.6)])
def test_a_constant_shift_agrees_with_a_phase_ramp_up_to_half_nyquist(shape: tuple[int, int], shift: tuple[float, float]) -> None:
    image = smooth_noise(shape, 0.25)
    exact = plain_irfft2(plain_rfft2(image) * shift_phases(frequencies2(shape), torch.tensor(shift)), shape)
    moved = sharpened(resampled(image, torch.tensor(shift[:1]), torch.tensor(shift[1:])))
    assert float((moved - exact).std() / exact.std()) < 0.02


def test_whole_pixels_roll_the_image_exactly() -> None:
    image = torch.randn(20, 31, generator=torch.Generator().manual_seed(3))
    moved = sharpened(resampled(image, torch.tensor([-4.0]), torch.tensor([7.0])))
    torch.testing.assert_close(moved, torch.roll(image, (-4, 7), dims=(0, 1)), rtol=0, atol=1e-4)


def test_a_stretching_shift_moves_a_blob_by_the_shift_at_its_place() -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = torch.exp(-((y - 30) ** 2 + (x - 60) ** 2) / 18)
    along = 0.02 * (torch.arange(96.0) - 60)
    moved = sharpened(resampled(blob, along + 1.5, along - 2.25))
    centre = torch.stack(((moved * y).sum(), (moved * x).sum())) / moved.sum()
    torch.testing.assert_close(centre, torch.tensor([31.5, 57.75]), rtol=0, atol=0.15)


def test_weights_of_taps_sum_to_one_and_balance_at_the_shift() -> None:
    shifts = torch.tensor([[0.0, 0.3, 2.9], [-5.5, -5.5, -5.5]])
    first, counts, weights = spline_taps(shifts, 2, 5)
    taps = first[:, None] + torch.arange(weights.shape[1])
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 5))
    torch.testing.assert_close((weights * taps[:, :, None]).sum(dim=1), -shifts.repeat_interleave(2, dim=1)[:, :5], rtol=0, atol=1e-5)
    assert counts == [7, 4]


@pytest.mark.parametrize(("start", "count"), [(2, 3), (-2, 4), (3, 4), (5, 17), (-13, 14)])
def test_rows_beyond_the_edges_are_those_a_period_away(start: int, count: int) -> None:
    image = torch.arange(14).reshape(7, 2)
    assert periodic_rows(image, start, count).tolist() == [image[row % 7].tolist() for row in range(start, start + count)]
