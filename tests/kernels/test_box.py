"""The origin stays the origin, whatever happens to the box."""

import pytest
import torch

from firn.kernels.box import crop_or_pad, mirror


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("side", [5, 6, 8, 9, 12, 13])
def test_the_origin_of_the_old_box_is_the_origin_of_the_new_one(n: int, side: int):
    volume = torch.zeros(n, n, n)
    volume[n // 2, n // 2 + 1, n // 2 - 2] = 1.0
    boxed = crop_or_pad(volume, side)
    assert boxed.shape == (side, side, side)
    assert boxed.sum() == boxed[side // 2, side // 2 + 1, side // 2 - 2] == 1


@pytest.mark.parametrize("n", [8, 9])
def test_padding_and_cutting_back_gives_the_same_map(n: int):
    volume = torch.randn(n, n, n, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(crop_or_pad(crop_or_pad(volume, 15), n), volume)


@pytest.mark.parametrize("n", [8, 9])
def test_mirroring_takes_z_to_minus_z_about_the_origin_and_twice_is_nothing(n: int):
    volume = torch.zeros(n, n, n)
    volume[n // 2 + 2, n // 2 + 1, n // 2] = 1.0
    assert mirror(volume)[n // 2 - 2, n // 2 + 1, n // 2] == 1
    noise = torch.randn(n, n, n, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mirror(mirror(noise)), noise)
    torch.testing.assert_close(mirror(noise)[n // 2], noise[n // 2])
