"""The spectrum layout and what follows from it."""

import pytest
import torch

from firn.kernels import fourier

SIZES = [8, 9, 16, 15]


@pytest.mark.parametrize("n", SIZES)
def test_a_point_at_the_origin_has_a_flat_real_spectrum(n: int) -> None:
    image = torch.zeros(n, n)
    image[n // 2, n // 2] = 1
    torch.testing.assert_close(fourier.rfft2(image), torch.ones(n, n // 2 + 1, dtype=torch.complex64))


@pytest.mark.parametrize("shape", [(8, 9), (9, 8), (7, 7), (8, 8)])
def test_transforms_return_what_they_were_given(shape: tuple[int, int]) -> None:
    image = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fourier.irfft2(fourier.rfft2(image), shape), image)
    volume = torch.randn(shape[0], shape[1], 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fourier.irfft3(fourier.rfft3(volume), (shape[0], shape[1], 6)), volume)


@pytest.mark.parametrize("n", SIZES)
def test_hermitian_weights_make_half_sums_into_whole_sums(n: int) -> None:
    image = torch.randn(n, n, generator=torch.Generator().manual_seed(2))
    half = (fourier.rfft2(image).abs() ** 2 * fourier.hermitian_weights(n)).sum()
    torch.testing.assert_close(half, (image**2).sum() * n * n)


@pytest.mark.parametrize("n", [9, 15, 21])
def test_phases_move_an_image_towards_larger_indices(n: int) -> None:
    image = torch.randn(n, n, generator=torch.Generator().manual_seed(3))
    phases = fourier.shift_phases(fourier.frequencies2((n, n)), torch.tensor([[1.0, -2.0]]))
    moved = fourier.irfft2(fourier.rfft2(image) * phases[0], (n, n))
    torch.testing.assert_close(moved, torch.roll(image, (1, -2), (0, 1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(16, 8), (16, 9), (15, 8), (15, 9), (8, 16), (9, 16), (9, 15)])
def test_resizing_keeps_a_smooth_image_and_its_origin(old: int, new: int) -> None:
    def wave(n: int) -> torch.Tensor:
        y, x = torch.meshgrid((torch.arange(n) - n // 2) / n, (torch.arange(n) - n // 2) / n, indexing="ij")
        return 1.5 + torch.cos(2 * torch.pi * (x + 2 * y)) + torch.sin(2 * torch.pi * (2 * x - y))

    torch.testing.assert_close(fourier.resize_images(wave(old), (new, new)), wave(new), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(12, 8), (12, 9), (11, 8), (8, 12)])
def test_resizing_a_volume_keeps_a_smooth_map_and_its_origin(old: int, new: int) -> None:
    def wave(n: int) -> torch.Tensor:
        axis = (torch.arange(n) - n // 2) / n
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        return 0.5 + torch.cos(2 * torch.pi * (x + 2 * y - z)) + torch.sin(2 * torch.pi * (2 * z + x))

    torch.testing.assert_close(fourier.resize_volumes(wave(old), new), wave(new), atol=1e-5, rtol=0)


def test_fast_sizes_are_even_and_smooth() -> None:
    assert [fourier.fast_size(n) for n in (1, 7, 97, 121, 4092)] == [2, 8, 100, 128, 4096]


@pytest.mark.parametrize(("side", "n"), [(12, 6), (13, 6), (13, 7), (12, 12)])
def test_the_centre_of_an_inverse_transform_is_the_cube_cut_from_all_of_it(side: int, n: int) -> None:
    volume = torch.randn(side, side, side, generator=torch.Generator().manual_seed(4))
    start = side // 2 - n // 2
    cut = volume[start : start + n, start : start + n, start : start + n]
    assert torch.allclose(fourier.irfft3_centre(fourier.rfft3(volume), side, n), cut, atol=1e-5)
