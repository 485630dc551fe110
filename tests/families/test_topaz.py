"""What is handed to Topaz: smaller micrographs whose pixels lie where they are said to, arguments, files without odd names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.families.topaz import Desk, make_smaller, whole_file
from firn.formats.mrc import read_mrc


@pytest.mark.parametrize(("shape", "factor"), [((96, 96), 4), ((101, 119), 4), ((90, 105), 3), ((77, 64), 1)])
def test_pixel_i_of_the_smaller_micrograph_is_pixel_i_times_the_factor(shape: tuple[int, int], factor: int) -> None:
    """Of a wave that is periodic in the whole blocks, every factor-th sample is the smaller micrograph."""
    height, width = (side // factor * factor for side in shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = np.cos(2 * np.pi * (2 * x / width - 3 * y / height) + 0.4) + 5
    smaller = make_smaller(torch.from_numpy(wave.astype(np.float32)), factor).numpy()
    np.testing.assert_allclose(smaller, wave[:height:factor, :width:factor], atol=1e-4)


def test_pixels_that_are_not_finite_become_the_mean_of_the_others() -> None:
    image = torch.ones(32, 32)
    image[3, 4], image[5, 6], image[7, 8] = torch.nan, torch.inf, 3.0
    smaller = make_smaller(image, 1)
    assert float(smaller[3, 4]) == float(smaller[5, 6]) == pytest.approx((32 * 32 - 3 + 3) / (32 * 32 - 2))


def test_too_large_a_factor_is_one_sentence() -> None:
    with pytest.raises(InputError, match="downsampling: 64 leaves next to nothing of a micrograph of 100 x 80 pixels"):
        make_smaller(torch.zeros(80, 100), 64)


@pytest.mark.parametrize(("device", "number"), [("cpu", "-1"), ("cuda:1", "1"), ("cuda", "0")])
def test_a_command_names_the_device_and_the_threads(device: str, number: str, tmp_path: Path) -> None:
    desk = Desk("/bin/topaz", tmp_path, torch.device(device), 3)
    expected = ["/bin/topaz", "extract", "--model=m.sav", f"--device={number}", "--num-threads=3", "a.mrc"]
    assert desk.command("extract", ["--model=m.sav"], ["a.mrc"]) == expected


def test_a_micrograph_is_written_with_the_pixel_size_that_it_has_then(tmp_path: Path) -> None:
    Desk("/bin/topaz", tmp_path, torch.device("cpu"), 1).put(7, np.ones((40, 50), dtype=np.float32), 1.5, 4)
    image, pixel_size = read_mrc(tmp_path / whole_file(7))
    assert image.shape == (10, 12)
    assert pixel_size == pytest.approx(6.0)
